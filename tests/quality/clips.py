"""Small clips that tests of the quality room encode for themselves."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from carfix.net.arch import build
from carfix.net.checkpoint import Description, save_checkpoint
from carfix.net.config import FastConfig
from carfix.quality.metrics import measure
from carfix.quality.reader import read_frames
from carfix.video.manifest import Clip, Manifest, Variant, write_manifest

Luma = NDArray[np.uint8]
#: Of the clips that are compared.
FRAMES = 9


def moving_picture(frames: int, width: int = 96, height: int = 64, seed: int = 0) -> Luma:
    """Texture that slides over a static left half, `[N, H, W]`."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 30, (height // 4 + 1, (width + frames) // 4 + 1))
    texture = np.kron(rough, np.ones((4, 4)))[:height] + rng.normal(0, 3, (height, 1))
    y, x = np.mgrid[:height, :width]
    still = 128 + 50 * np.sin(x / 5) * np.cos(y / 7) + 20 * ((x // 8 + y // 8) % 2)
    planes = np.stack(
        [np.where(x < width // 2, still, 128 + texture[:, i : i + width]) for i in range(frames)]
    )
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    planes: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times: Iterable[int] | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Encode luma `[N, H, W]` with flat chroma; `times` are presentation times in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width = planes.shape[1:]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        clock = list(times) if times is not None else [round(1000 * i / rate) for i in range(len(planes))]
        for luma, time in zip(planes, clock, strict=True):
            frame = av.VideoFrame(luma.shape[1], luma.shape[0], pix_fmt)
            for index, plane in enumerate(frame.planes):
                words = np.frombuffer(memoryview(plane), luma.dtype).reshape(plane.height, -1)
                words[:] = 1 << (7 if luma.dtype == np.uint8 else 9)
                if index == 0:
                    words[:, : plane.width] = luma
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damage_packets(path: Path, source: Path, numbers: Iterable[int], *, whole: bool = True) -> Path:
    """Write the clip `source` to `path` with the video packets of these `numbers` overwritten by ones, or but for the
    `whole` of each a few bytes in its middle.
    """
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos]
    for number in numbers:
        packet = packets[number]
        first, last = (4, packet.size) if whole else (packet.size // 2, packet.size // 2 + 9)
        content[packet.pos + first : packet.pos + last] = b"\xff" * (last - first)
    path.write_bytes(content)
    return path


def luma_of_file(path: Path) -> Luma:
    """All luma of a file, `[N, H, W]`."""
    return np.stack([frame.luma for frame in read_frames(path)])


def write_dataset(folder: Path, clips: int = 2, frames: int = 5, crfs: tuple[int, ...] = (29, 41)) -> Path:
    """A dataset of the split val, as `carfix dataset` lays it out."""
    found = {}
    for number in range(clips):
        name = f"clip{number}"
        (folder / "clips" / name).mkdir(parents=True)
        planes = moving_picture(frames, seed=number)
        write_clip(folder / f"clips/{name}/pristine.mkv", planes, codec="ffv1", pix_fmt="gray")
        variants = {}
        for crf in crfs:
            file = f"clips/{name}/crf{crf}-none.mp4"
            path = write_clip(folder / file, planes, options={"crf": str(crf), "threads": "1"})
            quality = measure(planes, luma_of_file(path))
            variants[f"crf{crf}-none"] = Variant(
                name=f"crf{crf}-none",
                file=file,
                encoder={"codec": "libx264", "crf": crf},
                bytes=path.stat().st_size,
                psnr=float(quality.psnr.mean()),
                ssim=float(quality.ssim.mean()),
            )
        found[name] = Clip(
            name=name,
            split="val",
            source="generated",
            source_sha256="0" * 64,
            licence="CC0",
            still=False,
            frames=frames,
            width=planes.shape[2],
            height=planes.shape[1],
            fps="25",
            pristine=f"clips/{name}/pristine.mkv",
            settings={},
            variants=variants,
        )
    write_manifest(folder, Manifest(carfix="0", clips=found))
    return folder


def write_model(
    path: Path,
    name: str = "tiny",
    *,
    bias: float = 0.0,
    gains: Mapping[str, float] | None = None,
    licence: str = "CC0-1.0",
) -> Path:
    """Weights of a small network that adds `bias` (in the range -1 to 1) to every pixel."""
    net = build(FastConfig(scale=2, features=4, blocks=1))
    if bias:
        last = [module for module in net.modules() if hasattr(module, "weight")][-1]
        last.bias.data.fill_(bias)  # type: ignore[union-attr, operator]
    description = Description(
        name=name,
        config=net.config,
        loss="mse",
        steps=0,
        training_data="none",
        gains={"psnr": 0.25, "ssim": 0.01} if gains is None else dict(gains),
        licence=licence,
    )
    save_checkpoint(path, net, description)
    return path
