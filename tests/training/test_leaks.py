from pathlib import Path

import av
import numpy as np
import pytest
import torch
from skimage.transform import resize

from carfix.training.encoding import Luma
from carfix.training.leaks import by_clip, find_leaks, thumbnails
from carfix.training.sources import is_photo, luma_plane
from carfix.video.demux import decoded

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
#: Every so many frames of a long clip: neighbours are too alike for one to be a leak and the other not.
STRIDE = 5


def scene(seed: int, frames: int = 3) -> Luma:
    """Smooth as photographs are: coarse shapes, drawn anew for each seed and drifting."""
    coarse = np.random.default_rng(seed).uniform(30, 220, (9, 20))
    wide = resize(coarse, (180, 400), order=3)
    return np.stack([wide[:, 8 * n : 8 * n + 320] for n in range(frames)]).astype(np.uint8)


def scaled(luma: Luma, height: int, width: int) -> Luma:
    big = resize(luma, (len(luma), height, width), preserve_range=True)
    noise = np.random.default_rng(0).normal(0, 3, big.shape)
    return np.clip(big + noise, 0, 255).astype(np.uint8)


def test_a_copy_is_found_scaled_noisy_and_mirrored() -> None:
    held_out = by_clip([("street", scene(1))])
    assert [
        leak.training for leak in find_leaks(by_clip([("copy", scaled(scene(1), 126, 224))]), held_out)
    ] == ["copy"]
    assert find_leaks(by_clip([("mirrored", scene(1)[:, :, ::-1])]), held_out)
    one_frame_of_many = np.concatenate([scene(2), scene(1)[:1]])
    assert find_leaks(by_clip([("mixed", one_frame_of_many)]), held_out)


def test_other_scenes_and_flat_frames_are_no_leak() -> None:
    held_out = by_clip([("street", scene(1)), ("black", np.full((2, 180, 320), 16, np.uint8))])
    others = by_clip([("other", scene(2)), ("dark", np.full((2, 180, 320), 17, np.uint8))])
    assert find_leaks(others, held_out) == []


def shared_clips(*folders: str, key_frames: bool = False) -> dict[str, torch.Tensor]:
    found = {}
    for folder in folders:
        for path in sorted((SHARED / folder).rglob("*.*")):
            if path.is_dir() or path.suffix in (".tsv", ".md"):
                continue
            with av.open(path) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                if key_frames and not is_photo(path):
                    stream.codec_context.skip_frame = "NONKEY"
                frames = [
                    thumbnails(luma_plane(frame)[None])
                    for index, frame in enumerate(decoded(container, stream))
                    if key_frames or index % STRIDE == 0
                ]
            found[path.name] = torch.cat(frames)
    return found


@pytest.mark.skipif(not SHARED.is_dir(), reason="the project's data folder ../shared/data is not here")
def test_no_frame_of_a_held_out_clip_is_among_the_training_clips_and_photographs() -> None:
    held_out = shared_clips("val")
    assert len(held_out) >= 5
    training = shared_clips("train", "photos", key_frames=True)
    assert len(training) >= 300
    assert find_leaks(training, held_out) == []
    assert find_leaks(training | held_out, held_out), "the check finds a clip in itself"
