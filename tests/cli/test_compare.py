import json
from pathlib import Path

import pytest
import typer
from quality.clips import moving_picture, write_clip, write_model
from typer.testing import CliRunner

from carfix.cli import compare
from carfix.errors import CarfixError, MissingPartError, UsageError

app = typer.Typer()
app.callback()(lambda: None)
compare.register(app)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    planes = moving_picture(4)
    reference = write_clip(folder / "reference.mkv", planes, codec="ffv1")
    return reference, write_clip(folder / "camera.mp4", planes, options={"crf": "40", "threads": "1"})


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["compare", *(str(argument) for argument in arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def names(*arguments: object) -> list[str]:
    return [candidate["name"] for candidate in json.loads(run(*arguments, "--json"))["candidates"]]


def test_the_table_is_on_stdout(clips: tuple[Path, Path]) -> None:
    output = run(*clips)
    assert "camera.mp4" in output and "PSNR" in output and "SSIM" in output


def test_each_option_adds_its_candidate(clips: tuple[Path, Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.safetensors")
    rest = ("--uspp", "--fspp", "--model", model, "--device", "cpu")
    assert names(*clips, "--spp", *rest) == [
        "camera.mp4",
        *(f"camera.mp4 + {name}" for name in ("spp", "fspp", "uspp", "tiny")),
    ]
    assert names(*clips, "--spp-qp", 8)[1:] == ["camera.mp4 + spp-qp8"]
    assert names(*clips, "--uspp", "--spp-qp", 8)[1:] == ["camera.mp4 + uspp-qp8"]
    assert names(*clips, "--spp-best")[1].startswith("camera.mp4 + spp-best (qp ")


def test_csv_has_a_row_a_frame(clips: tuple[Path, Path]) -> None:
    assert len(run(*clips, "--csv", "--frames", 3).splitlines()) == 4


def test_errors_and_their_exit_codes(clips: tuple[Path, Path], tmp_path: Path) -> None:
    cases = [
        (UsageError, 2, "--metric takes", ("--metric", "mos")),
        (UsageError, 2, "take one of them", ("--json", "--csv")),
        (UsageError, 2, "quality of 0 to 6", ("--spp", "--spp-quality", "9")),
        (CarfixError, 1, "no model called", ("--model", "nosuch")),
    ]
    for kind, code, text, arguments in cases:
        with pytest.raises(kind, match=text) as error:
            run(*clips, *arguments)
        assert error.value.exit_code == code
    mjpeg = write_clip(tmp_path / "m.avi", moving_picture(4), codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(MissingPartError, match="--spp-qp 8"):
        run(clips[0], mjpeg, "--spp")


def test_without_a_reference_every_file_is_a_candidate(clips: tuple[Path, Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.safetensors")
    rest = ("--no-reference", "--model", model, "--device", "cpu")
    document = json.loads(run(*clips, *rest, "--json"))
    assert [candidate["name"] for candidate in document["candidates"]] == ["reference.mkv", "camera.mp4"]
    page = tmp_path / "page.html"
    assert "camera.mp4" in run(clips[1], *rest, "--html", page)
    assert "no reference" in page.read_text()
    with pytest.raises(UsageError, match="with --html one file"):
        run(*clips, *rest, "--html", page)
    with pytest.raises(UsageError, match="needs a reference and a candidate"):
        run(clips[0])


def test_html_writes_a_page_beside_the_table(clips: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert "camera.mp4" in run(*clips, "--html", page)
    assert "<!doctype html>" in page.read_text()
