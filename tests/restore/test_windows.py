import numpy as np
import pytest

from carfix.errors import UsageError
from carfix.restore.windows import smallest_tile, windows

CASES = [
    (height, width, margin, cell)
    for height, width in ((481, 853), (64, 64), (36, 1000))
    for margin, cell in ((34, 1), (40, 4), (12, 2))
]


@pytest.mark.parametrize(("height", "width", "margin", "cell"), CASES)
def test_kept_parts_cover_each_pixel_once_and_far_from_cuts(
    height: int, width: int, margin: int, cell: int
) -> None:
    height, width = -(-height // cell) * cell, -(-width // cell) * cell
    for tile in {smallest_tile(margin, cell), 100, 128, 257, 480, 852, 1000, 5000}:
        if tile < smallest_tile(margin, cell):
            continue
        found = windows(height, width, tile, margin=margin, cell=cell)
        seen = np.zeros((height, width), int)
        for window in found:
            seen[
                window.rows.keep_start : window.rows.keep_stop,
                window.columns.keep_start : window.columns.keep_stop,
            ] += 1
            for span, length in ((window.rows, height), (window.columns, width)):
                assert 0 <= span.start < span.stop <= length
                assert span.start % cell == 0
                assert span.stop - span.start <= max(tile, cell)
                assert span.start == 0 or span.keep_start - span.start >= margin
                assert span.stop == length or span.stop - span.keep_stop >= margin
        assert (seen == 1).all()
        assert len({w.size for w in found}) == 1


def test_a_window_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 69"):
        windows(200, 200, 68, margin=34, cell=1)


def test_a_frame_smaller_than_the_window_is_one_window() -> None:
    (window,) = windows(48, 64, 256, margin=34, cell=4)
    assert (window.rows.stop, window.columns.stop) == (48, 64)
