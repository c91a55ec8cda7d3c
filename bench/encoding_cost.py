"""What encoding the restored video takes back of the gain, and what it weighs, for some settings of the encoder.

    carfix dataset ../shared/data/val val --size 512x-2 --frames 60 --split test
    python bench/encoding_cost.py val [--model fast] [--only default,psy] [--variants crf29-1500k,...]

Each variant is restored with each setting. Gains are PSNR over the decoded variant, luma against the pristine clip, in
the mean of clips; sizes are shares of the input's (their geometric mean); processor time is milliseconds a megapixel,
of encoding the last clip's last variant.
"""

import argparse
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from carfix.net.catalog import load_model
from carfix.quality.metrics import measure
from carfix.quality.reader import read_frames
from carfix.restore.engine import Planes, open_engine
from carfix.restore.one_file import restore_video
from carfix.video.convert import convert
from carfix.video.encoder import resolve_encoding
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.sink import SegmentWriter
from carfix.video.source import probe

#: What the others are measured beside.
UNCOMPRESSED = "not compressed"
SETTINGS = {
    UNCOMPRESSED: EncoderSettings(codec="rawvideo"),
    "the default: x264, CRF 17, medium": EncoderSettings(),
    **{f"`-crf {crf}`": EncoderSettings(crf=crf) for crf in (20, 15, 13, 11)},
    "`-preset slow`": EncoderSettings(preset="slow"),
    "`-preset faster`": EncoderSettings(preset="faster"),
    "`-preset veryfast`": EncoderSettings(preset="veryfast"),
    "`-preset veryfast -crf 14`": EncoderSettings(crf=14, preset="veryfast"),
    "`-preset ultrafast`": EncoderSettings(preset="ultrafast"),
    "`-x psy=0`": EncoderSettings(options={"psy": "0"}),
    "`-preset faster -x psy=0 -x rc-lookahead=40 -x refs=1`": EncoderSettings(
        preset="faster", options={"psy": "0", "rc-lookahead": "40", "refs": "1"}
    ),
    "`-tune psnr -crf 18.5`": EncoderSettings(crf=18.5, tune="psnr"),
    "`-pix_fmt yuv420p10le`": EncoderSettings(pix_fmt="yuv420p10le"),
    "`-pix_fmt yuv420p10le -preset veryfast -crf 15`": EncoderSettings(
        crf=15, preset="veryfast", pix_fmt="yuv420p10le"
    ),
    "`-c:v libx265 -crf 18`": EncoderSettings(codec="libx265", crf=18),
    "`-c:v libx265 -crf 20 -pix_fmt yuv420p10le`": EncoderSettings(
        codec="libx265", crf=20, pix_fmt="yuv420p10le"
    ),
    "`-c:v libsvtav1 -crf 20 -preset 6`": EncoderSettings(codec="libsvtav1", crf=20, preset="6"),
}


@dataclasses.dataclass
class Row:
    """What a setting gave, a variant each."""

    gains: list[float] = dataclasses.field(default_factory=list)
    sizes: list[float] = dataclasses.field(default_factory=list)
    times: list[float] = dataclasses.field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--variants", default="crf29-1500k,crf35-1500k,crf41-1000k")
    parser.add_argument("--rounds", type=int, default=3, help="of timing")
    parser.add_argument("--only", default="", help="settings whose names have one of these in them")
    options = parser.parse_args()
    for name in list(SETTINGS):
        if name != UNCOMPRESSED and not any(part in name for part in options.only.split(",")):
            del SETTINGS[name]
    variants = options.variants.split(",")
    rows = {name: Row() for name in SETTINGS}
    clips = sorted(path for path in (options.dataset / "clips").iterdir() if path.is_dir())
    engine = open_engine(load_model(options.model), device="cpu")
    with tempfile.TemporaryDirectory(prefix="carfix-bench-") as folder:
        for clip, variant in itertools.product(clips, variants):
            print(clip.name, variant, file=sys.stderr)
            source, pristine = clip / f"{variant}.mp4", luma(clip / "pristine.mkv")
            decoded = psnr(luma(source), pristine)
            for name, settings in SETTINGS.items():
                output = Path(folder) / ("restored.nut" if name == UNCOMPRESSED else "restored.mkv")
                restore_video(source=source, output=output, model=engine, encoder=settings, overwrite=True)
                row = rows[name]
                row.gains.append(psnr(luma(output), pristine) - decoded)
                row.sizes.append(output.stat().st_size / source.stat().st_size)
        engine.close()
        for _, name in itertools.product(range(options.rounds), SETTINGS):
            rows[name].times.append(encoding_time(source, SETTINGS[name], Path(folder)))
    show(rows, variants)


def show(rows: dict[str, Row], variants: Sequence[str]) -> None:
    """A Markdown table."""
    plain = rows[UNCOMPRESSED]
    print("| encoder | " + " | ".join(variants) + " | all | size | ms a megapixel |")
    print("| --- |" + " ---: |" * (len(variants) + 3))
    for name, row in rows.items():
        by_variant = np.array(row.gains).reshape(-1, len(variants)).mean(axis=0)
        cells = [f"{gain:+.2f}" for gain in (*by_variant, np.mean(row.gains))]
        size = np.exp(np.mean(np.log(row.sizes)))
        cells += ["", ""] if row is plain else [f"{size:.1f} x", f"{1000 * statistics.median(row.times):.0f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


def encoding_time(source: Path, settings: EncoderSettings, folder: Path) -> float:
    """Processor seconds a megapixel, of all threads; frames are decoded and converted beforehand."""
    info = probe(source)
    encoding = resolve_encoding(info, settings)
    with av.open(str(source)) as container:
        frames = [convert(frame, encoding.pix_fmt, info.colour.range) for frame in container.decode(video=0)]
    began = time.process_time()
    with SegmentWriter(folder / "time.seg", info, encoding) as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish()
    return (time.process_time() - began) / (len(frames) * info.width * info.height / 1e6)


def luma(path: Path) -> Planes:
    """`[N, H, W]`, in 8-bit codes or the 16-bit ones that `psnr` takes for ten bits."""
    frames = [frame.luma for frame in read_frames(path)]
    return np.stack(frames)  # type: ignore[return-value] # numpy's stubs lose the type


def psnr(found: Planes, pristine: Planes) -> float:
    """Mean of the frames, in dB."""
    deep = 10 if found.dtype == np.uint16 else 8
    return float(measure(pristine, found, candidate_bit_depth=deep).psnr.mean())


if __name__ == "__main__":
    main()
