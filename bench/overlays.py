"""What restoring does to text that is written into the picture, as a recorder's clock, and to the picture around it.

    python bench/overlays.py ../shared/data/val/uk_motorway_720p.mp4 [-m fast -m medium] [--frames 40] [--after 36]

The clip's luma with a line of text of two sizes is encoded by x264 at several CRFs and restored as `carfix restore`
does it (`--strength auto`) and with corrections taken whole (`--strength 1`). Gains are PSNR over the decoded frames
in dB, of the text's surroundings and of whole frames. With `--after` the text is written into what was encoded at that
CRF and decoded, as an export does it.
"""

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from encoding_cost import luma
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import carfix

SIZES = (14, 24)  # pixels
CRFS = (20, 26, 32, 38, 44)
#: Behind an encoding before.
CRFS_AFTER = (17, 20, 23)
TEXT = "2026-11-27 08:15:33 CAM 04 ENTRANCE"
#: Where it stands, and what of the frame is measured around it.
PLACE, AROUND = (20, 12), 10

Codes = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--after", type=int, help="CRF of an encoding before the text was written")
    options = parser.parse_args()
    models = options.model or ["tiny", "fast", "medium"]
    plain = luma(options.clip)[: options.frames].astype(np.uint8)
    print(
        "| text | CRF | decoded | "
        + " | ".join(f"`{name}`, text | frame | whole, text | frame" for name in models)
        + " |"
    )
    print("| --- | --- | ---: |" + " ---: |" * (4 * len(models)))
    with tempfile.TemporaryDirectory(prefix="carfix-bench-") as folder:
        shown_before = plain
        if options.after is not None:
            encode(first := Path(folder, "first.mp4"), plain, options.after)
            shown_before = luma(first).astype(np.uint8)
        for size in SIZES:
            pristine, region = written(plain, size)
            source, _ = written(shown_before, size)
            for crf in CRFS if options.after is None else CRFS_AFTER:
                video = Path(folder, f"{size}-{crf}.mp4")
                encode(video, source, crf)
                decoded = luma(video)
                cells = []
                for name in models:
                    for strength in (None, 1.0):
                        restored = frames_of(video, name, strength)
                        for part in (region, ...):
                            gain = psnr(restored[part], pristine[part]) - psnr(decoded[part], pristine[part])
                            cells.append(f"{gain:+.2f}")
                shown = psnr(decoded[region], pristine[region])
                print(f"| {size} px | {crf} | {shown:.1f} | " + " | ".join(cells) + " |", flush=True)


def written(plain: Codes, size: int) -> tuple[Codes, tuple[slice, ...]]:
    """`[N, H, W]` with the text, outlined as recorders do it, and the region around it."""
    font = ImageFont.load_default(size=size)
    planes = []
    for plane in plain:
        image = Image.fromarray(plane)
        ImageDraw.Draw(image).text(PLACE, TEXT, font=font, fill=235, stroke_width=1, stroke_fill=16)
        planes.append(np.asarray(image))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(TEXT))
    rows = slice(max(0, PLACE[1] + top - AROUND), PLACE[1] + bottom + AROUND)
    return np.stack(planes), (
        slice(None),
        rows,
        slice(max(0, PLACE[0] + left - AROUND), PLACE[0] + right + AROUND),
    )


def encode(path: Path, planes: Codes, crf: int) -> None:
    """Luma alone, as a camera by night gives it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        assert isinstance(stream, VideoStream)
        _, stream.height, stream.width = planes.shape
        stream.pix_fmt = "yuv420p"
        for plane in planes:
            gray = np.concatenate([plane, np.full((plane.shape[0] // 2, plane.shape[1]), 128, np.uint8)])
            container.mux(stream.encode(VideoFrame.from_ndarray(gray, format="yuv420p")))
        container.mux(stream.encode(None))


def frames_of(video: Path, model: str, strength: float | None) -> Codes:
    """`[N, H, W]`, restored."""
    found = carfix.restored_frames(video, model=model, device="cpu", strength=strength)
    return np.stack([frame.to_ndarray()[: frame.height] for frame in found])


def psnr(one: Codes, other: Codes) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float32) - other) ** 2)))


if __name__ == "__main__":
    main()
