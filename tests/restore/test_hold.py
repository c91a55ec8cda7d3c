from pathlib import Path

import media
import numpy as np
import pytest
from networks import save_awake

from carfix.restore.hold import REACH, Hold, Moves, near
from carfix.restore.one_file import restore_video
from carfix.video.encoder_settings import EncoderSettings


def frames(*changes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two decoded frames that differ at `changes`."""
    first = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    second = first.copy()
    for place in changes:
        second[place] += 1
    return first, second


def test_pixels_are_held_where_the_decoded_picture_repeats_around_them() -> None:
    first, second = frames((0, 0), (10, 15))
    moves, hold = Moves(), Hold()
    restored = np.full_like(first, 7)
    assert hold(moves(first), restored) is restored
    shown = hold(moves(second), restored + 2)
    expected = np.full_like(first, 7)
    expected[: REACH + 1, : REACH + 1] = 9
    expected[10 - REACH : 11 + REACH, 15 - REACH : 16 + REACH] = 9
    assert np.array_equal(shown, expected)
    third = hold(moves(second), restored + 4)
    assert np.array_equal(third, shown), "a repeated frame is shown as before"
    assert (restored == 7).all(), "what the engine gave is not written to"


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 64), (40, 65), (33, 127), (5, 200)])
def test_what_is_near_a_change_is_found_across_words(size: tuple[int, int]) -> None:
    changed = np.random.default_rng(1).random(size) < 0.02
    changed[-1, -1] = changed[0, 0] = True
    expected = np.zeros(size, np.uint8)
    for y, x in zip(*np.nonzero(changed), strict=True):
        expected[max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1] = 1
    assert np.array_equal(near(changed), expected)


def test_nothing_is_held_across_a_reset_or_a_change_of_size() -> None:
    first, second = frames((3, 3))
    moves, hold = Moves(), Hold()
    assert moves(first) is None
    assert moves(second) is not None
    assert moves(second[:10]) is None
    moves.reset()
    assert moves(second[:10]) is None
    hold(None, first)
    assert np.array_equal(hold(None, second + 1), second + 1)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_restored_video_does_not_shimmer_where_nothing_moves(interlaced: bool, tmp_path: Path) -> None:
    """A square moves over a still picture; around it, a network's output would change with it."""

    lossless = {"qp": "0", "preset": "ultrafast", "x264-params": "tff=1" if interlaced else "bframes=0"}
    source = media.write_clip(
        tmp_path / "in.mkv", frames=8, pictures=media.moving_square, interlaced=interlaced, options=lossless
    )
    output = tmp_path / "out.mkv"
    weights = save_awake(tmp_path / "awake.safetensors")
    restore_video(
        source=source, output=output, model=str(weights), encoder=EncoderSettings(codec="ffv1"), device="cpu"
    )
    decoded, restored = media.planes(source), media.planes(output)
    changed = False
    for number in range(1, len(decoded)):
        before, after = decoded[number - 1 : number + 1]
        far = np.ones(before.shape, bool)
        for y, x in zip(*np.nonzero(before != after), strict=True):
            far[max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1] = False
        assert far.any()
        assert np.array_equal(restored[number][far], restored[number - 1][far])
        changed |= not np.array_equal(restored[number], after)
    assert changed, "the network does something"
