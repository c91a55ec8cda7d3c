"""A frame brought into the fixed size that a detector takes, its aspect kept, the rest filled."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [H, W, 3], RGB

#: The grey that YOLO detectors are trained with around their pictures.
FILL = 114


@dataclasses.dataclass(frozen=True)
class Letterboxed:
    """A picture in a detector's size, and the way back."""

    picture: Picture
    ratio: float  # pixels of it for a pixel of the frame
    left: int  # where the frame begins in it
    top: int


def letterbox(frame: Picture, *, width: int, height: int, centred: bool) -> Letterboxed:
    """`frame` scaled to fit `width` x `height`, filled with `FILL`.

    YOLOX puts the frame into the top left corner (`preproc` of yolox/data/data_augment.py), Ultralytics into the
    centre (`LetterBox` of ultralytics/data/augment.py). Both scale as OpenCV's INTER_LINEAR does: bilinear between
    pixel centres, without smoothing when it shrinks, which torch computes alike.
    """
    ratio = min(height / frame.shape[0], width / frame.shape[1])
    # YOLOX cuts the size to whole pixels, Ultralytics rounds it. Neither lets a thin frame vanish here.
    whole = round if centred else int
    rows, columns = (
        max(1, min(whole(side * ratio), most))
        for side, most in zip(frame.shape, (height, width), strict=False)
    )
    left, top = ((width - columns) // 2, (height - rows) // 2) if centred else (0, 0)
    canvas = np.full((height, width, 3), FILL, np.uint8)
    canvas[top : top + rows, left : left + columns] = _resized(frame, rows, columns)
    return Letterboxed(canvas, ratio, left, top)


def _resized(frame: Picture, rows: int, columns: int) -> Picture:
    if frame.shape[:2] == (rows, columns):
        return frame
    planes = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))[None].float()
    scaled = torch.nn.functional.interpolate(planes, (rows, columns), mode="bilinear", align_corners=False)
    codes: Picture = scaled.round_().clamp_(0, 255).byte()[0].permute(1, 2, 0).numpy()
    return codes
