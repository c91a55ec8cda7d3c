import json
import re
from pathlib import Path

import numpy as np
import pytest
from quality.clips import luma_of_file, moving_picture, write_clip, write_model

from carfix.errors import CarfixError
from carfix.net.checkpoint import load_checkpoint
from carfix.quality.blockiness import blockiness
from carfix.quality.methods import Restored
from carfix.quality.noreference import assess_video, assessment_row, assessments_json
from carfix.quality.report.noreference import moments, write_noreference_report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    path = write_model(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    return Restored(load_checkpoint(path), device="cpu")


def test_blockiness_of_known_pictures() -> None:
    # Steps of 1 between all pixels, of 3 across the lines of the grid.
    steps = np.ones(63)
    steps[7::8] = 3
    row = np.concatenate([[0], np.cumsum(steps)])
    blocky = (row[None] + row[:, None]).astype(np.uint8)
    assert blockiness(blocky) == pytest.approx(3)
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    assert blockiness(smooth) == pytest.approx(1)
    assert blockiness(np.full((64, 64), 9, np.uint8)) == 1.0
    noise = np.random.default_rng(0).integers(0, 1024, (256, 256), dtype=np.uint16)
    assert blockiness(noise) == pytest.approx(1, abs=0.02)


def test_coarser_encodings_are_blockier_and_have_larger_quantizers(model: Restored, tmp_path: Path) -> None:
    planes = moving_picture(6, 128, 96)
    found = []
    for crf in (20, 45):
        options = {"crf": str(crf), "tune": "fastdecode", "threads": "1"}  # no loop filter: blocks stay
        found.append(assess_video(write_clip(tmp_path / f"{crf}.mp4", planes, options=options), model))
    fine, coarse = found
    assert fine.mean_quantizer is not None and coarse.mean_quantizer is not None
    assert coarse.mean_quantizer > fine.mean_quantizer + 15
    assert coarse.blockiness.mean() > fine.blockiness.mean()


def test_samples_are_spread_and_restored(model: Restored, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_picture(10), options={"crf": "35", "threads": "1"})
    seen: list[tuple[int, int]] = []
    found = assess_video(
        path, model, samples=4, progress=lambda done, total, detail: seen.append((done, total))
    )
    assert found.samples == [0, 3, 6, 9]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # An untrained network changes nothing: what is measured after is what was there before.
    assert found.restored_blockiness == pytest.approx(found.blockiness[found.samples], abs=1e-6)
    assert found.blockiness[3] == pytest.approx(blockiness(luma_of_file(path)[3]))
    document = json.loads(json.dumps(assessments_json([found])))["candidates"][0]
    assert document["frames"] == 10 and document["model"] == "tiny"
    assert document["blockiness"]["before"] == pytest.approx(document["blockiness"]["after"])
    assert document["samples"]["frame"] == [0, 3, 6, 9]
    assert assessment_row(found)[-2:] == ["10", "4"]


def test_a_codec_without_quantizers_is_judged_by_blockiness(model: Restored, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", moving_picture(5), codec="ffv1")
    found = assess_video(path, model)
    assert found.mean_quantizer is None
    assert assessment_row(found)[1] == "-"
    labels = moments(found)
    worst = next(place for place, label in labels.items() if "highest blockiness" in label)
    assert found.blockiness[worst] == found.blockiness.max()


def test_the_page_shows_before_and_after(model: Restored, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_picture(8), options={"crf": "35", "threads": "1"})
    found = assess_video(path, model, samples=3)
    page = tmp_path / "page.html"
    write_noreference_report(page, found)
    data = re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data
    content = json.loads(data[1])
    assert content["pictures"] == content["names"] == ["decoded", "tiny"]
    before, after = content["metrics"][0]["curves"]
    assert None not in before
    assert [place for place, value in enumerate(after) if value is not None] == found.samples
    assert {moment["place"] for moment in content["moments"]} <= set(found.samples)
    assert all(len(moment["pictures"]) == 2 for moment in content["moments"])


def test_an_empty_range_is_an_error(model: Restored, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_picture(3))
    with pytest.raises(CarfixError, match=r"clip\.mp4 has no frames in the range"):
        assess_video(path, model, wanted=range(50, 60))
