import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import typer
from quality.clips import moving_picture, write_clip, write_model
from typer.testing import CliRunner

from carfix.cli import compare
from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.quality import compare as library

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


def test_each_network_is_measured_once_under_a_name_of_its_own(
    clips: tuple[Path, Path], tmp_path: Path
) -> None:
    """Checkpoints of two trainings may call themselves alike."""
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_model(first)
    write_model(second, bias=0.1)
    rest = ("--device", "cpu", "-m", first)
    assert names(*clips, *rest, "-m", first) == ["camera.mp4", "camera.mp4 + tiny"]
    assert names(*clips, *rest, "-m", second)[1:] == [f"camera.mp4 + {path}" for path in (first, second)]


def test_csv_has_a_row_a_frame(clips: tuple[Path, Path]) -> None:
    assert len(run(*clips, "--csv", "--frames", 3).splitlines()) == 4


def test_errors_and_their_exit_codes(clips: tuple[Path, Path], tmp_path: Path) -> None:
    cases = [
        (UsageError, 2, "--metric takes", ("--metric", "mos")),
        (UsageError, 2, "take one of them", ("--json", "--csv")),
        (UsageError, 2, "quality of 0 to 6", ("--spp", "--spp-quality", "9")),
        (UsageError, 2, "is for a filter: add --spp", ("--spp-quality", "3")),
        (CarfixError, 1, "no model called", ("--model", "nosuch")),
        (UsageError, 2, "--device is auto, cpu", ("--device", "foo")),
        (UsageError, 2, "--precision is one of", ("--precision", "foo")),
        (UsageError, 2, "not to stdout", ("--html", "-")),
    ]
    for kind, code, text, arguments in cases:
        with pytest.raises(kind, match=text) as error:
            run(*clips, *arguments)
        assert error.value.exit_code == code
    mjpeg = write_clip(tmp_path / "m.avi", moving_picture(4), codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(CarfixError, match="--spp-qp 8") as error:
        run(clips[0], mjpeg, "--spp")
    assert error.value.exit_code == 1


def test_without_a_reference_every_file_is_a_candidate(clips: tuple[Path, Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.safetensors")
    rest = ("--no-reference", "--model", model, "--device", "cpu")
    document = json.loads(run(*clips, *rest, "--json"))
    assert [candidate["name"] for candidate in document["candidates"]] == ["reference.mkv", "camera.mp4"]
    page = tmp_path / "page.html"
    assert "camera.mp4" in run(clips[1], *rest, "--html", page)
    assert "no reference" in page.read_text()
    missing = CliRunner().invoke(app, ["compare", *map(str, (tmp_path / "none.mp4", clips[1], *rest))])
    assert missing.exit_code == 1 and "camera.mp4" in missing.stdout
    with pytest.raises(UsageError, match="and --html with one file"):
        run(*clips, *rest, "--html", page)
    with pytest.raises(UsageError, match="leave --metric, --spp, --scale out"):
        run(*clips, *rest, "--metric", "vmaf", "--spp", "--scale")
    with pytest.raises(UsageError, match="needs a reference and a candidate"):
        run(clips[0])


def test_html_writes_a_page_beside_the_table(clips: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert "camera.mp4" in run(*clips, "--html", page)
    assert "<!doctype html>" in page.read_text()


def test_a_device_that_is_not_there_is_a_missing_part(
    clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MissingPartError, match="no CUDA device"):
        run(*clips, "--device", "cuda")


def test_a_page_never_takes_the_place_of_a_video(
    clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is known before anything is measured."""
    monkeypatch.setattr(library, "compare_videos", lambda **_: pytest.fail("measured"))
    reference, camera = (Path(shutil.copy(clip, tmp_path)) for clip in clips)
    other = Path(shutil.copy(camera, tmp_path / "other.mp4"))
    linked = tmp_path / "linked.html"
    linked.hardlink_to(camera)
    before = camera.read_bytes()
    for page, text in (
        (camera, "is the input"),
        (reference, "is the input"),
        (linked, "is the input"),
        (other, "is no page"),  # a forgotten name: compare ref a.mp4 --html b.mp4
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere/page.html", "there is no folder"),
    ):
        with pytest.raises(CarfixError, match=text) as error:
            run(reference, camera, "--html", page)
        assert error.value.exit_code == 1
    with pytest.raises(CarfixError, match="is the input"):
        run("--no-reference", camera, "--html", camera)
    assert camera.read_bytes() == other.read_bytes() == before


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_the_numbers(
    clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "report.HTM"
    page.write_text("the last one")

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        result = CliRunner().invoke(app, ["compare", *map(str, clips), "--html", str(page)])
        assert str(result.exception) == f"cannot write {page}: the disk is full"
        assert "PSNR" in result.stdout
    assert page.read_text() == "the last one" and list(tmp_path.iterdir()) == [page]
    run(*clips, "--html", page)
    assert "<!doctype html>" in page.read_text() and list(tmp_path.iterdir()) == [page]


def test_names_are_shown_letter_by_letter(
    clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # names are long, and must not be folded
    folder = tmp_path / "a["
    folder.mkdir()
    reference = Path(shutil.copy(clips[0], tmp_path / "[b].mkv"))
    # Two of one name are shown with their folders.
    names_ = ("[red]x:smile:.mp4", "a[/b].mp4", "b].mp4")
    cameras = [shutil.copy(clips[1], tmp_path / name) for name in names_]
    output = run(reference, *cameras)
    assert all(name in output for name in (*names_, "against [b].mkv"))
    model = write_model(tmp_path / "tiny.safetensors")
    output = run("--no-reference", *cameras, "--model", model, "--device", "cpu")
    assert all(Path(name).name in output for name in names_)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are always text")
def test_names_that_are_no_text_can_be_shown(clips: tuple[Path, Path], tmp_path: Path) -> None:
    camera = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    shutil.copy(clips[1], camera)
    page = tmp_path / "page.html"
    assert "caf?.mp4" in run(clips[0], camera, "--html", page)
    assert "caf?.mp4" in page.read_text(encoding="utf-8")
    model = ("--model", write_model(tmp_path / "tiny.safetensors"), "--device", "cpu")
    assert "caf?.mp4" in run("--no-reference", camera, "--html", page, *model)
    assert "caf?.mp4" in page.read_text(encoding="utf-8")
    assert "caf?.mp4" in run(clips[0], camera, "--csv")
    # JSON keeps the bytes, as Python writes them into text.
    (candidate,) = json.loads(run(clips[0], camera, "--json"))["candidates"]
    assert candidate["path"] == str(camera)
