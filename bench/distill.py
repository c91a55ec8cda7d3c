"""Trains fast networks further on frames that a teacher restored ahead of time.

    python bench/distill.py data runs/taught weights/fast.safetensors weights/tiny.safetensors --minutes 25

`carfix train --teacher` runs the teacher on every patch, which takes a large one many times as long as the student's
own step. Here it restores each frame once, in 16-bit codes, with the quickest engine of this machine, and patches of
the result are drawn as those of the pristine frames are. Its share of the target falls from --share to half of that.
Frames with text (bench/text_pairs.py), of which the teacher knows nothing, have their pristine frames for a target.
"""

import argparse
import copy
import csv
import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from carfix.net.arch import build
from carfix.net.catalog import load_model
from carfix.net.checkpoint import Model, load_checkpoint, save_checkpoint
from carfix.net.losses import psnr_loss
from carfix.restore.engine import open_engine
from carfix.training.keeper import training_summary
from carfix.training.patches import FramePairs, chosen_frames, load_pairs, to_unit
from carfix.training.settings import FINAL_LR_SHARE, TrainSettings, auto_precision
from carfix.training.student import BETAS, move_average
from carfix.training.validation import ValidationSet

TOP = 65535
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Taught:
    """Frames `[N, H, W]`: uint8 as decoded and pristine, uint16 as the teacher has them."""

    decoded: np.ndarray
    pristine: np.ndarray
    restored: np.ndarray


def teach(pairs: list[FramePairs], teacher: str, clips: int, stills: int) -> list[Taught]:
    """Some frames of each encoding through the teacher; of the short clips of photographs fewer."""
    engine = open_engine(load_model(teacher), device="cpu")
    print(engine.description, file=sys.stderr)
    taught: list[Taught] = []
    began = time.monotonic()
    for number, pair in enumerate(pairs, 1):
        wanted = clips if len(pair.decoded) > 9 else stills
        chosen = chosen_frames(len(pair.decoded), wanted + 2)[1:-1][:wanted]
        chosen = [(frame + number) % len(pair.decoded) for frame in chosen]  # others in each encoding
        decoded = np.ascontiguousarray(pair.decoded[chosen])
        restored = engine.restore(decoded.astype(np.uint16) * (TOP // 255), 16)
        taught.append(Taught(decoded, np.ascontiguousarray(pair.pristine[chosen]), restored))
        if number % 100 == 0:
            print(
                f"{number}/{len(pairs)} encodings, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    engine.close()
    return taught


class Group:
    """Frames of which a share of all patches is drawn, each frame as often as any other."""

    def __init__(self, taught: list[Taught], share: float) -> None:
        self.share = share
        self._taught, self._ends = taught, np.cumsum([len(each.decoded) for each in taught])

    def frame(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decoded, pristine and as the teacher has it, `[H, W]`."""
        frame = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, frame, side="right"))
        one = self._taught[index]
        frame -= int(self._ends[index]) - len(one.decoded)
        return one.decoded[frame], one.pristine[frame], one.restored[frame]


def draw(
    groups: list[Group], rng: np.random.Generator, batch: int, size: int, grid: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Aligned patches, mirrored by chance, in [-1, 1]."""
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for _ in range(batch):
        chosen = int(rng.choice(len(groups), p=[group.share for group in groups]))
        frames = groups[chosen].frame(rng)
        height, width = frames[0].shape
        y, x = (int(rng.integers((side - size) // grid + 1)) * grid for side in (height, width))
        step = -1 if rng.random() < 0.5 else 1
        for part, plane in zip(parts, frames, strict=True):
            part.append(plane[y : y + size, x : x + size][:, ::step])
    decoded, pristine, restored = (
        torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in parts
    )
    return to_unit(decoded), to_unit(pristine), restored * (2.0 / TOP) - 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path, help="a folder for the best weights and a log of each student")
    parser.add_argument("students", type=Path, nargs="+", help="trained one after another")
    parser.add_argument("--teacher", default="car-cnn-mse")
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--clip-frames", type=int, default=3, help="of each encoding of a clip")
    parser.add_argument("--still-frames", type=int, default=1, help="of each encoding of a photograph")
    parser.add_argument("--text", type=Path, help="frames with text, written by bench/text_pairs.py")
    parser.add_argument("--text-share", type=float, default=0.2, help="of the patches")
    parser.add_argument("--minutes", type=float, default=25.0, help="of each training")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    pairs, held_out = (load_pairs(options.dataset, split, frames=24) for split in ("train", "val"))
    taught = [teach(pairs, options.teacher, options.clip_frames, options.still_frames)]
    shares = [1.0]
    if options.text is not None:
        texts = np.load(options.text)
        pristine = texts["pristine"]
        taught.append([Taught(texts["decoded"], pristine, pristine.astype(np.uint16) * (TOP // 255))])
        shares = [1.0 - options.text_share, options.text_share]
    groups = [Group(frames, share) for frames, share in zip(taught, shares, strict=True)]
    for student in options.students:
        train(load_checkpoint(student), options.output / student.name, groups, held_out, options)


def train(
    student: Model,
    output: Path,
    groups: list[Group],
    held_out: list[FramePairs],
    options: argparse.Namespace,
) -> None:
    """One student from `groups`; the best average of its weights, by the held-out pairs, goes to `output`."""
    net = build(student.config)
    net.load_state_dict(student.net.state_dict())
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(net).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr, betas=BETAS)
    autocast = torch.bfloat16 if auto_precision(CPU) == "bf16" else None
    validation = ValidationSet(held_out, 60)
    rng = np.random.default_rng(options.seed)
    log = csv.writer(output.with_suffix(".csv").open("w", newline=""))
    log.writerow(("step", "seconds", "lr", "loss", "gain_psnr", "gain_ssim", "worst_gain_psnr"))
    best, step, losses = -math.inf, 0, []
    began = told = time.monotonic()
    done = 0.0
    while done < 1.0:
        done = min(1.0, (time.monotonic() - began) / (60 * options.minutes))
        # By the clock: how many steps there will be is not known.
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        rate = options.lr * min(1.0, (step + 1) / 100) * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * cosine)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, pristine, restored = draw(groups, rng, options.batch, options.patch, student.config.scale)
        target = torch.lerp(pristine, restored, options.share * (1 - done / 2))
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            y = net(x.contiguous(memory_format=torch.channels_last))
        loss = psnr_loss(y.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        step += 1
        move_average(average, net, TrainSettings.ema, step)
        losses.append(float(loss.detach()))
        if time.monotonic() - told > 150 or done == 1.0:
            gains = validation.measure(average, CPU, autocast)
            row = (step, round(time.monotonic() - began), f"{rate:.3g}", f"{np.mean(losses):.5f}",
                   f"{gains.psnr:.4f}", f"{gains.ssim:.5f}", f"{gains.worst:.4f}")  # fmt: skip
            log.writerow(row)
            print(*row, file=sys.stderr, flush=True)
            losses.clear()
            told = time.monotonic()
            if gains.psnr > best:
                best = gains.psnr
                description = dataclasses.replace(
                    student.description,
                    steps=student.description.steps + step,
                    training_data=training_summary(options.dataset),
                    gains={"psnr": gains.psnr, "ssim": gains.ssim},
                    sha256="",
                )
                save_checkpoint(output, average, description)


if __name__ == "__main__":
    main()
