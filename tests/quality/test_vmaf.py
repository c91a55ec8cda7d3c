"""VMAF, by the ffmpeg that has libvmaf."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from quality.clips import moving_picture, write_clip

from carfix.errors import CarfixError, MissingPartError
from carfix.quality import ffmpeg as ffmpeg_module
from carfix.quality.compare import compare_videos
from carfix.quality.ffmpeg import find_ffmpeg


def test_vmaf_equals_ffmpegs_own_and_ranks_quality(reference: Path, compressed: Path, tmp_path: Path) -> None:
    command = [find_ffmpeg("libvmaf").path, "-v", "error", "-i", str(compressed), "-i", str(reference)]
    command += ["-lavfi", "libvmaf=log_fmt=json:log_path=vmaf.json", "-f", "null", "-"]
    subprocess.run(command, check=True, cwd=tmp_path)
    log = json.loads((tmp_path / "vmaf.json").read_text())
    comparison = compare_videos(reference=reference, candidates=[compressed, reference], vmaf=True)
    ours, perfect = (result.vmaf for result in comparison.results)
    assert ours is not None and perfect is not None
    assert ours == pytest.approx([frame["metrics"]["vmaf"] for frame in log["frames"]], abs=0.01)
    assert perfect.mean() > ours.mean() + 5


def test_vmaf_takes_odd_sizes_and_ten_bits(tmp_path: Path) -> None:
    planes = moving_picture(3, 97, 65)
    odd = write_clip(tmp_path / "odd.mkv", planes, codec="ffv1", pix_fmt="yuv444p")
    deep = write_clip(
        tmp_path / "deep.mkv", planes.astype(np.uint16) << 2, codec="ffv1", pix_fmt="yuv444p10le"
    )
    comparison = compare_videos(reference=odd, candidates=[odd, deep], vmaf=True)
    assert [result.quality.identical for result in comparison.results] == [3, 3]
    scores = [result.vmaf for result in comparison.results]
    assert all(score is not None and len(score) == 3 and score.min() > 90 for score in scores)


def test_no_ffmpeg_with_libvmaf_names_the_cure(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg_module, "_candidates", lambda: [])
    with pytest.raises(MissingPartError, match=r"libvmaf.*pip install"):
        compare_videos(reference=reference, candidates=[reference], vmaf=True)


def test_an_ffmpeg_whose_libvmaf_lacks_its_models_is_passed_over(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        "#!/bin/sh\ncase \"$*\" in *-filters*) echo ' .. libvmaf  VV->V  vmaf';; "
        "*libvmaf*) echo could not load libvmaf model >&2; exit 1;; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_ffmpeg("libvmaf").path == str(fake)
    (result,) = compare_videos(reference=reference, candidates=[reference], vmaf=True, frames=2).results
    assert result.vmaf is not None and len(result.vmaf) == 2
    monkeypatch.setattr(ffmpeg_module, "_candidates", lambda: [("the fake", str(fake))])
    with pytest.raises(MissingPartError, match=r"the fake: libvmaf fails \(could not load libvmaf model\)"):
        compare_videos(reference=reference, candidates=[reference], vmaf=True)


def test_pictures_too_small_for_vmaf_are_one_clear_error(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mkv", moving_picture(2, 16, 16), codec="ffv1")
    with pytest.raises(CarfixError, match="VMAF needs pictures of at least 17x17, not 16x16"):
        compare_videos(reference=small, candidates=[small], vmaf=True)
    enough = write_clip(tmp_path / "enough.mkv", moving_picture(2, 17, 17), codec="ffv1", pix_fmt="yuv444p")
    (result,) = compare_videos(reference=enough, candidates=[enough], vmaf=True).results
    assert result.vmaf is not None and len(result.vmaf) == 2
