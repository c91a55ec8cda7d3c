"""A loss that a detector sees: restored patches should show it what the pristine ones do.

Two parts, of patches scaled to the detector's input as gray pictures:

* what its last convolutions are given: the mean absolute difference from the pristine patch's, over their mean size;
* the scores of all cells and classes: cross entropy, weighed by how far a score is off (quality focal loss with beta 1,
  Li et al., "Generalized Focal Loss", NeurIPS 2020), over the sum of the pristine patch's scores.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from carfix.errors import CarfixError, UsageError
from carfix.quality.detection.decoding import check_scores, check_task, recognised
from carfix.quality.detection.frames import BLACK, WHITE
from carfix.quality.detection.graph import Graph
from carfix.quality.detection.letterbox import FILL

#: Pixels of the detector's input for a pixel of a patch, at most: larger ones are blur.
_LARGEST_RATIO = 4.0
#: Scores nearer to 0 and 1 than this have no logarithm worth a gradient.
_LEAST_SCORE = 1e-6


class DetectorLoss:
    """`weight` times the difference that a detector sees between restored and pristine patches.

    Raises `CarfixError` for a file that is no detector that carfix knows, `MissingPartError` without the package onnx,
    `UsageError` for patches too small to see objects in.
    """

    name = "detector"

    def __init__(self, path: Path, *, weight: float, patch: int) -> None:
        self._graph = Graph(path)
        check_task(path, self._graph.metadata)
        shape = self._graph.shape
        if len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
            raise CarfixError(f"{path} is no detector of a fixed size: its input is {shape}")
        self._height, self._width = shape[2:]
        self._side = min(self._height, self._width)
        if self._side > _LARGEST_RATIO * patch:
            least = -(-self._side // int(_LARGEST_RATIO))
            raise UsageError(
                f"--patch {patch} is too small for a detector of {self._width}x{self._height} pixels to see objects "
                f"in; give {least} or more, 160 to 320 if frames are as large"
            )
        self._weight = weight
        self._sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        blank = torch.full((1, 3, self._height, self._width), float(FILL))
        with torch.no_grad():
            _, output = self._graph(blank)
        layout = recognised(tuple(output.shape), self._width, self._height)
        if layout is None:
            raise CarfixError(f"{path} is no detector that carfix knows: its output is {tuple(output.shape)}")
        self._layout = layout
        if layout.family == "ultralytics":
            with torch.no_grad():
                _, output = self._graph(blank / 255)
        check_scores(path, layout.scores(output))

    def record(self) -> dict[str, Any]:
        """What decides the outcome of a training."""
        return {"detector": self._sha256, "detector_weight": self._weight}

    def __call__(self, restored: Tensor, pristine: Tensor) -> Tensor:
        """The loss of patches `[N, 1, P, P]` in [-1, 1]; of `restored`, gradients."""
        with torch.no_grad():
            wanted_features, wanted = self._seen(pristine)
        features, scores = self._seen(restored)
        distances = [
            (found - sought).abs().mean() / (sought.abs().mean() + _LEAST_SCORE)
            for found, sought in zip(features, wanted_features, strict=True)
        ]
        distance = torch.stack(distances).mean() if distances else scores.new_zeros(())
        bounded = scores.clamp(_LEAST_SCORE, 1 - _LEAST_SCORE)
        entropy = functional.binary_cross_entropy(bounded, wanted, reduction="none")
        focal = (entropy * (bounded.detach() - wanted).abs()).sum() / (1 + wanted.sum())
        return self._weight * (distance + focal)

    def _seen(self, patches: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features, and scores in [0, 1]."""
        codes = (patches + 1) * (255 / 2)
        gray = ((codes - BLACK) * (255 / (WHITE - BLACK))).clamp(0, 255)
        gray = functional.interpolate(gray, (self._side, self._side), mode="bilinear", align_corners=False)
        right, below = self._width - self._side, self._height - self._side
        gray = functional.pad(gray, (0, right, 0, below), value=float(FILL))
        if self._layout.family == "ultralytics":
            gray = gray / 255
        features, output = self._graph(gray.expand(-1, 3, -1, -1))
        return features, self._layout.scores(output).clamp(0, 1)
