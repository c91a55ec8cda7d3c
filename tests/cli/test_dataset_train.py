import json
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import write_scene

from carfix.cli import main
from carfix.cli.values import integers, rates, size_pair, split_name, words
from carfix.errors import UsageError
from carfix.net.checkpoint import read_description


def carfix(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "carfix", *map(str, arguments)], capture_output=True, text=True, timeout=240
    )


def test_from_clips_to_weights_to_a_restored_video(tmp_path: Path) -> None:
    """What a researcher does on the first day, by the commands that the README gives."""
    write_scene(tmp_path / "a.mkv", 6, 1)
    write_scene(tmp_path / "b.mkv", 6, 2)
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    data = tmp_path / "data"
    options = ["--crf", "40", "--maxrate", "none", "-j", "1"]
    built = carfix("dataset", tmp_path / "a.mkv", tmp_path / "broken.mp4", data, *options, "--split", "train")
    assert built.returncode == 1
    assert "broken.mp4" in built.stderr
    assert "Traceback" not in built.stderr
    assert carfix("dataset", tmp_path / "b.mkv", data, *options, "--split", "val").returncode == 0
    assert set(json.loads((data / "manifest.json").read_text())["clips"]) == {"a", "b"}

    shorter = carfix("dataset", tmp_path / "b.mkv", data, *options, "--split", "val", "--frames", 5)
    assert "variants of" not in shorter.stderr, "the same variants, made anew"
    again = [tmp_path / "b.mkv", data, "--crf", "45", "--maxrate", "none", "-j", "1", "--split", "val"]
    assert "1 variants of 1 clips were removed" in carfix("dataset", *again).stderr
    assert carfix("dataset", tmp_path / "b.mkv", data, *options, "--split", "val").returncode == 0

    network = ["--arch", "fast", "--scale", "2", "--features", "8", "--blocks", "1", "--device", "cpu"]
    short = ["--steps", "4", "--batch", "2", "--patch", "32", "--validate-every", "2"]
    begun = carfix("train", data, *network, *short, "-o", tmp_path / "begun", "--minutes", "1e-9")
    assert begun.returncode == 0, begun.stderr
    assert "stopped at step 1 of 4, no validation yet; the same command goes on from here" in begun.stderr
    assert not list((tmp_path / "begun").glob("*.safetensors"))
    named = ["--name", "mine.safetensors", "--licence", "CC-BY-4.0"]
    trained = carfix("train", data, *network, *short, "-o", tmp_path / "run", *named)
    assert trained.returncode == 0, trained.stderr
    assert "in SSIM; weights in" in trained.stderr  # the default loss is about both
    weights = tmp_path / "run" / "mine.safetensors"

    assert read_description(weights).licence == "CC-BY-4.0"
    assert read_description(weights).name == "mine"

    restored = carfix("restore", "-m", weights, "--device", "cpu", tmp_path / "a.mkv", tmp_path / "out.mkv")
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "out.mkv").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words_of_error"),
    [
        (["dataset", "only-one"], 2, "at least one source"),
        (["dataset", "missing.mp4", "data"], 1, "missing.mp4"),
        (["dataset", "missing.mp4", "data", "--size", "big"], 2, "size"),
        (["dataset", "missing.mp4", "data", "--crf", "x"], 2, "--crf"),
        (["dataset", "missing.mp4", "data", "--maxrate", "fast"], 2, "--maxrate"),
        (["dataset", "missing.mp4", "data", "--no-grid"], 2, "encoding"),
        (["dataset", "missing.mp4", "data", "--crf", "-5"], 2, "0 to 51"),
        (["dataset", "missing.mp4", "data", "--preset", "hasty"], 2, "hasty"),
        (["dataset", ".", "."], 2, "lies"),
        (["train", "nowhere"], 1, "nowhere"),
        (["train", "nowhere", "--lr", "nan"], 2, "--lr"),
        (["train", "nowhere", "--features", "100000"], 2, "100000"),
        (["train", "nowhere", "--minutes", "0"], 2, "--minutes"),
        (["train", "nowhere", "--name", "../x"], 2, "--name"),
        (["train", "nowhere", "--arch", "vgg"], 2, "vgg"),
        (["train", "nowhere", "--loss", "l1"], 2, "l1"),
        (["train", "nowhere", "--scale", "2", "--features", "32"], 2, "--arch fast"),
        (["train", "nowhere", "--teacher-share", "0.9"], 2, "--teacher"),
        (["train", "nowhere", "--detector-weight", "2"], 2, "--detector"),
        (["train", "nowhere", "--init", "missing.safetensors"], 1, "missing.safetensors"),
        (["train", "nowhere", "--init", "missing"], 1, "installed are"),
        # A name is found, as its other architecture shows.
        (["train", "nowhere", "--init", "fast"], 2, "another architecture"),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    arguments: list[str],
    code: int,
    words_of_error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["carfix", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == code, said.err
    assert words_of_error in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


@pytest.mark.parametrize("command", ["restore", "compare", "models", "dataset", "train", "evaluate"])
def test_help_reads_well(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["carfix", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "Examples" in said
    assert f"carfix {command}" in said


def test_values_are_spelled_as_ffmpeg_does() -> None:
    assert words("a, b,,c") == ["a", "b", "c"]
    assert integers("29,35", "--crf") == [29, 35]
    assert rates("2M,1500k,1.5m,800000,none", "--maxrate") == [2_000_000, 1_500_000, 1_500_000, 800_000, None]
    assert size_pair("910x512") == (910, 512)
    assert size_pair("640:-2") == (640, -2)
    assert split_name("auto") is None
    for wrong in ("0x0", "-2x-2", "12", "1920x", "8x-2"):
        with pytest.raises(UsageError):
            size_pair(wrong)
    with pytest.raises(UsageError):
        rates("0k", "--maxrate")
