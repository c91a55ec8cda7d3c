import stat
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from media import crop
from quality.clips import luma_of_file, moving_picture, write_clip

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.quality import ffmpeg as ffmpeg_module
from carfix.quality.ffmpeg import FFmpeg, find_ffmpeg
from carfix.quality.reader import read_frames
from carfix.quality.spp import (
    QUANTIZER_GRID,
    FilterName,
    PostFilter,
    UnfilteredError,
    climb,
    filtered_frames,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # B-frames, so that the quantizers of several frame types are in play.
    options = {"crf": "36", "bf": "2", "threads": "1"}
    return write_clip(tmp_path_factory.mktemp("spp") / "clip.mp4", moving_picture(9), options=options)


def luma(path: Path, post_filter: PostFilter, limit: int | None = None) -> np.ndarray:
    return np.stack([frame.luma for frame in filtered_frames(path, post_filter, limit=limit)])


def by_command_line(path: Path, graph: str, frames: int) -> np.ndarray:
    """The luma that the command line of the documentation gives."""
    executable = PostFilter().find().path
    # One thread: with more, FFmpeg's own pictures differ from run to run.
    command = [
        executable,
        "-v",
        "error",
        "-filter_threads",
        "1",
        "-threads",
        "1",
        "-export_side_data",
        "+venc_params",
        "-i",
        str(path),
    ]
    command += ["-vf", graph, "-f", "rawvideo", "-"]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    planes = np.frombuffer(result.stdout, np.uint8).reshape(frames, 64 * 3 // 2, 96)
    return planes[:, :64]


@pytest.mark.parametrize("name", ["spp", "fspp", "uspp"])
def test_frames_equal_the_command_line_bit_for_bit(clip: Path, name: FilterName) -> None:
    post_filter = PostFilter(name)
    got = luma(clip, post_filter)
    assert np.array_equal(got, by_command_line(clip, f"{name}=quality={4 if name == 'fspp' else 3}", 9))
    decoded = luma_of_file(clip)
    assert got.shape == decoded.shape
    assert not np.array_equal(got, decoded)


def test_a_constant_quantizer_and_a_quality_reach_the_filter(clip: Path) -> None:
    got = luma(clip, PostFilter("spp", quality=5, quantizer=9))
    assert np.array_equal(got, by_command_line(clip, "spp=quality=5:qp=9", 9))
    assert not np.array_equal(got, luma(clip, PostFilter("spp", quality=5)))


def test_the_limit_takes_the_first_frames(clip: Path) -> None:
    assert np.array_equal(luma(clip, PostFilter(), limit=4), luma(clip, PostFilter())[:4])


def test_times_are_the_decoded_frames_times(tmp_path: Path) -> None:
    times = [500, 540, 700, 720, 1100]
    clip = write_clip(
        tmp_path / "vfr.mkv", moving_picture(5), times=times, options={"crf": "36", "threads": "1"}
    )
    shown = [frame.time for frame in filtered_frames(clip, PostFilter())]
    assert shown == pytest.approx([time / 1000 for time in times])


def test_raw_streams_have_no_times_behind_a_filter_either(tmp_path: Path) -> None:
    raw = write_clip(
        tmp_path / "raw.h264", moving_picture(7), options={"crf": "36", "bf": "2", "threads": "1"}
    )
    frames = list(filtered_frames(raw, PostFilter()))
    assert [frame.time for frame in frames] == [None] * 7
    assert len(luma_of_file(raw)) == 7


def test_a_name_that_looks_like_an_option_or_a_protocol(clip: Path, tmp_path: Path) -> None:
    odd = tmp_path / "-vf odd: name%d.mp4"
    odd.write_bytes(clip.read_bytes())
    assert np.array_equal(luma(odd, PostFilter(), 2), luma(clip, PostFilter(), 2))


def test_a_filter_that_did_nothing_is_an_error_with_its_cure(tmp_path: Path) -> None:
    # MJPEG's decoder exports no quantizers: FFmpeg passes every frame through without a word.
    clip = write_clip(tmp_path / "clip.avi", moving_picture(3), codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(UnfilteredError, match=r"left every frame of .*clip\.avi.*--spp-qp"):
        list(filtered_frames(clip, PostFilter()))
    assert not np.array_equal(luma(clip, PostFilter(quantizer=9)), luma_of_file(clip))


@pytest.mark.parametrize("name", ["spp", "fspp", "uspp"])
def test_quantizers_that_the_filter_cannot_read_are_an_error_with_its_cure(
    name: FilterName, tmp_path: Path
) -> None:
    """VP9's decoder exports some, of which FFmpeg's filters say that this function is not implemented."""
    clip = write_clip(
        tmp_path / "clip.webm", moving_picture(3), codec="libvpx-vp9", options={"crf": "40", "b": "0"}
    )
    with pytest.raises(UnfilteredError, match=r"cannot filter .*clip\.webm.*do not read.*--spp-qp 8\)"):
        list(filtered_frames(clip, PostFilter(name)))
    assert not np.array_equal(luma(clip, PostFilter(name, quantizer=9)), luma_of_file(clip))


def test_the_filter_sees_the_video_that_everything_else_is_measured_on(clip: Path, tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mp4", moving_picture(9, width=48, height=32))
    both = tmp_path / "both.mkv"
    with av.open(str(small)) as first, av.open(str(clip)) as second, av.open(str(both), "w") as output:
        copies = [(c, output.add_stream_from_template(c.streams.video[0])) for c in (first, second)]
        for container, copy in copies:
            for packet in container.demux():
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
    assert np.array_equal(luma(both, PostFilter()), luma(clip, PostFilter()))


def test_a_display_rotation_turns_nothing_that_is_measured(clip: Path, tmp_path: Path) -> None:
    """A camera that hangs upside down: ffmpeg would turn its pictures before it filters them."""
    turned = tmp_path / "turned.mp4"
    with av.open(str(clip)) as source, av.open(str(turned), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        copy.set_display_matrix((-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30))
        for packet in source.demux():
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    assert next(frame.picture.rotation for frame in read_frames(turned) if frame.picture) == -180
    assert np.array_equal(luma(turned, PostFilter()), luma(clip, PostFilter()))


def test_what_a_container_crops_is_measured(clip: Path, tmp_path: Path) -> None:
    """ffmpeg would crop it before it filters, and then not know what to do with quantizers of the whole."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        cropped = crop(clip, tmp_path / "cropped.mp4", video.width - 16, video.height - 8)
    assert np.array_equal(luma(cropped, PostFilter()), luma(clip, PostFilter()))


def test_deep_gray_is_luma(tmp_path: Path) -> None:
    """ffmpeg makes RGB of it for spp, of which other codes are luma: 30 dB."""
    planes = np.random.default_rng(0).integers(300, 700, (2, 32, 48)).astype(np.uint16)
    deep = write_clip(tmp_path / "deep.mkv", planes, codec="ffv1", pix_fmt="gray10le")
    assert np.abs(luma(deep, PostFilter(quantizer=1)).astype(int) - planes).mean() < 4


def test_what_overflows_ten_bits_is_white(tmp_path: Path) -> None:
    """FFmpeg's spp writes 65535 there, and one such pixel a frame would cost 20 dB."""
    planes = np.random.default_rng(0).choice([0, 1023], (2, 32, 48)).astype(np.uint16)
    deep = write_clip(tmp_path / "deep.mkv", planes, codec="ffv1", pix_fmt="yuv420p10le")
    shown = luma(deep, PostFilter(quantizer=8))
    assert shown.max() == 1023 and not np.array_equal(shown, planes)


def test_an_ffmpeg_that_fails_is_told_by_the_first_thing_that_it_said(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", moving_picture(3), codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(CarfixError, match=r"clip\.avi: Specified pixel format yuvj420p is not supported"):
        list(filtered_frames(clip, PostFilter("uspp")))


def test_no_ffmpeg_with_the_filter_names_the_cure(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg_module, "_candidates", lambda: [])
    with pytest.raises(MissingPartError, match="pip install -U imageio-ffmpeg") as error:
        list(filtered_frames(clip, PostFilter()))
    assert error.value.exit_code == 3


def fake_ffmpeg(folder: Path, filters: str) -> Path:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\ncase \"$*\" in *-filters*) printf '{filters}';; esac\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_ffmpeg_on_path_is_passed_over_if_it_lacks_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_ffmpeg(tmp_path, " T. scale  V->V  Scale\\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_ffmpeg("scale").path == str(fake)
    assert find_ffmpeg("spp").path != str(fake)
    with pytest.raises(MissingPartError, match=rf"{fake} has no filter nosuch"):
        find_ffmpeg("nosuch")
    assert find_ffmpeg("scale", trial=lambda it: "no" if it.path == str(fake) else None).path != str(fake)


def test_an_ffmpeg_whose_filter_fails_on_h264_is_passed_over(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Debian's FFmpeg 5.1: it has spp, and fails as soon as the decoder exports quantizers.
    fake = fake_ffmpeg(tmp_path, " T. spp  V->V  spp\\n")
    fake.write_text(
        fake.read_text() + 'case "$*" in *venc_params*) echo not implemented >&2; exit 1;; esac\n'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert PostFilter().find().path != str(fake)
    assert len(list(filtered_frames(clip, PostFilter(), limit=2))) == 2
    monkeypatch.setattr(ffmpeg_module, "_candidates", lambda: [("the fake", str(fake))])
    with pytest.raises(MissingPartError, match=r"the fake: spp fails on H\.264 \(not implemented\)"):
        PostFilter().find()


def test_an_ffmpeg_that_writes_no_utf8_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_ffmpeg(tmp_path, "made in C:/\\351t\\351\\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_ffmpeg("spp").path != str(fake)


def test_the_variable_that_names_a_broken_ffmpeg_is_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To install the package again, as the message said, changes nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    with pytest.raises(MissingPartError, match=r"/nowhere/ffmpeg does not run\); unset IMAGEIO_FFMPEG_EXE"):
        list(filtered_frames(clip, PostFilter()))


def test_an_ffmpeg_that_fails_or_crashes_is_reported(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CarfixError, match=r"missing\.mp4"):
        list(filtered_frames(tmp_path / "missing.mp4", PostFilter()))
    crashing = tmp_path / "ffmpeg"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    broken = FFmpeg(path=str(crashing), version="", filters=frozenset({"spp"}))
    monkeypatch.setattr(PostFilter, "find", lambda self: broken)
    with pytest.raises(CarfixError, match=r"crashed \(signal 11\)"):
        list(filtered_frames(clip, PostFilter()))


@pytest.mark.parametrize(("quality", "quantizer"), [(7, None), (-1, None), (None, 0), (None, 64)])
def test_settings_out_of_range_are_usage_errors(quality: int | None, quantizer: int | None) -> None:
    with pytest.raises(UsageError, match="spp takes a"):
        PostFilter("spp", quality=quality, quantizer=quantizer)


@pytest.mark.parametrize("best", [1, 5, 24])
@pytest.mark.parametrize("start", [1, 4, 24])
def test_climbing_finds_the_top_of_the_hill(best: int, start: int) -> None:
    score: dict[int, float] = {}
    while (quantizer := climb(score, start)) is not None:
        assert quantizer not in score
        score[quantizer] = -abs(QUANTIZER_GRID.index(quantizer) - QUANTIZER_GRID.index(best))
    assert max(score, key=lambda quantizer: score[quantizer]) == best
