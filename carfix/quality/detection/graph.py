"""A detector's ONNX file as a function of torch tensors: what a training sends gradients through.

onnxruntime only computes forwards. The operators are those that exported YOLO detectors consist of; what they mean is
the ONNX specification's (https://onnx.ai/onnx/operators/).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from carfix.errors import CarfixError, needing

#: A node's inputs, None where one is left out, and its attributes.
Operator = Callable[[list[Tensor | None], Mapping[str, Any]], Tensor | tuple[Tensor, ...]]


class Graph:
    """What an ONNX file computes from one input, for batches of any size where it was exported for one picture.

    Raises `CarfixError` for a file that is no ONNX or has operators that are not known here, `MissingPartError` without
    the package onnx.
    """

    def __init__(self, path: Path) -> None:
        with needing("training with a detector", "onnx", 'install it with `pip install "carfix[export]"`'):
            import onnx
            from onnx import numpy_helper
        try:
            model = onnx.load(str(path))
        except OSError as error:
            raise CarfixError(f"cannot read the detector {path}: {error.strerror or error}") from error
        except Exception as error:  # protobuf's own, which is no class of onnx
            raise CarfixError(f"{path} is no ONNX file") from error
        #: What the file states of itself.
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        graph = model.graph
        self._constants = {
            value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in graph.initializer
        }
        self._nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        for node in graph.node:
            settings = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
            if node.op_type == "Constant":
                value = numpy_helper.to_array(settings["value"])
                self._constants[node.output[0]] = torch.from_numpy(value.copy())
                continue
            if node.op_type not in OPERATORS:
                raise CarfixError(
                    f"{path} computes with {node.op_type}, through which carfix cannot train; known are "
                    f"{', '.join(sorted(OPERATORS))}"
                )
            self._nodes.append((node.op_type, list(node.input), list(node.output), settings))
        taken = [value for value in graph.input if value.name not in self._constants]
        if len(taken) != 1 or not graph.output:
            raise CarfixError(f"{path} is no detector: it does not take one picture")
        self._input = taken[0].name
        #: Of the input; 0 where the file leaves a size open.
        self.shape = [size.dim_value for size in taken[0].type.tensor_type.shape.dim]
        self._output = graph.output[0].name
        self.features = self._heads()

    def _heads(self) -> list[str]:
        """What the last convolutions are given: no other lies between these and the output."""
        maker = {name: node for node in self._nodes for name in node[2]}
        found: list[str] = []
        seen: set[str] = set()
        open_ = [self._output]
        while open_:
            name = open_.pop()
            if name in seen or name not in maker:
                continue
            seen.add(name)
            kind, inputs, _, _ = maker[name]
            if kind != "Conv":
                open_ += inputs
            elif inputs[0] not in found:
                found.append(inputs[0])
        return found

    def __call__(self, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
        """`[N, 3, H, W]` to `features` and the output."""
        for name, constant in self._constants.items():
            self._constants[name] = constant.to(pictures.device)
        values: dict[str, Tensor] = {self._input: pictures}
        for kind, inputs, outputs, settings in self._nodes:
            arguments = [self._constants.get(name, values.get(name)) if name else None for name in inputs]
            result = OPERATORS[kind](arguments, settings)
            results = result if isinstance(result, tuple) else (result,)
            values |= dict(zip(outputs, results, strict=False))
        return [values[name] for name in self.features], values[self._output]


def _given(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _numbers(value: Tensor | None) -> list[int]:
    return [int(number) for number in _given(value).tolist()]


def _symmetric(pads: Sequence[int]) -> list[int]:
    half = len(pads) // 2
    if list(pads[:half]) != list(pads[half:]):
        raise CarfixError("the detector pads one side more than the other, through which carfix cannot train")
    return list(pads[:half])


def _convolution(x: list[Tensor | None], settings: Mapping[str, Any]) -> Tensor:
    weights = _given(x[1])
    dimensions = weights.dim() - 2
    return functional.conv2d(
        _given(x[0]),
        weights,
        x[2] if len(x) > 2 else None,
        stride=settings.get("strides", [1] * dimensions),
        padding=_symmetric(settings.get("pads", [0] * 2 * dimensions)),
        dilation=settings.get("dilations", [1] * dimensions),
        groups=settings.get("group", 1),
    )


def _pooled(pool: Callable[..., Tensor]) -> Operator:
    def operator(x: list[Tensor | None], settings: Mapping[str, Any]) -> Tensor:
        size = settings["kernel_shape"]
        pads = _symmetric(settings.get("pads", [0] * 2 * len(size)))
        return pool(_given(x[0]), size, settings.get("strides", [1] * len(size)), pads)

    return operator


def _resized(x: list[Tensor | None], settings: Mapping[str, Any]) -> Tensor:
    picture = _given(x[0])
    if settings.get("mode", b"nearest") != b"nearest":
        raise CarfixError(
            "the detector resizes by other than the nearest pixel, through which carfix cannot train"
        )
    if len(x) > 3 and x[3] is not None:
        return functional.interpolate(picture, _numbers(x[3])[2:], mode="nearest")
    factors = [float(number) for number in _given(x[2]).tolist()[2:]]
    return functional.interpolate(picture, scale_factor=factors, mode="nearest")


def _sliced(x: list[Tensor | None], _: Mapping[str, Any]) -> Tensor:
    value = _given(x[0])
    starts, ends = _numbers(x[1]), _numbers(x[2])
    axes = _numbers(x[3]) if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = _numbers(x[4]) if len(x) > 4 and x[4] is not None else [1] * len(starts)
    places: list[slice] = [slice(None)] * value.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places[axis] = slice(start, end, step)
    return value[tuple(places)]


def _split(x: list[Tensor | None], settings: Mapping[str, Any]) -> tuple[Tensor, ...]:
    value, axis = _given(x[0]), settings.get("axis", 0)
    sizes = _numbers(x[1]) if len(x) > 1 and x[1] is not None else settings.get("split")
    if sizes is None:
        sizes = [value.shape[axis] // settings["num_outputs"]] * settings["num_outputs"]
    return torch.split(value, list(sizes), axis)


def _joined(x: list[Tensor | None], settings: Mapping[str, Any]) -> Tensor:
    parts, axis = [_given(part) for part in x], settings["axis"]
    count = max(len(part) for part in parts)
    if axis != 0:  # constants are those of one picture
        parts = [part.expand(count, *part.shape[1:]) if len(part) == 1 else part for part in parts]
    return torch.cat(parts, axis)


def _reshaped(x: list[Tensor | None], _: Mapping[str, Any]) -> Tensor:
    value, shape = _given(x[0]), _numbers(x[1])
    shape = [value.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    if shape[0] == 1:
        shape[0] = len(value)  # exported for one picture
    return value.reshape(shape)


#: What each operator does.
OPERATORS: dict[str, Operator] = {
    "AveragePool": _pooled(functional.avg_pool2d),
    "Add": lambda x, _: _given(x[0]) + _given(x[1]),
    "Concat": _joined,
    "Conv": _convolution,
    "Div": lambda x, _: _given(x[0]) / _given(x[1]),
    "Gather": lambda x, settings: _given(x[0]).index_select(settings.get("axis", 0), _given(x[1]).flatten()),
    "Identity": lambda x, _: _given(x[0]),
    "LeakyRelu": lambda x, settings: functional.leaky_relu(_given(x[0]), settings.get("alpha", 0.01)),
    "MatMul": lambda x, _: _given(x[0]) @ _given(x[1]),
    "MaxPool": _pooled(functional.max_pool2d),
    "Mul": lambda x, _: _given(x[0]) * _given(x[1]),
    "Relu": lambda x, _: functional.relu(_given(x[0])),
    "Reshape": _reshaped,
    "Resize": _resized,
    "Sigmoid": lambda x, _: torch.sigmoid(_given(x[0])),
    "Slice": _sliced,
    "Softmax": lambda x, settings: torch.softmax(_given(x[0]), settings.get("axis", -1)),
    "Split": _split,
    "Sub": lambda x, _: _given(x[0]) - _given(x[1]),
    "Transpose": lambda x, settings: _given(x[0]).permute(settings["perm"]),
}
