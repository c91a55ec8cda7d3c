"""Names of what detectors find."""

import ast
import contextlib
from collections.abc import Mapping, Sequence

#: The 80 classes of COCO in the order in which detectors trained on it number them.
COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase"),
    *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard"),
    *("surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    *("banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard"),
    *("cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase"),
    *("scissors", "teddy bear", "hair drier", "toothbrush"),
)


def class_names(count: int, metadata: Mapping[str, str]) -> Sequence[str]:
    """Names of a detector's `count` classes: those its file states (as Ultralytics writes them), COCO's, or numbers."""
    stated: object = None
    with contextlib.suppress(ValueError, SyntaxError):  # someone else's field of that name
        stated = ast.literal_eval(metadata.get("names", ""))
    if isinstance(stated, dict) and set(stated) == set(range(count)):
        return [str(stated[number]) for number in range(count)]
    return COCO if count == len(COCO) else [f"class {number}" for number in range(count)]
