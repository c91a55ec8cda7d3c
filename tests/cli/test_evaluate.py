import json
from pathlib import Path

import pytest
import typer
from quality.clips import write_dataset, write_model
from typer.testing import CliRunner

from carfix.cli import evaluate
from carfix.errors import CarfixError, UsageError

app = typer.Typer()
app.callback()(lambda: None)
evaluate.register(app)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), clips=1, crfs=(35,))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["evaluate", *(str(argument) for argument in arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_of_a_network_beside_its_rivals(dataset: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.safetensors")
    document = json.loads(run(dataset, "-m", path, "--device", "cpu", "--frames", 3, "--json"))
    assert list(document["methods"]) == ["decoded", "spp", "spp-best", "tiny"]
    # An untrained network changes nothing.
    assert document["methods"]["tiny"]["gain"]["decoded"]["psnr"] == pytest.approx(0, abs=1e-6)
    assert document["methods"]["tiny"]["variants"]["crf35-none"]["frames"] == 3


def test_networks_that_call_themselves_alike(dataset: Path, tmp_path: Path) -> None:
    paths = [write_model(tmp_path / f"{number}.safetensors", bias=number / 10) for number in range(2)]
    rest = ("--no-spp", "--device", "cpu", "--no-cache", "--json")
    networks = [argument for path in (*paths, paths[0]) for argument in ("-m", path)]
    assert list(json.loads(run(dataset, *rest, *networks))["methods"]) == ["decoded", *map(str, paths)]
    taken = write_model(tmp_path / "x.safetensors", "spp")
    with pytest.raises(CarfixError, match="called 'spp', as a row of the tables is"):
        run(dataset, "-m", taken, "--device", "cpu")


def test_forms_of_output(dataset: Path) -> None:
    rest = ("-m", "none", "--no-spp")
    assert "decoded" in run(dataset, *rest)
    assert "at most 100 frames each" in run(dataset, *rest, "--frames", 100, "--markdown")
    assert run(dataset, *rest, "--csv").splitlines()[1].startswith("decoded,crf35-none,clip0,5,")
    assert "| decoded |" in run(dataset, *rest, "--markdown")


def test_usage_errors(dataset: Path) -> None:
    with pytest.raises(UsageError, match="take one of them"):
        run(dataset, "--json", "--csv")
    with pytest.raises(UsageError, match="--split is"):
        run(dataset, "--split", "validation")
    with pytest.raises(UsageError, match="quality of 0 to 6"):
        run(dataset, "-m", "none", "--spp-quality", 9)
    with pytest.raises(UsageError, match="--device is auto, cpu"):
        run(dataset, "-m", "none", "--device", "foo")
    with pytest.raises(UsageError, match="--precision is one of"):
        run(dataset, "-m", "none", "--precision", "foo")
