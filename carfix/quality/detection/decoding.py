"""What the two families of YOLO detectors put out, as boxes and scores."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from carfix.errors import CarfixError
from carfix.quality.detection.boxes import Floats

Family = Literal["yolox", "ultralytics"]

#: Pixels between neighbouring cells of the three grids.
STRIDES = (8, 16, 32)

#: YOLOX: centre x and y, the logarithms of width and height, whether there is an object; then the classes.
YOLOX_LEADING = 5
#: Ultralytics: centre x and y, width and height; then the classes.
ULTRALYTICS_LEADING = 4

#: What Ultralytics calls detection in the metadata of its files.
_TASK = "detect"
#: Of scores in half precision.
_ROUNDING = 1e-3

#: exp(10) cells of the finest grid are 176,000 pixels: no box. Larger numbers are no logarithms but pixels.
LARGEST_LOGARITHM = 10.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the numbers of a detector's output are to be read."""

    family: Family
    classes: int
    width: int  # of the detector's input, pixels
    height: int

    def decode(self, output: Floats) -> tuple[Floats, Floats]:
        """Corners `[N, 4]`, in pixels of the input, and scores `[N, C]` from a raw output.

        That is `[1, N, 5 + C]` of YOLOX, `[1, 4 + C, N]` of Ultralytics. Raises `CarfixError` for decoded YOLOX.
        """
        scores = self.scores(output)[0]
        if self.family == "ultralytics":
            rows = output[0].T
            return _corners(rows[:, :2], rows[:, 2:4]), scores
        rows = output[0]
        if rows[:, 2:4].max() > LARGEST_LOGARITHM:
            raise CarfixError(
                "the detector's boxes are decoded already, which a YOLOX file does not tell by its shape; export it "
                "without --decode_in_inference"
            )
        cells, strides = _grid(self.width, self.height)
        boxes = _corners((rows[:, :2] + cells) * strides, np.exp(rows[:, 2:4]) * strides)
        return boxes, scores

    def scores(self, output: Any) -> Any:  # noqa: ANN401 - an array of numpy or a tensor of torch, as it is given
        """Scores `[B, N, C]` from a raw output of B pictures."""
        if self.family == "ultralytics":
            return output[:, ULTRALYTICS_LEADING:].swapaxes(1, 2)
        return output[..., 4:5] * output[..., YOLOX_LEADING:]


def recognised(shape: tuple[int, ...], width: int, height: int) -> Layout | None:
    """The layout of an output of this shape, None if no detector that is known here has it."""
    cells = sum((width // stride) * (height // stride) for stride in STRIDES)
    if len(shape) != 3 or shape[0] != 1:
        return None
    if shape[1] == cells and shape[2] > YOLOX_LEADING:
        return Layout("yolox", shape[2] - YOLOX_LEADING, width, height)
    if shape[2] == cells and shape[1] > ULTRALYTICS_LEADING:
        return Layout("ultralytics", shape[1] - ULTRALYTICS_LEADING, width, height)
    return None


def check_task(path: Path, metadata: Mapping[str, str]) -> None:
    """Raises `CarfixError` if the file states that it is one of Ultralytics' other networks.

    Key points, masks and angles stand where a detector has further classes.
    """
    if (task := metadata.get("task", _TASK)) != _TASK:
        raise CarfixError(f"{path} is no detector but of Ultralytics' task {task!r}; export one of {_TASK!r}")


def check_scores(path: Path, scores: Any) -> None:  # noqa: ANN401 - an array of numpy or a tensor of torch
    """Raises `CarfixError` for what cannot be scores, such as those of networks that do not state their task."""
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise CarfixError(
            f"{path} is no detector that carfix knows: what should be scores runs from {low:.3g} to {high:.3g}, "
            "not from 0 to 1"
        )


def _corners(centres: Floats, sizes: Floats) -> Floats:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _grid(width: int, height: int) -> tuple[Floats, Floats]:
    """Column and row of each cell, `[N, 2]`, and its stride, `[N, 1]`: grid by grid, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
