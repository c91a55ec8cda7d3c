"""What gpu_speed measures besides the network: ceilings, peers in plain PyTorch, the picture, and a whole restore."""

import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.codec.context import ThreadType
from torch import Tensor

from carfix.net.arch import RestorationNet, convolution_layers
from carfix.net.config import multiply_adds_per_pixel
from carfix.restore.engine import Engine, Planes
from carfix.restore.engine.cuda_streams import Queues, seconds_of
from carfix.restore.engine.overlap import begin, in_order
from carfix.restore.engine.torch_engine import DTYPES
from carfix.restore.one_file import restore_video
from carfix.video.encoder_settings import EncoderSettings

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
DECODED, PRISTINE = DATA / "highway.mp4", DATA / "highway_pristine.mp4"
PRESET = "ultrafast"
CRF = "17"  # carfix restore's own


def matrix_rate(device: torch.device, precision: str, queues: Queues, side: int) -> float:
    """Operations a second of a product of square matrices, a multiplication and an addition being two."""
    a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / seconds_of(lambda: torch.mm(a, b, out=out), queues, least=0.2, rounds=3)


def copy_rate(device: torch.device, queues: Queues, size: int) -> float:
    """Bytes a second, read and written ones counted."""
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / seconds_of(lambda: b.copy_(a), queues, least=0.2, rounds=3)


def ceilings(
    net: RestorationNet, height: int, width: int, *, itemsize: int, operations: float, transfer: float
) -> tuple[float, float]:
    """Frames a second if arithmetic alone took time, and if every layer also read and wrote its maps once."""
    pixels = height * width
    least = 0.0
    for layer in convolution_layers(net):
        here = pixels / net.config.scale**2
        compute = 2 * layer.weight.numel() * here / operations
        least += max(compute, (layer.in_channels + layer.out_channels) * itemsize * here / transfer)
    return operations / (2 * multiply_adds_per_pixel(net.config) * pixels), 1 / least


def plain_pytorch(net: RestorationNet, device: torch.device, precision: str) -> Callable[[Tensor], Tensor]:
    """What a few lines of PyTorch do: the whole frame, no compiler, no graph, codes on the device already."""
    own = copy.deepcopy(net).to(device, DTYPES[precision]).eval()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # another stream will run it

    def restore(codes: Tensor) -> Tensor:
        with torch.inference_mode():
            y = own((codes[:, None].float() * (2 / 255) - 1).to(DTYPES[precision]))
            return ((y.float() + 1) * 127.5).round().to(torch.uint8)

    return restore


def luma_of(path: Path, count: int) -> Planes:
    """The first frames of a clip."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray()[: f.height] for f in itertools.islice(container.decode(video=0), count)]
    return np.stack(frames)


def psnr(one: Planes, other: Planes) -> float:
    """Mean over frames, in dB."""
    errors = ((one.astype(float) - other) ** 2).mean(axis=(1, 2))
    return float((10 * np.log10(255**2 / errors)).mean())


def overlapped_rate(engine: Engine, planes: Planes, count: int) -> float:
    """Planes a second through the engine, codes in host memory to codes in host memory, as many as a pipeline has."""
    size = engine.batch
    planes = planes[np.arange(size) % len(planes)]
    batches = max(1, count // size)
    engine.restore(planes, 8)
    began = time.perf_counter()
    for _ in in_order(engine, (begin(engine, planes, 8) for _ in range(batches))):
        pass
    return batches * size / (time.perf_counter() - began)


def _frames(path: Path, width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    """The sample clip in another size, forth again and again."""
    with av.open(str(path)) as container:
        sized = [f.reformat(width, height, "yuv420p") for f in container.decode(video=0)]
    for index, frame in enumerate(itertools.islice(itertools.cycle(sized), count)):
        frame.pts, frame.time_base = index, Fraction(1, 25)
        yield frame


def _encode(path: Path, frames: Iterator[av.VideoFrame], width: int, height: int, crf: str) -> int:
    count = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": PRESET, "crf": crf})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_type = ThreadType.AUTO  # as carfix sets its encoders
        for frame in frames:
            frame.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def end_to_end(engine: Engine, width: int, height: int, frames: int) -> dict[str, float | str]:
    """Frames a second of `carfix restore -preset ultrafast`, and of each of its stages alone."""
    with tempfile.TemporaryDirectory(prefix="carfix-gpu-") as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        _encode(clip, _frames(DECODED, width, height, frames), width, height, "35")
        rates: dict[str, float] = {}
        began = time.perf_counter()
        with av.open(str(clip)) as container:
            container.streams.video[0].thread_type = "AUTO"
            decoded = [f for f in container.decode(video=0)]
        rates["decode"] = len(decoded) / (time.perf_counter() - began)
        began = time.perf_counter()
        _encode(folder / "again.mp4", iter(decoded), width, height, CRF)
        rates["encode"] = len(decoded) / (time.perf_counter() - began)
        planes = np.stack([f.to_ndarray()[:height] for f in decoded[: engine.batch]])
        rates["network"] = overlapped_rate(engine, planes, frames)
        began = time.perf_counter()
        report = restore_video(
            source=clip,
            output=folder / "restored.mp4",
            model=engine,
            encoder=EncoderSettings(preset=PRESET),
            resume=False,
        )
        rates["restore"] = report.frames / (time.perf_counter() - began)
    slowest = min(("decode", "encode", "network"), key=lambda stage: rates[stage])
    return {**rates, "slowest": slowest, "of_slowest": rates["restore"] / rates[slowest]}
