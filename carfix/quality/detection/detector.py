"""A YOLO detector in an ONNX file, run by onnxruntime: pictures in, boxes in their pixels out."""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carfix.errors import CarfixError, needing
from carfix.quality.detection.boxes import Detections, Floats, without_repeats
from carfix.quality.detection.classes import class_names
from carfix.quality.detection.decoding import Layout, check_scores, check_task, recognised
from carfix.quality.detection.letterbox import FILL, Picture, letterbox

#: Less certain findings are dropped. Average precision needs the uncertain ones, too: COCO's evaluations take
#: thresholds of 0.001 to 0.05; below this one there is hardly anything but noise.
CANDIDATE_SCORE = 0.05

#: Raised whenever a change of this room may change a box: caches depend on it.
DETECTION_VERSION = 1

#: Where a file says that a tensor lies in another one: ONNX's `external_data`, an entry of the key "location" and the
#: length of its value.
_ELSEWHERE = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")

_KINDS = "YOLOX (1xNx85, not decoded) and YOLOv8/11 (1x84xN)"


class Detector:
    """YOLOX (undecoded output) or YOLOv8/11, told apart by the shape of the output.

    Runs on a CUDA device if `device` asks for one (`auto` takes it where onnxruntime has it), else on the CPU.
    Raises `CarfixError` for a file that is no such detector, `MissingPartError` without onnxruntime.
    """

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        self.path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CarfixError(f"cannot read the detector {path}: {error.strerror or error}") from error
        if beside := _ELSEWHERE.search(data):
            name = data[beside.end() :][: beside[1][0]].decode(errors="replace")
            raise CarfixError(
                f"the numbers of {path} lie in another file, {name}; carfix reads detectors of a single file: "
                "onnx.save(onnx.load(OLD), NEW) makes one of both"
            )
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session, self._provider = _session(path, data, device)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            raise CarfixError(f"{path} is no detector: it does not take one colour picture as float32")
        if not all(isinstance(side, int) and side > 0 for side in shape[2:]):
            raise CarfixError(f"{path} states no fixed size of its input; export the detector with one")
        if isinstance(shape[0], int) and shape[0] != 1:
            raise CarfixError(f"{path} takes {shape[0]} pictures at once; export the detector for one")
        metadata = self._session.get_modelmeta().custom_metadata_map
        check_task(path, metadata)
        self._input = inputs[0].name
        self.height, self.width = shape[2:]
        blank = np.full((1, 3, self.height, self.width), FILL, np.float32)
        # The file may leave the size of its output open: a blank picture tells.
        output = self._run(blank)
        layout = recognised(output.shape, self.width, self.height)
        if layout is None:
            size = "x".join(map(str, output.shape))
            raise CarfixError(
                f"{path} is no detector that carfix knows: its output is {size}; known are {_KINDS}"
            )
        if layout.family == "ultralytics":
            output = self._run(np.full_like(blank, FILL / 255))
        _, scores = layout.decode(output)
        check_scores(path, scores)
        self._layout: Layout = layout
        self.names: Sequence[str] = class_names(layout.classes, metadata)

    @property
    def identity(self) -> str:
        """Changes whenever its findings may change."""
        return f"detector {self.sha256} on {self._provider}, version {DETECTION_VERSION}"

    def detect(self, frame: Picture) -> Detections:
        """The objects with a score of at least `CANDIDATE_SCORE` in an RGB picture `[H, W, 3]`, in its pixels."""
        centred = self._layout.family == "ultralytics"
        boxed = letterbox(frame, width=self.width, height=self.height, centred=centred)
        # YOLOX sees BGR codes, Ultralytics RGB from 0 to 1.
        picture = boxed.picture if centred else boxed.picture[:, :, ::-1]
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)
        if centred:
            planes /= 255
        boxes, scores = self._layout.decode(self._run(planes))
        classes = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), classes]
        chosen = best >= CANDIDATE_SCORE
        corners = (boxes[chosen] - np.array([boxed.left, boxed.top] * 2, np.float32)) / np.float32(
            boxed.ratio
        )
        high = np.array([frame.shape[1], frame.shape[0]] * 2, np.float32)
        found = Detections(np.clip(corners, 0, high), best[chosen], classes[chosen])
        # What lies wholly in the fill has no area left.
        inside = np.nonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1))[0]
        return without_repeats(found[inside])

    def _run(self, planes: Floats) -> Floats:
        try:
            output = self._session.run(None, {self._input: planes})[0]
        except _runtime_errors() as error:
            raise CarfixError(f"the detector {self.path} cannot be run: {_first_line(error)}") from error
        if not isinstance(output, np.ndarray) or output.dtype != np.float32:
            raise CarfixError(f"{self.path} is no detector: its first output is not float32")
        return output


def _session(path: Path, data: bytes, device: str) -> tuple[Any, str]:
    """onnxruntime's session, and where it runs."""
    with needing("a detector", "onnxruntime", 'install it with `pip install "carfix[detect]"`'):
        import onnxruntime as runtime
    providers = ["CPUExecutionProvider"]
    if device == "auto" or device.startswith("cuda"):
        cuda = "CUDAExecutionProvider"
        providers = [cuda] * (cuda in runtime.get_available_providers()) + providers
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about the file's making, not about ours
    # Threads that spin while they wait take the cores from decoder and network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(data, options, providers=providers)
    except _runtime_errors() as error:
        raise CarfixError(f"{path} is no ONNX file that onnxruntime can run: {_first_line(error)}") from error
    return session, session.get_providers()[0]


@functools.cache
def _runtime_errors() -> tuple[type[Exception], ...]:
    """All that onnxruntime raises: each kind is an exception of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
