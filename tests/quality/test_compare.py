import json
import pickle
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from engines import Adding
from jobs import LOSSLESS, restore
from media import X264
from media import write_clip as write_media
from networks import save_awake
from quality.clips import FRAMES, luma_of_file, moving_picture, write_clip, write_model
from recorders import write_hxvs
from rich.console import Console

from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import load_checkpoint
from carfix.quality.compare import compare_videos
from carfix.quality.compare_tables import (
    comparison_csv,
    comparison_json,
    comparison_tables,
    metric_row,
    notes,
)
from carfix.quality.ffmpeg import find_ffmpeg
from carfix.quality.methods import Filtered, Restored
from carfix.quality.metrics import measure
from carfix.quality.reader import read_frames
from carfix.quality.report.page import write_report
from carfix.quality.spp import PostFilter
from carfix.restore.one_file import restore_video
from carfix.video.encoder_settings import EncoderSettings

DATA = Path(__file__).parent.parent / "data"


def test_numbers_are_those_of_the_decoded_frames(reference: Path, compressed: Path) -> None:
    comparison = compare_videos(reference=reference, candidates=[compressed])
    (result,) = comparison.results
    expected = measure(luma_of_file(reference), luma_of_file(compressed))
    assert result.quality.psnr == pytest.approx(expected.psnr, abs=1e-9)
    assert result.quality.ssim == pytest.approx(expected.ssim, abs=1e-6)
    assert (comparison.reference.frames, comparison.reference.width, comparison.reference.height) == (
        9,
        96,
        64,
    )
    assert result.kinds[0] == "I" and set(result.kinds) <= {"I", "P", "B"}
    assert all(quantizer is not None and 10 < quantizer < 52 for quantizer in result.quantizers)
    assert result.bit_rate == pytest.approx(8 * compressed.stat().st_size / (FRAMES / 25), rel=0.05)


def test_quantizers_are_the_means_of_the_decoders_maps(compressed: Path) -> None:
    with av.open(str(compressed)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"export_side_data": "venc_params"}
        stream.thread_type = "SLICE"
        frames = list(container.decode(stream))
        expected = [frame.side_data.get("VIDEO_ENC_PARAMS").qp_map().mean() for frame in frames]  # type: ignore[attr-defined]
    shown = [frame.quantizer for frame in read_frames(compressed, quantizers=True)]
    assert len(set(expected)) > 1
    assert shown == pytest.approx(expected)


def test_psnr_equals_ffmpegs_own_filter_on_a_real_clip(tmp_path: Path) -> None:
    stats = tmp_path / "psnr.log"
    command = [find_ffmpeg("psnr").path, "-v", "error", "-i", str(DATA / "highway.mp4")]
    command += ["-i", str(DATA / "highway_pristine.mp4"), "-frames:v", "8"]
    command += ["-lavfi", "psnr=stats_file=psnr.log", "-f", "null", "-"]
    subprocess.run(command, check=True, cwd=tmp_path)
    theirs = [float(value) for value in re.findall(r"psnr_y:([\d.]+)", stats.read_text())][:8]
    comparison = compare_videos(
        reference=DATA / "highway_pristine.mp4", candidates=[DATA / "highway.mp4"], frames=8
    )
    assert len(theirs) == 8
    assert comparison.results[0].quality.psnr == pytest.approx(theirs, abs=0.01)


def test_spp_and_a_network_are_further_candidates(reference: Path, compressed: Path, tmp_path: Path) -> None:
    model = Restored(
        load_checkpoint(write_model(tmp_path / "m.safetensors", "shift", bias=8 / 255)), device="cpu"
    )
    comparison = compare_videos(
        reference=reference,
        candidates=[compressed],
        methods=[Filtered(PostFilter("spp", quantizer=8)), model],
        spp_best=PostFilter(),
    )
    names = [result.name for result in comparison.results]
    assert names[:3] == ["camera.mp4", "camera.mp4 + spp-qp8", "camera.mp4 + shift"]
    best = re.fullmatch(r"camera\.mp4 \+ spp-best \(qp (\d+)\)", names[3])
    assert best
    decoded, constant, shifted, searched = comparison.results
    again = compare_videos(
        reference=reference,
        candidates=[compressed],
        methods=[Filtered(PostFilter("spp", quantizer=int(best[1])))],
    )
    assert searched.quality.psnr.tolist() == again.results[1].quality.psnr.tolist()
    assert searched.quality.psnr.mean() >= constant.quality.psnr.mean()
    expected = measure(luma_of_file(reference), np.minimum(luma_of_file(compressed), 251) + np.uint8(4))
    assert shifted.quality.psnr == pytest.approx(expected.psnr, abs=0.05)
    # A pool of processes hands it on.
    kept = pickle.loads(pickle.dumps(comparison))
    assert kept.results[2].quality.psnr.tolist() == shifted.quality.psnr.tolist()
    # Types and quantizers are the file's, whatever happened to the frames since.
    assert constant.kinds == searched.kinds == decoded.kinds
    assert shifted.quantizers == decoded.quantizers


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_network_shows_what_restore_would_write(tmp_path: Path, interlaced: bool) -> None:
    weights = save_awake(tmp_path / "awake.safetensors")
    options = {**X264, "x264-params": "tff=1"} if interlaced else X264
    camera = write_media(tmp_path / "camera.mp4", frames=6, interlaced=interlaced, options=options)
    lossless = EncoderSettings(codec="ffv1")
    restored = tmp_path / "restored.mkv"
    restore_video(source=camera, output=restored, model=str(weights), device="cpu", encoder=lossless)
    comparison = compare_videos(
        reference=restored, candidates=[camera], methods=[Restored(load_checkpoint(weights), device="cpu")]
    )
    assert [result.quality.identical for result in comparison.results] == [0, 6]


def test_more_skipped_than_there_is_is_told(reference: Path, compressed: Path) -> None:
    with pytest.raises(CarfixError, match="no frames behind the first 400, which are skipped"):
        compare_videos(reference=reference, candidates=[compressed], skip=400)


def test_skip_and_frames_choose_the_range(reference: Path, compressed: Path) -> None:
    whole = compare_videos(reference=reference, candidates=[compressed]).results[0]
    part = compare_videos(reference=reference, candidates=[compressed], skip=2, frames=4).results[0]
    assert part.quality.psnr.tolist() == pytest.approx(whole.quality.psnr[2:6].tolist())
    assert part.indices == part.reference_indices == [2, 3, 4, 5]


def test_a_single_candidate_and_none(reference: Path, compressed: Path) -> None:
    for alone in (compressed, str(compressed)):
        assert [result.name for result in compare_videos(reference=reference, candidates=alone).results] == [
            compressed.name
        ]
    with pytest.raises(UsageError, match="no candidate"):
        compare_videos(reference=reference, candidates=[])


def test_a_device_that_is_none_is_refused(reference: Path, compressed: Path) -> None:
    with pytest.raises(UsageError, match="--device is"):
        compare_videos(reference=reference, candidates=[compressed], device="gpu")
    compare_videos(reference=reference, candidates=[compressed], device="auto", frames=1)


def test_sizes_that_differ_need_scale(reference: Path, tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mp4", moving_picture(FRAMES)[:, ::2, ::2], options={"crf": "10"})
    with pytest.raises(CarfixError, match=r"small\.mp4 is 48x32 and .* 96x64; --scale"):
        compare_videos(reference=reference, candidates=[small])
    (result,) = compare_videos(reference=reference, candidates=[small], scale=True).results
    assert 15 < result.quality.psnr.mean() < 45


@pytest.mark.parametrize(
    ("codec", "suffix"), [("mpeg1video", "m1v"), ("mpeg2video", "m2v"), ("mjpeg", "mjpg")]
)
def test_files_without_a_container_pair_up_in_order(codec: str, suffix: str, tmp_path: Path) -> None:
    """The times that FFmpeg counts there are of another rate, or lack the second frame's where B-frames are."""
    raw = write_media(
        tmp_path / f"raw.{suffix}",
        codec=codec,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
        time_base=Fraction(1, 25),
        frames=FRAMES,
        options={} if codec == "mjpeg" else {"bf": "2"},
    )
    reference = write_clip(tmp_path / "reference.mkv", luma_of_file(raw), codec="ffv1", rate=30)
    (result,) = compare_videos(reference=reference, candidates=[raw]).results
    assert result.quality.identical == len(result.quality) == FRAMES
    (result,) = compare_videos(reference=raw, candidates=[reference]).results
    assert result.times.tolist() == list(range(FRAMES))


def test_spp_best_of_flat_pictures_is_what_was_decoded(compressed: Path, tmp_path: Path) -> None:
    """A quantizer that changes nothing was an error, and ended all."""
    flat = write_clip(tmp_path / "flat.mp4", np.full((FRAMES, 64, 96), 128, np.uint8), options=X264)
    comparison = compare_videos(
        reference=flat, candidates=[compressed, flat], spp_best=PostFilter(), vmaf=True, frames=3
    )
    decoded, best = comparison.results[2:]
    assert best.name == "flat.mp4 + spp-best (qp 4)" and best.candidate.method.name == "spp-qp4"
    assert best.quality.psnr.tolist() == decoded.quality.psnr.tolist() == [100] * 3
    assert best.vmaf is not None and len(list(best.candidate.method.frames(flat))) == FRAMES


def test_the_bit_rate_of_recordings_put_together_is_theirs(tmp_path: Path) -> None:
    """FFmpeg's duration of them is that of the last one."""
    part = write_clip(tmp_path / "part.ts", moving_picture(30), options=X264)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(3 * part.read_bytes())
    rates = [
        compare_videos(reference=path, candidates=[path], frames=1).results[0].bit_rate
        for path in (part, whole)
    ]
    assert rates[1] == pytest.approx(rates[0], rel=0.05)


@pytest.mark.parametrize("second", [{"width": 96, "height": 80}, {"pix_fmt": "yuv420p10le"}], ids=str)
def test_frames_that_change_on_the_way_are_measured_as_they_are(
    second: dict[str, object], tmp_path: Path
) -> None:
    """Two clips one after the other in a stream, as a recorder that was set up anew writes: same numbers as apart."""

    def joined(quality: str) -> list[Path]:
        parts = [
            write_media(
                tmp_path / f"{quality}-{number}.ts",
                frames=6,
                times=[512 * (6 * number + index) for index in range(6)],
                options={**X264, "crf": quality},
                **options,  # type: ignore[arg-type]
            )
            for number, options in enumerate(({}, second))
        ]
        whole = tmp_path / f"{quality}.ts"
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        return [whole, *parts]

    network = Restored(load_checkpoint(save_awake(tmp_path / "awake.safetensors")), device="cpu")
    found = [
        compare_videos(reference=reference, candidates=[candidate], methods=[network])
        for reference, candidate in zip(joined("20"), joined("40"), strict=True)
    ]
    assert found[0].reference.frames == 12
    assert (found[0].reference.width, found[0].reference.height) == (64, 48)
    for whole, first, last in zip(*(comparison.results for comparison in found), strict=True):
        apart = np.concatenate([first.quality.psnr, last.quality.psnr])
        assert whole.quality.psnr == pytest.approx(apart, abs=0.01)
    with pytest.raises(CarfixError, match="change on the way"):
        compare_videos(reference=tmp_path / "20.ts", candidates=[tmp_path / "40.ts"], vmaf=True)


def test_nothing_is_measured_before_every_file_could_be_read(
    reference: Path, compressed: Path, tmp_path: Path
) -> None:
    seen: list[str] = []
    with pytest.raises(CarfixError, match="no such file"):
        compare_videos(
            reference=reference,
            candidates=[compressed, tmp_path / "gone.mp4"],
            progress=lambda done, total, detail: seen.append(detail),
        )
    assert not seen


def test_ranges_that_differ_are_told(tmp_path: Path) -> None:
    planes = moving_picture(3)
    limited = write_clip(tmp_path / "limited.mp4", planes)
    full = write_clip(tmp_path / "full.avi", planes, codec="mjpeg", pix_fmt="yuvj420p")
    told = notes(compare_videos(reference=limited, candidates=[full, limited]))
    assert sum("full.avi and limited.mp4: one has the full range" in line for line in told) == 1
    assert not any("range" in line for line in notes(compare_videos(reference=full, candidates=[full])))


def test_scaling_keeps_codes_and_depth(tmp_path: Path) -> None:
    flat = np.full((2, 32, 32), 700, np.uint16)
    big = np.full((2, 64, 64), 700, np.uint16)
    small = write_clip(tmp_path / "s.mkv", flat, codec="ffv1", pix_fmt="yuv420p10le")
    large = write_clip(tmp_path / "l.mkv", big, codec="ffv1", pix_fmt="yuv420p10le")
    (result,) = compare_videos(reference=large, candidates=[small], scale=True).results
    assert result.quality.identical == 2


def test_frame_counts_that_differ_need_shortest(reference: Path, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", moving_picture(FRAMES)[:6])
    with pytest.raises(CarfixError, match=r"has 9 frames and short\.mp4 6; --shortest"):
        compare_videos(reference=reference, candidates=[short])
    (result,) = compare_videos(reference=reference, candidates=[short], shortest=True).results
    assert len(result.quality) == 6
    assert (
        "3 frames of the reference"
        in notes(compare_videos(reference=reference, candidates=[short], shortest=True))[0]
    )


def test_files_that_cannot_be_read_are_named(reference: Path, compressed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(compressed.read_bytes()[:500])
    with pytest.raises(CarfixError, match=r"broken\.mp4"):
        compare_videos(reference=reference, candidates=[broken])
    with pytest.raises(CarfixError, match=r"no such file: .*gone\.mp4"):
        compare_videos(reference=reference, candidates=[tmp_path / "gone.mp4"])
    with pytest.raises(CarfixError, match=r"gone\.mkv"):
        compare_videos(reference=tmp_path / "gone.mkv", candidates=[compressed])


def test_candidates_of_one_name_are_told_apart(reference: Path, compressed: Path, tmp_path: Path) -> None:
    other = tmp_path / compressed.name
    other.write_bytes(compressed.read_bytes())
    results = compare_videos(reference=reference, candidates=[compressed, other], frames=2).results
    assert [result.name for result in results] == [str(compressed), str(other)]


def test_frames_of_a_program_stream_that_state_no_time(tmp_path: Path) -> None:
    """FFmpeg's muxer, as recorders, states a time for each packet of its own, not for each frame."""
    rest = {"codec": "mpeg2video", "frames": 15, "rate": Fraction(25), "time_base": Fraction(1, 25)}
    pristine = write_media(tmp_path / "p.mkv", **rest, options={"bf": "0", "b": "4000000"})  # type: ignore[arg-type]
    recorded = write_media(tmp_path / "r.mpg", **rest, options={"bf": "2", "b": "400000"})  # type: ignore[arg-type]
    with av.open(str(recorded)) as container:
        container.flags &= ~0x1  # FFmpeg's invented times
        stated = [frame.pts for frame in container.decode(video=0)]
    assert stated[0] is not None and None in stated
    (result,) = compare_videos(reference=pristine, candidates=[recorded], align_start=True).results
    assert result.indices == result.reference_indices == list(range(15))
    assert result.quality.psnr.min() > 25


def test_a_clock_that_was_set_back_goes_on_as_in_a_restore(tmp_path: Path) -> None:
    part = write_media(tmp_path / "part.ts", frames=25, options=X264)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(2 * part.read_bytes())
    restore(whole, tmp_path / "out.mkv", model=Adding(3), encoder=LOSSLESS)
    found = compare_videos(reference=whole, candidates=[tmp_path / "out.mkv"], align_start=True)
    assert found.results[0].quality.psnr == pytest.approx(np.full(50, 20 * np.log10(255 / 3)), abs=0.3)


def test_a_clock_that_steps_back_a_little_goes_on_as_in_a_restore(tmp_path: Path) -> None:
    """Frames of an original and of what was made of it were said not to meet."""
    times = [40 * i - (80 if i >= 12 else 0) for i in range(30)]
    source = write_hxvs(tmp_path / "in.264", times, index=False)
    restore(source, tmp_path / "out.mkv", model=Adding(3), encoder=LOSSLESS)
    found = compare_videos(reference=source, candidates=[tmp_path / "out.mkv"])
    assert found.results[0].quality.psnr == pytest.approx(np.full(30, 20 * np.log10(255 / 3)), abs=0.3)


def test_json_and_csv_hold_every_frame(reference: Path, compressed: Path) -> None:
    comparison = compare_videos(reference=reference, candidates=[reference, compressed], vmaf=True)
    document = json.loads(json.dumps(comparison_json(comparison)))
    assert document["reference"] == {
        "path": str(reference),
        "stream": 0,
        "frames": 9,
        "width": 96,
        "height": 64,
        "damaged_packets": 0,
        "concealed_frames": 0,
    }
    same, camera = document["candidates"]
    assert same["psnr_y"] == {"mean": 100, "min": 100, "p5": 100}
    assert same["identical"] == 9
    assert camera["psnr_y"]["min"] == min(camera["per_frame"]["psnr_y"]) < camera["psnr_y"]["p5"]
    assert camera["psnr_y"]["mean"] == pytest.approx(np.mean(camera["per_frame"]["psnr_y"]))
    assert camera["frames"] == 9 and camera["vmaf"]["mean"] > 0
    assert camera["per_frame"]["pts_s"] == pytest.approx([i / 25 for i in range(9)], abs=1e-3)
    assert {len(values) for values in camera["per_frame"].values()} == {9}
    lines = comparison_csv(comparison).splitlines()
    assert lines[0] == "candidate,frame,pts_s,psnr_y,ssim_y,vmaf,type,quantizer"
    assert len(lines) == 1 + 2 * 9
    assert float(lines[10].split(",")[3]) == pytest.approx(camera["per_frame"]["psnr_y"][0], abs=1e-5)


def test_the_table_shows_the_gain_over_the_first_candidate(reference: Path, compressed: Path) -> None:
    comparison = compare_videos(
        reference=reference, candidates=[compressed], methods=[Filtered(PostFilter(quantizer=30))]
    )
    first, second = (result.quality.psnr.mean() for result in comparison.results)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(*comparison_tables(comparison, ["psnr", "ssim"]))
    assert f"{first:.2f}" in capture.get()
    assert f"{second - first:+.2f}" in capture.get()


def test_the_gain_is_of_the_frames_that_both_candidates_have(reference: Path, tmp_path: Path) -> None:
    planes = moving_picture(FRAMES)
    # The first ones are good, so that means over other frames differ by more than the candidates do.
    blurred = np.where(np.arange(FRAMES)[:, None, None] < 3, planes, planes // 16 * 16)
    times = [40 * number for number in range(FRAMES)]
    lossless = {"codec": "ffv1"}
    first, second, last = (
        write_clip(tmp_path / f"{part.start}.mkv", blurred[part], times=times[part], **lossless)
        for part in (slice(0, 6), slice(2, 9), slice(6, 9))
    )
    found = compare_videos(reference=reference, candidates=[first, second, last], shortest=True)
    rows = [metric_row(result, found.results[0], "psnr") for result in found.results]
    assert rows[0][0] != rows[1][0]
    assert [row[3] for row in rows] == ["-", "+0.00", "-"]
    with pytest.raises(CarfixError, match="no frame that all candidates have"):
        write_report(tmp_path / "page.html", found, ["psnr"])
