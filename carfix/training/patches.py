"""Aligned patch pairs (decoded, pristine) from a dataset, drawn so that every step can be repeated.

Frames are decoded once into a cache beside the dataset and mapped into memory; the patches of a step depend on
nothing but the seed, the step and the rank, so that a resumed training sees what an uninterrupted one sees.
"""

import dataclasses
import functools
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carfix.cpu import cores
from carfix.errors import CarfixError
from carfix.progress import OnProgress, silent
from carfix.training import cache
from carfix.training.encoding import Luma
from carfix.training.sources import read_video
from carfix.training.workers import workers
from carfix.video.manifest import Clip, read_manifest

#: Batches made ahead of the training step.
PREFETCH = 4
#: Encodings without a cache from which on processes read them: threads keep three cores of sixteen busy.
MANY = 64


@dataclasses.dataclass(frozen=True)
class FramePairs:
    """Chosen frames of one variant: `decoded` and `pristine`, both `[N, H, W]` uint8, memory-mapped."""

    clip: str
    variant: str
    decoded: Luma
    pristine: Luma


def chosen_frames(total: int, limit: int) -> list[int]:
    """Up to `limit` frame numbers spread over `total`, so that every place of a GOP turns up."""
    if total <= limit:
        return list(range(total))
    return [round(index) for index in np.linspace(0, total - 1, limit)]


def encodings(dataset: Path, split: str) -> list[tuple[Clip, str]]:
    """Every variant, by name, of the split's clips. Raises `CarfixError` if there are none."""
    found = [(clip, name) for clip in read_manifest(dataset).select(split) for name in sorted(clip.variants)]
    if not found:
        raise CarfixError(
            f"the dataset {dataset} has no {split} clips; add some or build it with --split {split}"
        )
    return found


def load_pairs(
    dataset: Path,
    split: str,
    *,
    frames: int,
    progress: OnProgress = silent,
) -> list[FramePairs]:
    """Up to `frames` frames of every variant of the split's clips. Raises `CarfixError` if there are none."""
    jobs = encodings(dataset, split)
    missing = [job for job in jobs if not _is_cached(dataset, *job, frames)]
    if len(missing) >= MANY:
        _fill(dataset, missing, frames, progress)
    pairs: list[FramePairs] = []
    with ThreadPoolExecutor(len(cores())) as pool:
        try:
            for pair in pool.map(lambda job: _load_pair(dataset, job[0], job[1], frames), jobs):
                pairs.append(pair)
                if len(missing) < MANY:
                    progress(len(pairs), len(jobs), pair.clip)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C: not all of them first
            raise
    return pairs


def pristine_frames(dataset: Path, split: str, *, frames: int) -> Iterator[tuple[str, Luma]]:
    """Up to `frames` pristine frames of each of the split's clips, which may be none, by its name."""
    for clip in read_manifest(dataset).select(split):
        yield clip.name, _cache_pristine(dataset, clip, frames)


def _fill(
    dataset: Path,
    missing: Sequence[tuple[Clip, str]],
    frames: int,
    progress: OnProgress,
) -> None:
    """Make the caches of the `missing` encodings, in processes."""
    clips = {clip.name: clip for clip, _ in missing}
    with workers(len(cores())) as run:
        # Pristine frames first, which the variants of a clip share.
        for _, made in run(_make_pristine, {name: (dataset, clip, frames) for name, clip in clips.items()}):
            made()
        variants = {(clip.name, variant): (dataset, clip, variant, frames) for clip, variant in missing}
        for done, ((name, _), made) in enumerate(run(_make_decoded, variants), 1):
            made()
            progress(done, len(missing), name)


def _make_pristine(dataset: Path, clip: Clip, frames: int) -> None:
    _cache_pristine(dataset, clip, frames)  # whose memory is not sent to another process


def _make_decoded(dataset: Path, clip: Clip, variant: str, frames: int) -> None:
    _cache_decoded(dataset, clip, variant, frames)


def _load_pair(dataset: Path, clip: Clip, variant: str, frames: int) -> FramePairs:
    return FramePairs(
        clip.name,
        variant,
        _cache_decoded(dataset, clip, variant, frames),
        _cache_pristine(dataset, clip, frames),
    )


def _is_cached(dataset: Path, clip: Clip, variant: str, frames: int) -> bool:
    file = cache.decoded_file(dataset, clip, variant, frames)
    return cache.mapped(file, _shape(clip, frames)) is not None


def _cache_pristine(dataset: Path, clip: Clip, frames: int) -> Luma:
    file = cache.pristine_file(dataset, clip, frames)
    return cache.kept(
        file, _shape(clip, frames), functools.partial(_chosen, dataset / clip.pristine, clip, frames)
    )


def _cache_decoded(dataset: Path, clip: Clip, variant: str, frames: int) -> Luma:
    file = cache.decoded_file(dataset, clip, variant, frames)
    video = dataset / clip.variants[variant].file
    return cache.kept(file, _shape(clip, frames), functools.partial(_chosen, video, clip, frames))


def _shape(clip: Clip, frames: int) -> cache.Shape:
    return len(chosen_frames(clip.frames, frames)), clip.height, clip.width


def _chosen(video: Path, clip: Clip, frames: int) -> Luma:
    """The frames of a clip's file that are trained on. Raises `CarfixError` if it is not the manifest's."""
    luma, _ = read_video(video, size=None, start=0, frames=clip.frames)
    if luma.shape != (clip.frames, clip.height, clip.width):
        raise CarfixError(f"{video} does not hold what the manifest says; build the dataset again")
    chosen: Luma = luma[chosen_frames(clip.frames, frames)]
    return chosen


class PatchSampler:
    """Draws batches of aligned patch pairs; every frame is as likely as any other."""

    def __init__(
        self, pairs: Sequence[FramePairs], *, patch: int, batch: int, grid: int, seed: int, rank: int
    ) -> None:
        """`grid`: patches start at multiples of it, so that a network's cells keep their place in the blocks."""
        self._pairs = [pair for pair in pairs if min(pair.decoded.shape[1:]) >= patch]
        #: Clips that patches are drawn from; the others are too small for one.
        self.clips = {pair.clip for pair in self._pairs}
        if not self._pairs:
            raise CarfixError(f"no clip of the dataset is as large as a patch of {patch}x{patch}")
        self._ends = np.cumsum([len(pair.decoded) for pair in self._pairs])
        self._patch, self._batch, self._grid = patch, batch, grid
        self._seed, self._rank = seed, rank

    def draw(self, step: int) -> tuple[Luma, Luma]:
        """The batch of `step`: decoded and pristine, each `[B, 1, P, P]` uint8."""
        rng = np.random.default_rng([self._seed, self._rank, step])
        size = self._patch
        decoded = np.empty((self._batch, 1, size, size), np.uint8)
        pristine = np.empty_like(decoded)
        for slot in range(self._batch):
            frame = int(rng.integers(self._ends[-1]))
            index = int(np.searchsorted(self._ends, frame, side="right"))
            pair = self._pairs[index]
            frame -= int(self._ends[index]) - len(pair.decoded)
            height, width = pair.decoded.shape[1:]
            y = int(rng.integers((height - size) // self._grid + 1)) * self._grid
            x = int(rng.integers((width - size) // self._grid + 1)) * self._grid
            # A mirrored patch keeps its cells whole because its width is a multiple of the grid.
            step_x = -1 if rng.random() < 0.5 else 1
            decoded[slot, 0] = pair.decoded[frame, y : y + size, x : x + size][:, ::step_x]
            pristine[slot, 0] = pair.pristine[frame, y : y + size, x : x + size][:, ::step_x]
        return decoded, pristine

    def batches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of steps `first` to `last` - 1 as uint8 tensors, made ahead by a thread."""
        ahead: queue.Queue[tuple[Luma, Luma] | BaseException] = queue.Queue(PREFETCH)
        stop = threading.Event()

        def work() -> None:
            try:
                for step in range(first, last):
                    item = self.draw(step)
                    while not stop.is_set():
                        try:
                            ahead.put(item, timeout=0.2)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
            except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
                ahead.put(error)

        worker = threading.Thread(target=work, name="patches", daemon=True)
        worker.start()
        try:
            for _ in range(first, last):
                item = ahead.get()
                if isinstance(item, BaseException):
                    raise item
                yield torch.from_numpy(item[0]), torch.from_numpy(item[1])
        finally:
            stop.set()
            worker.join()


def to_unit(codes: Tensor) -> Tensor:
    """8-bit luma codes to the networks' range [-1, 1]."""
    return codes.float() * (2.0 / 255.0) - 1.0


def to_codes(unit: Tensor) -> Tensor:
    """The networks' range [-1, 1] to 8-bit luma codes, rounded, as floats."""
    return ((unit + 1.0) * (255.0 / 2.0)).round().clamp(0, 255)
