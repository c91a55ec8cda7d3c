"""Files of several videos: the one that is asked for is measured, by every method and on every page."""

import json
import re
from pathlib import Path

import media
import numpy as np
import pytest
import typer
from quality.clips import moving_picture, write_clip, write_model
from typer.testing import CliRunner

from carfix.cli import compare, inspect
from carfix.errors import CarfixError, UsageError
from carfix.quality.chosen import choose, choose_alike
from carfix.quality.compare import compare_videos
from carfix.quality.compare_tables import comparison_json, notes
from carfix.quality.inspect import inspect_file
from carfix.quality.methods import Decoded, Filtered, open_restored
from carfix.quality.noreference import assess_video, assessment_notes, assessments_json
from carfix.quality.report.noreference import write_noreference_report
from carfix.quality.report.page import write_report
from carfix.quality.report.pictures import moments, pictures
from carfix.quality.spp import PostFilter

X264 = {"threads": "1", "g": "4"}
FRAMES = 6

app = typer.Typer()
app.callback()(lambda: None)
compare.register(app)
inspect.register(app)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recorder's file of a small and a large video, pristine and compressed, and its parts."""
    folder = tmp_path_factory.mktemp("several")
    small, large = moving_picture(FRAMES), moving_picture(FRAMES, 128, 96, seed=1)
    pristine = [
        write_clip(folder / f"p{number}.mkv", planes, options={"qp": "0", **X264})
        for number, planes in enumerate((small, large))
    ]
    camera = [
        write_clip(folder / f"c{number}.mp4", planes, options={"crf": crf, **X264})
        for number, (planes, crf) in enumerate(((small, "45"), (large, "25")))
    ]
    return {
        "pristine small": pristine[0],
        "pristine": media.remux(pristine[0], folder / "pristine.mkv", extra=pristine[1]),
        "small": camera[0],
        "large": camera[1],
        "camera": media.remux(camera[0], folder / "camera.mkv", extra=camera[1]),
    }


def ran(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, CarfixError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_a_choice(files: dict[str, Path]) -> None:
    usual = choose(files["camera"], None)
    assert (usual.stream, usual.videos) == (1, 2)
    assert usual.note() == "camera.mkv: of its 2 videos, stream 1 is looked at; --stream takes another"
    asked = choose(files["camera"], "v:0")
    assert asked.stream == 0 and not asked.note()
    assert not choose(files["small"], None).note()
    with pytest.raises(CarfixError, match=r"--stream 2: .* has no such stream; its videos are 0 .* and 1"):
        choose(files["camera"], "2")
    with pytest.raises(UsageError, match="not 'a:0'"):
        choose(files["camera"], "a:0")


def test_a_file_of_a_single_video_takes_part_whatever_is_asked_for(files: dict[str, Path]) -> None:
    found = choose_alike([files["small"], files["camera"]], "1")
    assert [chosen.stream for chosen in found.values()] == [0, 1]
    # But somebody must have it.
    assert choose_alike([files["small"], files["large"]], "0")[files["large"]].stream == 0
    with pytest.raises(CarfixError, match="no such stream"):
        choose_alike([files["small"], files["large"]], "1")


@pytest.mark.parametrize("place", [0, 1])
def test_every_method_shows_the_video_that_is_asked_for(
    files: dict[str, Path], tmp_path: Path, place: int
) -> None:
    alone = files["large" if place else "small"]
    network = open_restored(str(write_model(tmp_path / "m.safetensors", bias=0.05)), device="cpu")
    for method in (Decoded(quantizers=True), Filtered(PostFilter(quantizer=8)), network):
        both, one = (
            [frame.luma for frame in method.frames(path, stream=stream)]
            for path, stream in ((files["camera"], place), (alone, None))
        )
        assert np.array_equal(both, one), method.name
    network.close()


def test_comparing_the_smaller_of_two(files: dict[str, Path], tmp_path: Path) -> None:
    expected = compare_videos(reference=files["pristine small"], candidates=[files["small"]]).results[0]
    rest = {"candidates": [files["camera"], files["small"]], "stream": 0, "spp_best": PostFilter()}
    for reference in (files["pristine"], files["pristine small"]):
        found = compare_videos(reference=reference, methods=[Filtered(PostFilter(quantizer=8))], **rest)  # type: ignore[arg-type]
        decoded = [result for result in found.results if result.candidate.method.name == "decoded"]
        for result in decoded:
            assert np.array_equal(result.quality.psnr, expected.quality.psnr)
            assert result.quantizers == expected.quantizers
        best = [result.quality.psnr for result in found.results if "spp-best" in result.name]
        assert np.array_equal(*best)
        document = comparison_json(found)
        assert document["reference"]["stream"] == 0
        assert [each["stream"] for each in document["candidates"]] == [0] * 6
        assert not any("--stream" in line for line in notes(found))
    # The page decodes once more.
    shown = pictures(found, moments(found))
    alone = compare_videos(reference=files["pristine small"], candidates=[files["small"]])
    assert {row[1] for row in shown.uris} <= {row[1] for row in pictures(alone, moments(alone)).uris}
    write_report(tmp_path / "page.html", found, ["psnr"])


def test_without_a_choice_the_larger_is_compared_and_that_is_told(files: dict[str, Path]) -> None:
    found = compare_videos(reference=files["pristine"], candidates=[files["camera"]])
    assert (found.reference.width, comparison_json(found)["candidates"][0]["stream"]) == (128, 1)
    assert notes(found)[:2] == [
        f"{name}: of its 2 videos, stream 1 is looked at; --stream takes another"
        for name in ("pristine.mkv", "camera.mkv")
    ]


def test_inspecting_either(files: dict[str, Path]) -> None:
    for place, name in enumerate(("small", "large")):
        alone, found = inspect_file(files[name]), inspect_file(files["camera"], stream=f"v:{place}")
        assert (found.width, found.mean_quantizer, found.frames) == (
            alone.width,
            alone.mean_quantizer,
            FRAMES,
        )
        assert found.to_json()["stream"] == place and "chosen" not in found.to_json()
        # Matroska states no bit rates: the other video's bits are not taken for this one's.
        assert alone.bits_per_pixel is not None
        assert found.bits_per_pixel == pytest.approx(alone.bits_per_pixel, rel=0.35)
    assert inspect_file(files["camera"]).chosen.note()


def test_without_a_reference(files: dict[str, Path], tmp_path: Path) -> None:
    model = open_restored(str(write_model(tmp_path / "m.safetensors")), device="cpu")
    alone, found = assess_video(files["small"], model), assess_video(files["camera"], model, stream="0")
    assert found.quantizers == alone.quantizers and np.array_equal(found.blockiness, alone.blockiness)
    assert np.array_equal(found.restored_blockiness, alone.restored_blockiness)
    assert assessments_json([found])["candidates"][0]["stream"] == 0
    pages = [tmp_path / "alone.html", tmp_path / "found.html"]
    for page, assessment in zip(pages, (alone, found), strict=True):
        write_noreference_report(page, assessment)
    shown = [set(re.findall(r"data:image/webp[^\"]+", page.read_text(encoding="utf-8"))) for page in pages]
    assert shown[0] and shown[0] == shown[1]
    assert not assessment_notes(found) and assessment_notes(assess_video(files["camera"], model))
    model.close()


def test_the_option_of_the_commands(files: dict[str, Path], tmp_path: Path) -> None:
    model = ("--model", write_model(tmp_path / "m.safetensors"), "--device", "cpu")
    pristine, camera = files["pristine"], files["camera"]
    code, out, _ = ran("compare", pristine, camera, "--stream", "v:0", "--json")
    assert code == 0 and json.loads(out)["reference"]["width"] == 96
    page = tmp_path / "page.html"
    code, out, _ = ran("compare", "--no-reference", camera, "--stream", "0", "--html", page, "--json", *model)
    assert code == 0 and json.loads(out)["candidates"][0]["width"] == 96
    assert "96x64" in page.read_text(encoding="utf-8")
    code, out, _ = ran("inspect", camera, "--stream", "v:0", "--json", *model)
    assert code == 0 and json.loads(out)["files"][0]["width"] == 96
    code, out, err = ran("inspect", camera, files["small"], *model)
    assert code == 0 and "camera.mkv: of its 2 videos" in err and "96x64" in out and "128x96" in out
    code, out, err = ran("inspect", camera, files["small"], "--stream", "1", *model)
    assert code == 1 and "no such stream" in err and "128x96" in out


@pytest.mark.parametrize("line", ["compare {0} {1}", "compare --no-reference {1}", "inspect {1}"])
def test_what_names_no_stream_is_a_wrong_command(files: dict[str, Path], line: str) -> None:
    arguments = line.format(files["pristine"], files["camera"]).split()
    code, _, err = ran(*arguments, "--stream", "video")
    assert code == 2 and "--stream takes a stream's number" in err
