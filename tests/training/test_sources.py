import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from scenes import save_png, scene, write_scene

from carfix.errors import CarfixError
from carfix.quality.reader import read_frames
from carfix.restore import tasks
from carfix.training.finding import VIDEO_SUFFIXES, find_clips
from carfix.training.sources import (
    fitted,
    luma_plane,
    read_folder,
    read_photo,
    read_video,
    source_sha256,
)
from carfix.training.stills import animate


@pytest.mark.parametrize(
    ("size", "expected"),
    [((910, 512), (910, 512)), ((640, -2), (640, 360)), ((-2, 270), (480, 270)), ((333, -2), (332, 186))],
)
def test_sizes_keep_the_aspect_ratio_and_are_even(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted(size, 1920, 1080) == expected


def test_a_range_of_frames_is_read(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "clip.mkv", 6)
    frames, _ = read_video(path, size=None, start=2, frames=3)
    assert np.array_equal(frames, scene(6)[2:5])
    half, _ = read_video(path, size=(48, -2), start=0, frames=1)
    assert half.shape == (1, 32, 48)
    block_means = scene(6)[0].reshape(32, 2, 48, 2).mean((1, 3))
    assert np.abs(half[0] - block_means).mean() < 3


def test_a_folder_of_pictures_is_one_clip_or_many(tmp_path: Path) -> None:
    for index, frame in enumerate(scene(4)):
        save_png(tmp_path / "shots" / f"{index:03}.png", frame)
    write_scene(tmp_path / "clip.mkv")
    (tmp_path / "notes.txt").write_text("no clip")
    assert [path.name for path in find_clips([tmp_path], stills=False)] == ["clip.mkv", "shots"]
    assert len(list(find_clips([tmp_path], stills=True))) == 5
    frames, _ = read_folder(tmp_path / "shots", size=None, start=1, frames=2)
    # Grey 0 to 255 becomes luma 16 to 235.
    assert np.abs(frames - (16 + scene(4)[1:3] * (219 / 255))).max() <= 1


@pytest.mark.parametrize(("codec", "suffix"), [("png", ".avi"), ("qtrle", ".mov")])
def test_rgb_becomes_luma_of_the_limited_range_whatever_its_decoder_calls_it(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    with av.open(tmp_path / f"clip{suffix}", "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        gray = np.repeat(scene(2)[..., None], 3, axis=3)
        for picture in gray:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    expected = 16 + scene(2) * (219 / 255)
    frames, _ = read_video(tmp_path / f"clip{suffix}", size=None, start=0, frames=2)
    assert np.abs(frames - expected).max() <= 1
    measured = [frame.luma for frame in read_frames(tmp_path / f"clip{suffix}")]
    assert np.abs(measured - expected).max() <= 1


@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize(
    ("pix_fmt", "above"), [("yuv420p10le", 2), ("yuv422p12be", 4), ("gray10le", 2), ("gray16le", 8)]
)
def test_deep_luma_is_rounded_and_nothing_else(pix_fmt: str, above: int, colour_range: int) -> None:
    """swscale dithers, in a pattern of blocks, and takes all deep gray for full range."""
    codes = np.linspace(16 << above, 235 << above, 64 * 64).reshape(64, 64).round().astype(np.uint16)
    frame = av.VideoFrame(64, 64, pix_fmt)
    frame.color_range = colour_range
    frame.planes[0].update(codes.astype(">u2" if pix_fmt.endswith("be") else "<u2"))
    assert np.abs(luma_plane(frame) - codes / (1 << above)).max() <= 0.5


def test_only_files_are_clips_and_pictures(tmp_path: Path) -> None:
    write_scene(tmp_path / "shots.mp4" / "inner.mkv")
    (tmp_path / "cover.png").mkdir()
    for index, frame in enumerate(scene(2)):
        save_png(tmp_path / "walk" / f"{index}.png", frame)
    (tmp_path / "walk" / "x.png").mkdir()
    found = list(find_clips([tmp_path], stills=False))
    assert [path.name for path in found] == ["inner.mkv", "walk"]
    assert len(read_folder(tmp_path / "walk", size=None, start=0, frames=9)[0]) == 2
    assert len(source_sha256(tmp_path / "walk")) == 64


def test_a_cover_picture_is_no_clip(tmp_path: Path) -> None:
    cover = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
        picture.disposition = Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(picture.encode(cover))
        for stream in (sound, picture):
            container.mux(stream.encode(None))
    with pytest.raises(CarfixError, match=r"song\.m4a has no video stream .*, only a picture, audio"):
        read_video(tmp_path / "song.m4a", size=None, start=0, frames=1)


def test_folders_are_walked_for_what_restore_takes(tmp_path: Path) -> None:
    assert VIDEO_SUFFIXES == tasks.VIDEO_SUFFIXES
    (tmp_path / "tape.M2TS").touch()
    assert list(find_clips([tmp_path], stills=False)) == [tmp_path / "tape.M2TS"]


def test_a_photograph_becomes_a_moving_noisy_clip(tmp_path: Path) -> None:
    photo = read_photo(save_png(tmp_path / "photo.png", scene(1, 160, 200)[0]))
    clip = animate(photo, size=None, frames=5, seed="a")
    assert clip.shape == (5, 128, 168)
    assert np.array_equal(clip, animate(photo, size=None, frames=5, seed="a"))
    assert all((clip[i] != clip[i + 1]).mean() > 0.05 for i in range(4))  # never noise-free
    crop = photo[16:144, 16:184].astype(float)
    assert np.abs(clip[0] - crop).mean() < 3  # it starts at the middle
    assert animate(photo, size=(120, -2), frames=2, seed="a").shape == (2, 96, 120)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_folder_is_walked_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    """One that leads back to where it lies would give each clip forty times, under as many names."""
    clips = tmp_path / "clips"
    (clips / "sub").mkdir(parents=True)
    (clips / "street.mkv").touch()
    (clips / "sub" / "up").symlink_to("..")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "yard.mkv").touch()
    (clips / "there").symlink_to(elsewhere)
    found = list(find_clips([clips, clips / "sub", elsewhere], stills=False))
    assert [path.name for path in found] == ["street.mkv", "yard.mkv"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(CarfixError, match=r"broken\.mp4"):
        read_video(broken, size=None, start=0, frames=1)
    with pytest.raises(CarfixError, match="missing"):
        list(find_clips([tmp_path / "missing"], stills=False))
    with pytest.raises(CarfixError, match="no frame"):
        read_video(write_scene(tmp_path / "short.mkv", 3), size=None, start=5, frames=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "camera.mp4"
    os.mkfifo(pipe)
    with pytest.raises(CarfixError, match=r"camera\.mp4 is not a file"):
        source_sha256(pipe)
