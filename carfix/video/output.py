"""The output container: what goes into it, and all its streams set up."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from carfix.video.address import address
from carfix.video.audio import AudioEncoder
from carfix.video.clock import Jump
from carfix.video.covers import attach
from carfix.video.cropping import crop_note
from carfix.video.matroska import Shape, make_room, write_shapes
from carfix.video.muxer import (
    AVI,
    Y4M,
    codec_tag,
    kept_tags,
    lost_turn,
    moved_by,
    moved_note,
    movie_timescale,
    muxer_options,
    video_clock,
    without_statistics,
)
from carfix.video.pixel_tags import keep_letters
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.sound import add_encoded_audio
from carfix.video.source import SourceInfo
from carfix.video.streams import CopyPlan, add_copy
from carfix.video.y4m import Y4mFile

if TYPE_CHECKING:
    from av.container.core import Chapter
else:
    Chapter = dict  # PyAV names the type for type checkers only


#: What a start may lie before the tick that it stands for, in seconds.
_NEARLY = Fraction(1, 1_000_000)
#: Seconds by which sound may be early before anybody notices.
_NOTICED = Fraction(1, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputPlan:
    """What goes into the final file besides the restored video."""

    info: SourceInfo
    format: str  # FFmpeg's name of the muxer
    streams: CopyPlan
    jumps: tuple[Jump, ...] = ()  # of the video's clock, for the other streams to follow
    cut_short: bool = False  # the input cannot be read to its end
    first: Fraction = Fraction(0)  # presentation time of the first frame, in seconds on the output's clock
    start: Fraction | None = None  # seconds on the input's clock: what lies before is cut and becomes time 0
    end: Fraction | None = None
    later: Fraction = Fraction(0)  # seconds by which everything is moved, so that the video begins at 0
    movflags: str | None = None  # FFmpeg's, for MP4 and MOV
    bluray: bool = False  # a transport stream as camcorders write it
    interlaced: bool = False  # the encoder codes two fields a frame
    video_tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rehearsed: tuple[str, ...] = ()  # what the container was seen to lose of the video

    @property
    def early(self) -> bool:
        """Whether times may lie below 0: encoders of sound begin with their delay, ahead of the first sample."""
        return bool(self.streams.encoded) or min(self.streams.starts, default=0) + self.later < 0

    @property
    def alone(self) -> bool:
        """Whether nothing goes along with the video."""
        return not self.streams.copied and not self.streams.encoded

    @property
    def timescale(self) -> int:
        """For MP4 and MOV."""
        starts = [start + self.later for start in self.streams.starts] if self.start is None else []
        return movie_timescale(self.first, starts)

    @property
    def shift(self) -> Fraction:
        """Seconds to subtract from every time.

        Whole ticks of the video's clock, which in AVI and MXF has one a frame: sound has to be moved by as much.
        """
        tick = self.info.time_base
        start = Fraction(0) if self.start is None else self.start + min(_NEARLY, tick / 2)
        return start // tick * tick - self.later

    @property
    def shift_ticks(self) -> int:
        """The same on the video's clock."""
        return round(self.shift / self.info.time_base)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be kept of the input."""
        turn = lost_turn(self.info.display_matrix, self.format)
        crop = crop_note(self.info.shown, self.info.width, self.info.height)
        lost = (*self.streams.warnings, *turn, *crop, *self._early_sound(), *self.rehearsed)
        return (*lost, *moved_note(self.later, self.format))

    def _early_sound(self) -> tuple[str, ...]:
        """A line if sound begins so late that AVI, where all streams begin at 0, plays it before its picture."""
        begins = [time if self.start is None else max(time, self.start) for time in self.streams.heard]
        if self.format != AVI or not begins:
            return ()
        late = max(begins) - min(self.first + self.shift, *begins)
        if late <= _NOTICED:
            return ()
        return (
            f"sound begins {float(late):.1f} s late, which avi cannot say and plays early; .mkv and .mp4 can",
        )

    def beginning_with(self, first: Fraction) -> "OutputPlan":
        """The plan for a video that begins at `first`, in seconds on the output's clock: not below 0, nor at a date."""
        later = moved_by(first, self.info, self.format)
        return dataclasses.replace(self, first=first + later, later=later)

    def beginning_at(self, pts: int) -> "OutputPlan":
        """The same plan where the first frame that could be decoded is shown at `pts`, on the input's clock."""
        return dataclasses.replace(self, first=(pts - self.shift_ticks) * self.info.time_base)


class OutputFile:
    """The output container with all its streams, its header not yet written."""

    def __init__(
        self, target: Path | IO[bytes], plan: OutputPlan, source: InputContainer, template: VideoStream
    ) -> None:
        self.plan = plan
        self._y4m = Y4mFile(target, plan.info) if plan.format == Y4M else None
        self.container: OutputContainer = av.open(
            self._y4m or (address(target) if isinstance(target, Path) else target),
            "w",
            format=plan.format,
            container_options=muxer_options(
                plan.format,
                source.metadata,
                plan.movflags,
                early=plan.early,
                alone=plan.alone,
                timescale=plan.timescale,
                bluray=plan.bluray,
            ),
            **KEEP_ODD_TAGS,
        )
        self.copies: dict[int, Stream] = {}
        self.encoders: dict[int, AudioEncoder] = {}
        self._shapes: list[Shape] = []
        try:
            for stream in source.streams:
                self._add(stream, template)
            self.container.metadata.update(kept_tags(source.metadata))
            self.container.set_chapters(_cut_chapters(source, plan))
        except BaseException:
            self.container.close()
            raise

    def _add(self, stream: Stream, template: VideoStream) -> None:
        if stream.index == self.plan.info.stream:
            self.video = self._add_video(stream, template)
            self._make_room(self.video, self.plan.info.sample_aspect_ratio)
        elif stream.index in self.plan.streams.covers:
            attach(self.container, stream, self.plan.streams.covers[stream.index])
        elif stream.index in self.plan.streams.copied:
            copy = self.copies[stream.index] = add_copy(self.container, stream)
            if isinstance(stream, VideoStream) and isinstance(copy, VideoStream):
                self._make_room(copy, stream.sample_aspect_ratio)
        elif stream.index in self.plan.streams.encoded:
            assert isinstance(stream, AudioStream)
            target = add_encoded_audio(
                self.container, stream, self.plan.streams.audio_codec, self.plan.streams.audio_bitrate
            )
            self.encoders[stream.index] = AudioEncoder(stream, target)

    def _make_room(self, video: VideoStream, pixels: Fraction | None) -> None:
        if (shape := make_room(video, self.container.format.name, pixels)) is not None:
            self._shapes.append(shape)

    def complete(self, target: Path) -> None:
        """Add to the file `target`, which is closed, what its muxer could not be told."""
        if self._y4m is not None:
            self._y4m.finish()
        write_shapes(target, self.plan.format, self._shapes)

    def _add_video(self, stream: Stream, template: VideoStream) -> VideoStream:
        info = self.plan.info
        video = self.container.add_stream_from_template(template, opaque=True)
        keep_letters(video, template)
        if tag := codec_tag(template.codec_context.name, self.plan.format):
            video.codec_context.codec_tag = tag
        video.time_base = video_clock(self.plan.format, info.time_base, info.frame_seconds)
        video.codec_context.framerate = info.rate
        video.codec_context.color_range = info.colour.range  # for containers; not every codec keeps it itself
        video.codec_context.color_primaries = info.colour.primaries
        video.codec_context.color_trc = info.colour.transfer
        video.codec_context.colorspace = info.colour.matrix
        if self.plan.interlaced:
            # FFmpeg's parser takes any for top field first.
            video.codec_context.field_order = info.field_order
        if info.sample_aspect_ratio:
            video.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        video.metadata.update(without_statistics(kept_tags(stream.metadata)))
        video.metadata.update(self.plan.video_tags)
        video.disposition = stream.disposition
        if info.display_matrix is not None:
            video.set_display_matrix(info.display_matrix)
        if self.container.format.name == "mpegts" and stream.id:
            video.id = stream.id
        return video


def _cut_chapters(source: InputContainer, plan: OutputPlan) -> list[Chapter]:
    chapters: list[Chapter] = []
    for chapter in source.chapters():
        time_base = chapter["time_base"]
        if time_base is None:
            continue
        start, end = chapter["start"] * time_base, chapter["end"] * time_base
        if (plan.start is not None and end <= plan.start) or (plan.end is not None and start >= plan.end):
            continue
        # The start lies a rounding ahead of its tick. Matroska counts nanoseconds and takes no chapter below 0.
        start = max(start, plan.start, plan.shift) if plan.start is not None else start
        end = min(end, plan.end) if plan.end is not None else end
        chapters.append(
            Chapter(
                id=chapter["id"],
                start=round((start - plan.shift) / time_base),
                end=round((end - plan.shift) / time_base),
                time_base=time_base,
                metadata=chapter["metadata"],
            )
        )
    return chapters
