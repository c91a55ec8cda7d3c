"""Rivals on the same frames: the network in eager PyTorch and in onnxruntime, and FFmpeg's own filter."""

import copy
import re
import subprocess
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from carfix.cpu import cores
from carfix.errors import CarfixError, MissingPartError, needing
from carfix.net.checkpoint import Model
from carfix.net.config import margin
from carfix.net.export import INPUT, OUTPUT, onnx_model
from carfix.quality.bench.ceilings import DTYPES
from carfix.quality.bench.clip import Sample, batches
from carfix.quality.bench.rounds import Done, Task
from carfix.quality.ffmpeg import FFmpeg, input_arguments
from carfix.quality.spp import PostFilter, filtered_frames
from carfix.restore.engine import Planes
from carfix.restore.windows import windows
from carfix.video.quantizer import EXPORTED_QUANTIZERS

#: Side of the windows that eager PyTorch gets on a CPU, where it is faster so than with whole frames.
EAGER_TILE = 256
#: Frames at a time: what keeps a GPU busy, and what its memory has room for in any network.
MOST_FRAMES = 4
#: What runs onnxruntime's networks on torch's devices.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
#: A rival needs no more than to be compared: half of the usual time.
SHARE = 0.5
#: Qualities of spp: FFmpeg's default, and the best.
SPP_QUALITIES = (3, 6)

#: What ffmpeg's -benchmark tells: seconds of its work, without its start and the opening of the file.
_RTIME = re.compile(r"bench: .*rtime=([\d.]+)s")

#: Planes `[N, H, W]` of a bit depth to restored planes.
Restore = Callable[[Planes, int], Planes]


def eager(model: Model, device: str, precision: str, tile: int | None) -> Restore:
    """The network as a PyTorch user runs it: eagerly, channels last, in windows of `tile` pixels or whole frames."""
    net = copy.deepcopy(model.net).to(device, DTYPES[precision])
    net = net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # torch's stubs lack it
    cell, halo = net.config.scale, margin(net.config)

    def infer(x: Tensor) -> Tensor:
        restored: Tensor = net(x.to(DTYPES[precision]).contiguous(memory_format=torch.channels_last))
        return restored.float()

    @torch.inference_mode()
    def restore(planes: Planes, bit_depth: int) -> Planes:
        top = (1 << bit_depth) - 1
        codes = torch.from_numpy(planes if bit_depth == 8 else planes.astype(np.int32)).to(device)
        unit = codes[:, None].float() * (2.0 / top) - 1.0
        height, width = unit.shape[2:]
        unit = functional.pad(unit, (0, -width % cell, 0, -height % cell), mode="replicate")
        result = torch.empty_like(unit)
        side = tile or max(unit.shape[2:])
        for window in windows(unit.shape[2], unit.shape[3], side, margin=halo, cell=cell):
            y = infer(unit[..., *window.read])
            result[..., *window.kept] = y[..., *window.kept_inside]
        restored = ((result + 1.0) * (top / 2.0)).round_().clamp_(0, top)[:, 0, :height, :width]
        array = restored.cpu().numpy()
        return array.astype(np.uint8) if bit_depth == 8 else array.astype(np.uint16)

    return restore


def onnxruntime(model: Model, device: str) -> Restore:
    """The exported network in onnxruntime, whole frames in fp32, as its users run it.

    Raises `MissingPartError` if the exporter, onnxruntime or its part for `device` is not installed.
    """
    with needing("this", "onnxruntime", "`pip install onnxruntime`"):
        import onnxruntime as runtime
    kind, _, number = device.partition(":")
    provider = PROVIDERS[kind]
    if provider not in runtime.get_available_providers():
        cure = "; `pip install onnxruntime-gpu`" if kind == "cuda" else ""
        raise MissingPartError(f"onnxruntime has no {provider} here{cure}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = len(cores()) if device == "cpu" else 0
    options.log_severity_level = 3  # errors alone: it warns of devices that nobody asked for
    session = runtime.InferenceSession(
        onnx_model(model).SerializeToString(),
        sess_options=options,
        providers=[(provider, {"device_id": number} if number else {})],
    )
    cell = model.config.scale

    def restore(planes: Planes, bit_depth: int) -> Planes:
        top = np.float32((1 << bit_depth) - 1)
        height, width = planes.shape[1:]
        padding = ((0, 0), (0, -height % cell), (0, -width % cell))
        x: NDArray[np.float32] = np.pad(planes, padding, mode="edge")[:, None].astype(np.float32) / top
        (y,) = session.run([OUTPUT], {INPUT: x})
        codes: Planes = np.rint(y[:, 0, :height, :width] * top).astype(planes.dtype)
        return codes

    return restore


def network_peer(name: str, sample: Sample, batch: int, build: Callable[[], Restore]) -> Task:
    """Restores `batch` frames at a time; `build` runs once, in the first run."""
    built: list[Restore] = []

    def run(count: int) -> Done:
        if not built:
            built.append(build())
        for planes in batches(sample.planes, count, batch):
            built[0](planes, sample.luma.bit_depth)
        return Done(count)

    return Task(name=name, run=run, least=batch, share=SHARE, optional=True)


def spp_peer(quality: int, sample: Sample) -> Task:
    """FFmpeg's spp with the stream's own quantizers, from the file, without an output: decoding is in it.

    Raises in the first run, and is left out, where no ffmpeg has a working spp or it changes nothing.
    """
    path = sample.info.path
    post_filter = PostFilter("spp", quality=quality)
    found: list[FFmpeg] = []

    def run(count: int) -> Done:
        if not found:
            # Two frames suffice to see that it filters at all: FFmpeg leaves it out without a word.
            for _ in filtered_frames(path, post_filter, limit=2):
                pass
            found.append(post_filter.find())
        command = [
            *(found[0].path, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-benchmark"),
            *("-export_side_data", f"+{EXPORTED_QUANTIZERS}", *input_arguments(path)),
            *("-map", f"0:{sample.info.stream}", "-vf", post_filter.graph, "-frames:v", str(count)),
            *("-f", "null", "-"),
        ]
        result = subprocess.run(command, capture_output=True, check=False)
        log = result.stderr.decode(errors="replace").strip()
        if result.returncode != 0:
            raise CarfixError(f"ffmpeg failed: {log.splitlines()[-1] if log else result.returncode}")
        seconds = _RTIME.search(log)
        return Done(count, float(seconds[1]) if seconds else None)

    return Task(
        name=f"FFmpeg spp, quality {quality}",
        run=run,
        least=min(4, sample.total),
        most=sample.total,
        share=SHARE,
        optional=True,
    )
