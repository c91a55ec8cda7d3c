import json
import os
import shutil
import sys
from pathlib import Path

import av
import media
import numpy as np
import pytest
import typer
from quality.clips import damage_packets, write_clip, write_model
from quality.detection.detectors import write_detector
from typer.testing import CliRunner

from carfix.cli import detect
from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.quality.methods import Restored
from carfix.quality.reader import read_frames

pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra detect is not installed")

app = typer.Typer()
app.callback()(lambda: None)
detect.register(app)

FRAMES = 3
#: Codes that the network adds to every pixel, and how much surer that makes the detector: codes of the limited range.
STEP = 20
SURER = STEP / 219


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detect")
    # Black with two gray blocks, each one cell of the detector, in frames of odd times.
    planes = np.full((FRAMES, 64, 96), 16, np.uint8)
    planes[:, 16:24, 32:40] = 180
    planes[:, 40:48, 64:72] = 100
    lossless = {"codec": "libx264", "options": {"qp": "0"}, "times": (40, 100, 130)}
    pristine = planes.copy()
    pristine[:, 16:24, 32:40] = 200  # the one object that is sure enough to be true
    return {
        "clip": write_clip(folder / "in.mp4", planes, **lossless),  # type: ignore[arg-type]
        "pristine": write_clip(folder / "pristine.mp4", pristine, **lossless),  # type: ignore[arg-type]
        "short": write_clip(folder / "short.mp4", planes[:2], **{**lossless, "times": (40, 100)}),  # type: ignore[arg-type]
        "detector": write_detector(folder / "d.onnx"),
        "model": write_model(folder / "lift.safetensors", "lift", bias=STEP * 2 / 255),
    }


def run(files: dict[str, Path], *arguments: object) -> str:
    rest = ("--detector", files["detector"], "-m", files["model"], "--device", "cpu", "--precision", "fp32")
    result = CliRunner().invoke(
        app, ["detect", *(str(argument) for argument in (*arguments, *rest))], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_counts_before_and_after(files: dict[str, Path]) -> None:
    document = json.loads(run(files, files["clip"], "--score", 0.4, "--json"))
    assert document["frames"] == FRAMES and document["model"] == "lift"
    assert document["output"] is None and "reference" not in document
    before, after = document["before"], document["after"]
    # 180 is (180 - 16) / 219 = 0.75 sure, 100 is 0.38: with 20 codes more it is shown.
    assert before["detections"] == FRAMES and after["detections"] == 2 * FRAMES
    assert before["classes"] == {"person": {"detections": FRAMES, "mean_score": before["mean_score"]}}
    assert before["mean_score"] == pytest.approx(164 / 219, abs=0.01)
    assert after["mean_score"] == pytest.approx((164 + 84) / 2 / 219 + SURER, abs=0.015)


def test_the_video_shows_both_sides_at_the_times_of_the_clip(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    table = run(files, files["clip"], output, "--score", 0.3)
    assert "person" in table and "lift" in table and "0.563" in table
    assert list(tmp_path.iterdir()) == [output]
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = list(container.decode(stream))
    assert [(frame.width, frame.height) for frame in frames] == [(192, 64)] * FRAMES
    assert [round(1000 * (frame.time or 0)) for frame in frames] == [0, 60, 90]
    luma = frames[0].reformat(format="gray").to_ndarray().astype(int)
    left, right = luma[:, :96], luma[:, 96:]
    # The decoded block and the restored one, inside of their boxes; the ground outside of any.
    assert right[18:22, 34:38].mean() - left[18:22, 34:38].mean() == pytest.approx(255 * SURER, abs=6)
    assert right[52:60, 8:24].mean() - left[52:60, 8:24].mean() > 10
    # The box is drawn around the block.
    assert abs(left[16:24, 32] - left[16:24, 28]).mean() > 10


def test_an_avi_shows_its_frames_in_their_order(files: dict[str, Path], tmp_path: Path) -> None:
    # A block that moves, which x264 would describe by B-frames, and that tells the frames apart.
    planes = np.full((12, 64, 96), 16, np.uint8)
    for index, plane in enumerate(planes):
        plane[20:40, 4 * index : 4 * index + 20] = 180
    clip = write_clip(tmp_path / "moving.mp4", planes, options={"qp": "0"})
    output = tmp_path / "out.avi"
    run(files, clip, output, "--score", 1)  # no boxes
    # AVI has a time for each packet alone: the one at which its frame is decoded.
    with av.open(str(output)) as container:
        (stream,) = container.streams.video
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [round(25 * packet.dts * packet.time_base) for packet in packets] == list(range(12))  # type: ignore[operator]
    frames = list(read_frames(output))
    assert {frame.kind for frame in frames} == {"I", "P"}
    shown = [frame.luma[30, :96] > 90 for frame in frames]
    assert [int(np.flatnonzero(row)[0]) for row in shown] == pytest.approx([4 * i for i in range(12)], abs=2)


def test_damage_is_passed_over_and_told(files: dict[str, Path], tmp_path: Path) -> None:
    planes = np.full((8, 64, 96), 16, np.uint8)
    planes[:, 16:24, 32:40] = 180
    whole = write_clip(tmp_path / "whole.mp4", planes, options={"g": "1", "crf": "10"})
    hurt = damage_packets(tmp_path / "hurt.mp4", whole, [3])
    rest = ("--detector", files["detector"], "-m", files["model"], "--device", "cpu", "--reference", hurt)
    result = CliRunner().invoke(app, ["detect", str(hurt), *map(str, rest), "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert document["frames"] == 7
    assert document["damaged_packets"] == document["reference"]["damaged_packets"] == 1
    assert "hurt.mp4: 1 damaged packet could not be decoded" in result.stderr


def test_names_are_shown_letter_by_letter(files: dict[str, Path], tmp_path: Path) -> None:
    clip = shutil.copy(files["clip"], tmp_path / "[red]x:smile:[.mp4")
    assert "[red]x:smile:[.mp4: 3 frames" in run(files, clip)


def test_agreement_with_a_reference(files: dict[str, Path]) -> None:
    document = json.loads(run(files, files["clip"], "--reference", files["pristine"], "--json"))
    assert document["reference"]["truths"] == FRAMES
    # The true object is the surest finding on both sides.
    assert document["before"]["map50"] == pytest.approx(1) and document["after"]["map"] == pytest.approx(1)
    assert "mAP@[.5:.95]" in run(files, files["clip"], "--reference", files["pristine"])
    with pytest.raises(CarfixError, match=r"short\.mp4.*2.*both must show frames at the same times"):
        run(files, files["clip"], "--reference", files["short"])
    document = json.loads(run(files, files["clip"], "--reference", files["short"], "--frames", 2, "--json"))
    assert document["frames"] == 2


def test_a_reference_of_another_size_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mp4", np.full((FRAMES, 32, 48), 16, np.uint8), times=(40, 100, 130))
    with pytest.raises(CarfixError, match=r"is 96x64 and the reference .* 48x32"):
        run(files, files["clip"], tmp_path / "out.mp4", "--reference", small)
    assert not (tmp_path / "out.mp4").exists() and len(list(tmp_path.iterdir())) == 1


def test_outputs_are_never_replaced_unasked_or_left_half_written(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    output.write_text("mine")
    with pytest.raises(CarfixError, match="-y overwrites"):
        run(files, files["clip"], output)
    with pytest.raises(CarfixError, match="is the input"):
        run(files, files["clip"], files["clip"], "-y")
    with pytest.raises(CarfixError, match="there is no folder"):
        run(files, files["clip"], tmp_path / "nowhere/out.mp4")
    with monkeypatch.context() as patched:
        patched.setattr(Restored, "frames", lambda *_, **__: pytest.fail("began"))
        # A playlist would be one of the temporary file, beside it.
        for name in ("out.nonsense", "out.m3u8", "out.webm", "-"):
            with pytest.raises(UsageError, match=rf"'{name}' names no container of libx264"):
                run(files, files["clip"], tmp_path / name)
        if sys.platform != "win32":
            os.mkfifo(tmp_path / "pipe.mp4")
            with pytest.raises(CarfixError, match="is a device or a pipe"):
                run(files, files["clip"], tmp_path / "pipe.mp4", "-y")
            (tmp_path / "pipe.mp4").unlink()

    def failing(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise CarfixError("broken on the way")
        return real(*arguments)  # type: ignore[no-any-return, arg-type]

    calls: list[object] = []
    from carfix.quality.detection.side_by_side import SideBySide

    real = SideBySide.write
    monkeypatch.setattr(SideBySide, "write", failing)
    with pytest.raises(CarfixError, match="broken on the way"):
        run(files, files["clip"], output, "-y")
    assert output.read_text() == "mine" and list(tmp_path.iterdir()) == [output]
    monkeypatch.setattr(SideBySide, "write", real)
    run(files, files["clip"], output, "-y")
    assert output.read_bytes()[4:8] == b"ftyp"


def test_a_name_as_long_as_names_may_be(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / f"{'x' * 251}.mp4"
    run(files, files["clip"], output, "--frames", 1)
    assert list(tmp_path.iterdir()) == [output]


def test_another_of_several_videos(files: dict[str, Path], tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", np.full((FRAMES, 96, 128), 16, np.uint8), times=(40, 100, 130))
    both = media.remux(files["clip"], tmp_path / "both.mp4", extra=large)
    output, reference = tmp_path / "out.mp4", files["pristine"]
    chosen = ("--stream", "v:0", "--json")
    document = json.loads(run(files, both, output, *chosen, "--reference", reference))
    assert document["stream"] == 0 and document["reference"]["truths"] == FRAMES
    alone = json.loads(run(files, files["clip"], "--reference", reference, "--json"))
    assert all(document[side] == alone[side] for side in ("before", "after"))
    with av.open(str(output)) as container:
        assert container.streams.video[0].width == 2 * 96
    # Against itself, the same video of both.
    assert json.loads(run(files, both, *chosen, "--reference", both))["frames"] == FRAMES
    rest = ("--detector", files["detector"], "-m", files["model"], "--device", "cpu")
    result = CliRunner().invoke(app, ["detect", *map(str, (both, *rest))])
    assert "both.mp4: of its 2 videos, stream 1 is looked at; --stream takes another" in result.stderr
    with pytest.raises(CarfixError, match=r"--stream 2: .* has no such stream"):
        run(files, both, "--stream", "2")
    with pytest.raises(UsageError, match="--stream takes"):
        run(files, both, "--stream", "video")


def test_usage_and_missing_parts(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--score is"):
        run(files, files["clip"], "--score", 1.5)
    with pytest.raises(CarfixError, match="no such file"):
        run(files, tmp_path / "missing.mp4")
    rest = ["--detector", str(files["detector"]), "-m", str(files["model"])]
    for option, text in (("--device", "--device is auto"), ("--precision", "--precision is one of")):
        with pytest.raises(UsageError, match=text):
            CliRunner().invoke(
                app, ["detect", str(files["clip"]), *rest, option, "foo"], catch_exceptions=False
            )
    assert CliRunner().invoke(app, ["detect", str(files["clip"])]).exit_code == 2
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPartError, match="pip install"):
        run(files, files["clip"])
