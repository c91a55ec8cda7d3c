from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from carfix.quality.detection.boxes import Detections
from carfix.quality.detection.drawing import class_colour, drawn
from carfix.quality.detection.frames import as_decoded, colour_picture
from carfix.quality.reader import LumaFrame, luma_of


def test_a_box_is_drawn_where_the_object_is_and_nowhere_else() -> None:
    frame = np.full((360, 480, 3), 90, np.uint8)
    found = Detections(
        np.array([[200, 150, 300, 250]], np.float32), np.array([0.5], np.float32), np.array([2], np.int64)
    )
    picture = drawn(frame, found, ["person", "bicycle", "car"], "decoded")
    assert (frame == 90).all()
    changed = (picture != 90).any(axis=2)
    assert (picture[200, 200] == class_colour(2)).all() and (picture[249, 250] == class_colour(2)).all()
    assert not changed[151:249, 201:299].any()  # the object stays visible
    changed[:20, :80] = False  # the caption
    rows, columns = np.nonzero(changed)
    assert (columns.min(), rows.max()) == (200, 249)


def test_labels_stay_in_the_picture() -> None:
    frame = np.full((60, 80, 3), 90, np.uint8)
    found = Detections(
        np.array([[78, 0, 80, 3], [0, 58, 80, 60]], np.float32), np.full(2, 0.5, np.float32), np.array([0, 1])
    )
    assert drawn(frame, found, ["traffic light", "a name wider than the picture"], "x").shape == frame.shape


def test_the_detector_sees_colour_with_the_luma_that_is_shown() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 200
    picture = VideoFrame.from_ndarray(red, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU601
    )
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    luma, depth = luma_of(picture)
    shown = LumaFrame(luma=luma + np.uint8(20), bit_depth=depth, time=0.0, picture=picture)
    before = colour_picture(as_decoded(shown))
    after = colour_picture(shown)
    assert abs(before.astype(int) - red).max() <= 4
    # 20 codes of luma more are 23 of each primary.
    assert (
        abs(after.astype(int)[:, :, 1:] - 23).max() <= 5 and abs(after[:, :, 0].astype(int) - 223).max() <= 5
    )
