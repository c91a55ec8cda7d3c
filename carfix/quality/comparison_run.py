"""One pass over a candidate and the reference: align, bring to one size, measure, keep the facts."""

import contextlib
import dataclasses
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from carfix.errors import CarfixError
from carfix.progress import OnProgress
from carfix.quality.alignment import Unmatched, aligned
from carfix.quality.chosen import Chosen
from carfix.quality.damage import Damage
from carfix.quality.duration import duration_of, must_be_counted, recorded_size
from carfix.quality.metrics import FrameQuality, measure
from carfix.quality.reader import (
    END,
    LumaFrame,
    Wanted,
    has_full_range,
    in_alike_batches,
    layout,
    read_frames,
    select,
    stacked,
)
from carfix.quality.results import Candidate, Result
from carfix.quality.vmaf import VmafMeter
from carfix.restore.engine import Planes
from carfix.video.choice import find_video
from carfix.video.convert import SCALER_THREADS
from carfix.video.set_back import counted
from carfix.video.source import open_input

#: Frames that are measured at once: enough to keep every core busy, few enough for 4K.
BATCH = 4


@dataclasses.dataclass
class ComparisonRun:
    """What all candidates of a comparison share."""

    chosen: Chosen  # the video of the reference
    wanted: Wanted
    vmaf: bool
    shortest: bool
    align_start: bool
    scale: bool
    device: str
    progress: OnProgress
    total: int = 0
    done: int = 0
    damage: Damage = dataclasses.field(default_factory=Damage)  # of the reference, as it was last read

    @property
    def reference(self) -> Path:
        """The file of the reference."""
        return self.chosen.path

    def expect(self, candidates: int) -> None:
        """Count the frames of further candidates into the total."""
        self.total += candidates * _expected_frames(self.chosen, self.wanted)

    def compare(self, candidate: Candidate, vmaf: bool | None = None) -> Result:
        """Measure one candidate."""
        parts: list[FrameQuality] = []
        facts: list[_Facts] = []
        unmatched, damage, self.damage = Unmatched(), Damage(), Damage()
        meter: VmafMeter | None = None
        width = height = 0
        mixed = False
        with contextlib.ExitStack() as stack:
            found = aligned(
                select(
                    read_frames(self.reference, stream=self.chosen.stream, damage=self.damage), self.wanted
                ),
                candidate.method.frames(candidate.path, self.wanted, damage, stream=candidate.chosen.stream),
                names=(str(self.reference), candidate.name),
                shortest=self.shortest,
                align_start=self.align_start,
                unmatched=unmatched,
                skipped=self.wanted[0] if self.wanted else 0,
            )
            fitted = ((first, self._fitted(first, second, candidate)) for first, second in found)
            for batch in in_alike_batches(fitted, BATCH, lambda pair: (layout(pair[0]), layout(pair[1]))):
                depth, shown_depth = batch[0][0].bit_depth, batch[0][1].bit_depth
                parts.append(
                    measure(
                        stacked([first for first, _ in batch]),
                        stacked([second for _, second in batch]),
                        bit_depth=depth,
                        candidate_bit_depth=shown_depth,
                        device=self.device,
                    )
                )
                if not facts:
                    height, width = batch[0][0].luma.shape
                    mixed = has_full_range(batch[0][0]) != has_full_range(batch[0][1])
                if self.vmaf if vmaf is None else vmaf:
                    meter = meter or stack.enter_context(VmafMeter(width, height, max(depth, shown_depth)))
                    for first, second in batch:
                        meter.add(first.luma, second.luma, bit_depth=depth, shown_bit_depth=shown_depth)
                facts += [_Facts.of(first, second) for first, second in batch]
                self._advance(len(batch), candidate.name)
        if not facts:
            raise CarfixError(f"{self.reference} and {candidate.name} have no frame at the same time")
        return Result(
            candidate=candidate,
            quality=FrameQuality.concatenate(parts),
            vmaf=meter.scores if meter else None,
            times=np.array([fact.time for fact in facts]),
            reference_indices=[fact.reference_index for fact in facts],
            indices=[fact.index for fact in facts],
            kinds=[fact.kind for fact in facts],
            quantizers=[fact.quantizer for fact in facts],
            bit_rate=bit_rate(candidate.chosen),
            unmatched=unmatched,
            damage=damage,
            mixed_ranges=mixed,
            width=width,
            height=height,
        )

    def _fitted(self, reference: LumaFrame, shown: LumaFrame, candidate: Candidate) -> LumaFrame:
        """`shown` in the reference's size."""
        if reference.luma.shape == shown.luma.shape:
            return shown
        height, width = reference.luma.shape
        if not self.scale:
            raise CarfixError(
                f"{candidate.name} is {shown.luma.shape[1]}x{shown.luma.shape[0]} and {self.reference} "
                f"{width}x{height}; --scale brings it to that size"
            )
        return dataclasses.replace(shown, luma=scaled(shown, width, height))

    def _advance(self, count: int, detail: str) -> None:
        self.done += count
        self.progress(self.done, max(self.done, self.total), detail)


def scaled(frame: LumaFrame, width: int, height: int) -> Planes:
    """The frame's luma at another size, bicubic."""
    format = "gray" if frame.bit_depth == 8 else "gray16le"
    # gray to gray: swscale would convert the range on the way from another format.
    picture = VideoFrame.from_ndarray(frame.luma, format=format)
    resized = picture.reformat(
        width=width, height=height, interpolation="BICUBIC", threads=SCALER_THREADS
    ).to_ndarray()
    peak = (1 << frame.bit_depth) - 1
    luma: Planes = np.minimum(resized, peak).astype(frame.luma.dtype)  # type: ignore[assignment]
    return luma


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is kept of a compared pair beside its numbers: no pictures, so that memory stays flat."""

    time: float
    reference_index: int
    index: int
    kind: str
    quantizer: float | None

    @classmethod
    def of(cls, reference: LumaFrame, shown: LumaFrame) -> "_Facts":
        time = float(reference.index) if reference.time is None else reference.time
        return cls(time, reference.index, shown.index, shown.kind, shown.quantizer)


def bit_rate(chosen: Chosen) -> float | None:
    """Bits a second of the whole file; None if it states no duration that can be."""
    path, stream = chosen.path, str(chosen.stream)
    with open_input(path) as container:
        video = find_video(container, path, stream)
        duration = duration_of(path, container, video)
        if must_be_counted(path, container, video):
            duration, _ = counted(path, stream)
    return 8 * recorded_size(path) / duration if duration else None


def _expected_frames(chosen: Chosen, wanted: Wanted) -> int:
    """How many frames will be compared, as far as the container knows; 0 where it does not."""
    with open_input(chosen.path) as container:
        stream = find_video(container, chosen.path, str(chosen.stream))
        count = stream.frames
        if not count and container.duration and stream.average_rate:
            count = int(container.duration / av.time_base * stream.average_rate)
    if wanted is None or not wanted:
        return count
    last = count if wanted[-1] >= END else min(count, wanted[-1] + 1)
    return max(0, last - wanted[0])
