"""Which of a file's videos is restored: the user's choice, or what a player would show."""

import re
from collections.abc import Collection, Iterable

from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from carfix.errors import CarfixError, UsageError

#: For messages.
UNKNOWN_CODEC = "unknown codec"

#: FFmpeg's stream specifiers: a stream by its number in the file, or `v:N`, by its number among the videos.
_SPECIFIER = re.compile(r"(v:)?(\d+)")


def check_stream(wanted: str | int | None) -> str | None:
    """`wanted` as text. Raises `UsageError` for what names no stream, whatever the file."""
    text = None if wanted is None else str(wanted)
    if text is not None and not _SPECIFIER.fullmatch(text):
        raise UsageError(f"--stream takes a stream's number in the file, or v:N, not {wanted!r}")
    return text


def codec_of(stream: Stream) -> str:
    """FFmpeg's canonical name of a stream's codec; empty where it has no decoder for it."""
    return "" if stream.codec_context is None else stream.codec_context.codec.canonical_name


def is_attached_picture(stream: Stream) -> bool:
    """Whether the stream is a cover picture, or thumbnails of chapters, rather than video."""
    return bool(stream.disposition & Disposition.attached_pic)


def has_form(stream: Stream) -> bool:
    """False for sound and video that damage made up, or that were announced and never sent."""
    context = stream.codec_context
    known = {"audio": "sample_rate", "video": "width"}.get(stream.type)
    return context is None or known is None or bool(getattr(context, known, 0))


def videos_of(streams: Iterable[Stream]) -> list[VideoStream]:
    """The streams that are video and no pictures."""
    return [
        stream for stream in streams if isinstance(stream, VideoStream) and not is_attached_picture(stream)
    ]


def find_video(container: InputContainer, name: object, wanted: str | None = None) -> VideoStream:
    """The stream to restore: the one that `wanted` specifies (see `check_stream`), or the usual one.

    Unasked it is the one flagged as default, and of several the largest, as FFmpeg's command line takes it. `name` is
    the file's, for messages. Raises `CarfixError` if there is no such stream.
    """
    videos = videos_of(container.streams)
    if not videos:
        found = {"a picture" if stream.type == "video" else stream.type for stream in container.streams}
        only = f", only {', '.join(sorted(found))}" if found else ", nor any other"
        raise CarfixError(f"{name} has no video stream to restore{only}")
    if wanted is None:
        stream = _usual(videos, container)
    else:
        stream = _specified(container, videos, name, wanted)
    if stream.codec_context is None:
        raise CarfixError(f"{name}: its video codec is not known to this FFmpeg")
    return stream


def _usual(videos: list[VideoStream], container: InputContainer) -> VideoStream:
    best = container.streams.best("video")
    first = next((stream for stream in videos if stream is best), videos[0])
    if not _moves(first):
        return first
    return max(
        (stream for stream in videos if _moves(stream)),
        key=lambda stream: (
            bool(stream.disposition & Disposition.default),
            stream.width * stream.height,
            stream is first,
        ),
    )


def _moves(stream: VideoStream) -> bool:
    """False for codecs that pictures have too: a cover that was copied into Matroska is a track of one frame there."""
    return stream.codec_context is not None and not stream.codec_context.codec.intra_only


def _specified(
    container: InputContainer, videos: list[VideoStream], name: object, wanted: str
) -> VideoStream:
    check_stream(wanted)
    match = _SPECIFIER.fullmatch(wanted)
    assert match is not None
    among_videos, number = match[1] is not None, int(match[2])
    streams = list(container.streams.video if among_videos else container.streams)
    found = streams[number] if number < len(streams) else None
    if isinstance(found, VideoStream) and not is_attached_picture(found):
        return found
    what = (
        f"--stream {wanted}: {name} has no such stream"
        if found is None
        else f"--stream {wanted} of {name} is {'a picture' if found.type == 'video' else found.type}"
    )
    raise CarfixError(f"{what}; its videos are {_listed(map(_titled, videos))}")


def choice_note(streams: Iterable[Stream], restored: int, copied: Collection[int]) -> tuple[str, ...]:
    """A line about which of several videos is restored and what becomes of the others; none for a single one.

    `restored` is the index of that stream, `copied` are those of the streams that are copied.
    """
    videos = [stream for stream in videos_of(streams) if stream.width]  # others were announced and never sent
    if len(videos) < 2:
        return ()
    chosen = _listed(_titled(stream) for stream in videos if stream.index == restored)
    parts = [f"of its videos, stream {chosen} is restored"]
    others = [stream for stream in videos if stream.index != restored]
    going = [_titled(stream) for stream in others if stream.index in copied]
    left = [_titled(stream) for stream in others if stream.index not in copied]
    if going:
        parts.append(
            f"{_listed(going)} {'is copied as it is' if len(going) == 1 else 'are copied as they are'}"
        )
    if left:
        parts.append(f"{_listed(left)} {'is' if len(left) == 1 else 'are'} left out")
    return ("; ".join([*parts, "--stream takes another"]),)


def _titled(stream: VideoStream) -> str:
    return f"{stream.index} ({codec_of(stream) or UNKNOWN_CODEC}, {stream.width}x{stream.height})"


def _listed(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
