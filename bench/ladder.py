"""The ladder of networks: gain against CPU time a megapixel, with FFmpeg's spp as a point. Table and picture.

    carfix evaluate val --split test --json > eval.json
    carfix bench uk_motorway_720p.mp4 -m tiny -m fast -m medium -m car-cnn-mse --device cpu --json > bench.json
    python bench/ladder.py eval.json bench.json docs/ladder.svg

Both files hold what was measured; nothing is typed in here. spp's gain is that of its best constant quantizer for each
variant, its time that of quality 3, which the gain was measured with.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

SPP_BENCH, SPP_EVAL = "FFmpeg spp, quality 3", "spp-best"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 400, 70, 30, 150, 60
INK, GRID, OURS, THEIRS = "#333", "#ddd", "#0b6", "#c40"


class Rung(NamedTuple):
    """A point of the plot."""

    name: str
    seconds: float  # a megapixel takes
    gain: float  # dB over decoded
    ssim: float
    smallest: str
    multiply_adds: float | None


def rungs(evaluation: dict[str, Any], bench: dict[str, Any]) -> list[Rung]:
    """Every method that both files know, quickest first."""
    found: list[Rung] = []
    for model in bench["models"]:
        found.append(
            rung(
                evaluation, model["name"], model["name"], model["inference"], model["multiply_adds_per_pixel"]
            )
        )
        for peer in model["peers"]:
            if peer["name"] == SPP_BENCH and not any(r.name == SPP_EVAL for r in found):
                found.append(rung(evaluation, SPP_EVAL, SPP_EVAL, peer, None))
    return sorted(found, key=lambda r: r.seconds)


def rung(
    evaluation: dict[str, Any], name: str, method: str, speed: dict[str, Any], macs: float | None
) -> Rung:
    gain = evaluation["methods"][method]["gain"]["decoded"]
    least = gain["smallest"]
    return Rung(
        name=name,
        seconds=1 / speed["megapixels_per_second"]["median"],
        gain=gain["psnr"],
        ssim=gain["ssim"],
        smallest=f"{least['psnr']:+.3f} dB ({least['clip']}, {least['variant']})",
        multiply_adds=macs,
    )


def table(found: list[Rung]) -> str:
    lines = [
        "| | multiply-adds a pixel | seconds a megapixel | gain | SSIM | smallest of any clip and variant |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for r in found:
        macs = f"{r.multiply_adds / 1000:,.1f} k" if r.multiply_adds else ""
        lines.append(
            f"| `{r.name}` | {macs} | {r.seconds:.3f} | {r.gain:+.3f} dB | {r.ssim:+.4f} | {r.smallest} |"
        )
    return "\n".join(lines)


def picture(found: list[Rung], title: str) -> str:
    """An SVG: time on a logarithmic axis, gain on a linear one."""
    low = math.floor(math.log10(min(r.seconds for r in found)))
    high = math.ceil(math.log10(max(r.seconds for r in found)))
    top = math.ceil(max(r.gain for r in found) * 10 + 0.5) / 10

    def x(seconds: float) -> float:
        return LEFT + (math.log10(seconds) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(gain: float) -> float:
        return HEIGHT - BOTTOM - gain / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="18">{title}</text>',
    ]
    for power in range(low, high + 1):
        at = x(10**power)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for tenth in range(round(top * 10) + 1):
        at = y(tenth / 10)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 16}" text-anchor="middle">seconds a megapixel</text>')
    parts.append(
        f'<text transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        "dB over decoded</text>"
    )
    ladder = [r for r in found if r.name != SPP_EVAL]
    points = " ".join(f"{x(r.seconds):.1f},{y(r.gain):.1f}" for r in ladder)
    parts.append(f'<polyline points="{points}" fill="none" stroke="{OURS}" stroke-dasharray="4 4"/>')
    for r in found:
        colour = THEIRS if r.name == SPP_EVAL else OURS
        parts.append(f'<circle cx="{x(r.seconds):.1f}" cy="{y(r.gain):.1f}" r="6" fill="{colour}"/>')
        label = "spp, best quantizer" if r.name == SPP_EVAL else r.name
        parts.append(f'<text x="{x(r.seconds) + 10:.1f}" y="{y(r.gain) + 14:.1f}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("bench", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    bench = json.loads(options.bench.read_text())
    found = rungs(json.loads(options.evaluation.read_text()), bench)
    machine = bench["machine"]
    options.picture.write_text(picture(found, f"Gain and cost on {machine['cores']} cores"))
    print(f"{machine['cpu']}, {machine['cores']} cores\n\n{table(found)}")


if __name__ == "__main__":
    main()
