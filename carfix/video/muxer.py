"""The container that is written: the name that FFmpeg knows it under, and what its muxer is told."""

import contextlib
import datetime
import functools
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.frame import VideoFrame

from carfix.errors import UsageError
from carfix.scratch import scratch
from carfix.video.address import address
from carfix.video.clock import LONGEST_PAUSE
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.matroska import MATROSKA
from carfix.video.source import SourceInfo

#: Written by muxers themselves; an old value would be a lie about the new file.
_MUXER_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id"}
#: Statistics that mkvmerge writes of a track, and FFmpeg's word on WebM's transparency, which is not restored; they
#: describe the old video, not the restored one.
_STATISTICS_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_", "ALPHA_MODE")

#: Global tags that MP4 and MOV have a place of their own for; others need the key-value form.
_MOV_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "genre", "comment", "copyright"),
    *("grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords"),
    *("media_type", "hd_video", "gapless_playback", "compilation", "creation_time", "timecode", "disc"),
    *("author", "location", "track"),
}
#: Flags that cut MP4 into fragments.
_FRAGMENTING = {"frag_keyframe", "frag_every_frame", "frag_custom", "empty_moov", "cmaf", "dash"}
#: FFmpeg's ticks a second of the movie; how fine they may become for sound, and at all (a field of 31 bits).
_TIMESCALE = 1000
_FINE_TIMESCALE = 90_000
_LARGEST_TIMESCALE = 2**31 - 1
#: MP4 and its kin, which have edit lists.
MOV_FORMATS = {"mp4", "mov", "ipod", "3gp", "3g2", "ismv", "f4v"}
#: Of them those whose size and index are written last and elsewhere (the other one is always in fragments).
WITH_AN_INDEX = MOV_FORMATS - {"ismv"}

#: Containers that say how a video is turned when it is shown.
_TURNING = MOV_FORMATS.union(MATROSKA)

#: Suffixes that people give for FFmpeg's names of containers.
_ALIASES = {"y4m": "yuv4mpegpipe", "mkv": "matroska", "ts": "mpegts"}

#: Camcorders' (AVCHD) and Blu-ray discs' transport streams: suffixes, bytes a packet and where in it the sync byte is.
_BLURAY_SUFFIXES, _BLURAY_PACKET, _BLURAY_SYNC = (".m2ts", ".mts"), 192, 4
_SYNC = 0x47
#: What `-c:a` may be for them.
_BLURAY_SOUND = ("copy", "none", "ac3", "eac3", "dca", "truehd", "pcm_bluray")

#: MPEG's, as DVDs have them.
PROGRAM_STREAMS = ("mpeg", "vob", "dvd", "svcd", "vcd")
#: Containers without times below 0. All streams are moved where it is needed, as FFmpeg does: in FLV and NUT for times
#: of decoding, too. NUT loses the times of frames that are decoded there only where streams with other clocks go along.
#: In program streams sound before 0 (its encoder's delay) would lie at the end of their clock of 33 bits, 26 hours
#: later, for readers that have met the picture first; decoding may begin there.
WITHOUT_NEGATIVE_TIMES = ("nut", "flv", *PROGRAM_STREAMS)
_DECODED_BELOW_ZERO = PROGRAM_STREAMS
_DECODED_BELOW_ZERO_ALONE = ("nut",)
#: Frames and nothing else, which is all that many programs read; and frames without even a word on their size.
Y4M = "yuv4mpegpipe"
FRAMES = (Y4M, "rawvideo")
#: Whose streams all begin at 0: everything is moved so that the first does, as FFmpeg does it. Else a picture that
#: begins at 1.4 s, as FFmpeg's transport streams do, would stand still until then, and its sound be that much early.
AVI = "avi"
#: Containers that hold frames in order and no times of presentation; what FFmpeg reads from AVI is its guess.
WITHOUT_TIMES = (Y4M, AVI)
#: Containers of one video stream and nothing else.
BARE = (*FRAMES, "h264", "hevc")
#: Transport streams alone have a clock that runs over, so that it does not matter where it begins.
_BEGIN_ANYWHERE = ("mpegts", *BARE)
#: Containers without a place for a stream's header: its parameter sets go before every keyframe instead.
WITHOUT_HEADERS = ("h264", "hevc", *PROGRAM_STREAMS)


def output_format(path: Path, name: str | None = None) -> str:
    """Name of the FFmpeg muxer for `path`, or for `name` if that is one, or y4m, mkv or ts.

    Raises `UsageError` if there is none, or it is one without a place for video, or writes several files (playlists,
    segments, pictures) or to a device.
    """
    asked = name
    name = _ALIASES.get(name, name) if name else None
    try:
        with av.open(io.BytesIO(), "w", format=name) if name else _guess(path) as container:
            format = container.format
    except (*MEDIA_ERRORS, UsageError) as error:
        what = (
            f"no container is called {asked!r}"
            if name
            else f"{path.name!r} does not say which container to write"
        )
        raise UsageError(
            f"{what}; use a name in .mp4, .mkv, .mov or another that FFmpeg knows, or -f"
        ) from error
    if format.no_file and format.name != "null":
        raise UsageError(
            f"{asked or repr(path.name)} is more than one file ({format.long_name}): "
            "write .mp4 or .mkv, and cut that up with ffmpeg -i OUTPUT -c copy ..."
        )
    return format.name


def stays_bluray(source: Path, output: Path, audio_codec: str) -> bool:
    """Whether `source` is a camcorder's or a Blu-ray disc's transport stream and `output` is to be one.

    Only these, with a time before every packet, hold their PGS subtitles and LPCM, and AAC and MP3 they do not hold:
    so what `-c:a` is counts, too.
    """
    if output.suffix.lower() not in _BLURAY_SUFFIXES or audio_codec not in _BLURAY_SOUND:
        return False
    try:
        with source.open("rb") as file:
            head = file.read(4 * _BLURAY_PACKET)
    except OSError:
        return False  # who reads it says why
    return len(head) == 4 * _BLURAY_PACKET and set(head[_BLURAY_SYNC::_BLURAY_PACKET]) == {_SYNC}


@functools.cache
def suffix_holds(suffix: str, encoder: str) -> bool:
    """Whether a file of such a suffix holds the video of `encoder`, as far as FFmpeg's lists tell.

    False, too, for a suffix that FFmpeg writes no single file of; an encoder that there is not is for others to tell.
    """
    try:
        format = output_format(Path(f"name{suffix}"))
        with av.open(io.BytesIO(), "w", format=format) as output:
            output.add_stream(encoder, rate=25)
    except UnknownCodecError:
        return True
    except (*MEDIA_ERRORS, UsageError):
        return False
    return True


class _NamedBuffer(io.BytesIO):
    """PyAV guesses the format of a file object by its name."""

    name = ""


def _guess(path: Path) -> OutputContainer:
    buffer = _NamedBuffer()
    buffer.name = path.name
    return av.open(buffer, "w")


def codec_tag(codec: str, format: str) -> str | None:
    """The four letters under which `format` holds the video; None: those that FFmpeg gives it.

    FFmpeg calls HEVC hev1, which allows for parameter sets between the frames and which Apple's players refuse. They
    are in the header here, so that hvc1 is true, and plays everywhere.
    """
    return "hvc1" if codec == "hevc" and format in MOV_FORMATS else None


def video_clock(format: str, time_base: Fraction, frame_seconds: Fraction) -> Fraction:
    """Seconds a tick of the video in `format`. y4m's header gives it for the frame rate: its frames have no times."""
    return frame_seconds if format == Y4M else time_base


def lost_turn(matrix: Sequence[int] | None, format: str) -> tuple[str, ...]:
    """A line if players turn or mirror the video by a display `matrix` that `format` has no place for."""
    if matrix is None or format in _TURNING:
        return ()
    return (f"the video is turned when it is shown, which {format} cannot say; .mp4, .mov and .mkv can",)


def moved_by(first: Fraction, info: SourceInfo, format: str) -> Fraction:
    """Seconds by which everything is moved so that a video that begins at `first` does not begin below 0, or at a date.

    Below 0 it begins where a transport stream's clock of 33 bits ran over on the way: FFmpeg counts what is before
    that, up to 26 hours, below 0. Some recorders' clocks (.dav) tell the date, in seconds since 1970: players would
    show a video of 54 years, and most containers cannot hold one.
    """
    if tells_date(first):
        return -round(info.start / info.time_base) * info.time_base
    return Fraction(0) if format in _BEGIN_ANYWHERE else max(Fraction(0), -first)


def tells_date(first: Fraction) -> bool:
    """Whether a clock that begins at `first` seconds is the date: no recording goes on for a year."""
    return first >= LONGEST_PAUSE


def moved_note(later: Fraction, format: str) -> tuple[str, ...]:
    """A line if everything is moved by as much as `moved_by` says."""
    if not later:
        return ()
    if later < 0:
        with contextlib.suppress(OverflowError):  # damage; nor need it be a date
            date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=float(-later))
            return (f"its clock tells the date, {date:%Y-%m-%d %H:%M:%S}: the output begins at 0",)
        return (f"its clock begins at {float(-later):.0f} s: the output begins at 0",)
    begins = f"the video begins {float(later):.3f} s below 0, where {format} has no times"
    return (f"{begins}: everything is so much later",)


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that every muxer writes itself."""
    return {key: value for key, value in tags.items() if key.lower() not in _MUXER_TAGS}


def without_statistics(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without the figures of a track that is no longer the same."""
    return {key: value for key, value in tags.items() if not key.upper().startswith(_STATISTICS_TAGS)}


def check_movflags(movflags: str | None, format: str) -> None:
    """Raises `UsageError` for flags of MP4 and MOV that this FFmpeg does not know, or for another container."""
    if movflags is None:
        return
    if format not in MOV_FORMATS:
        raise UsageError(f"-movflags is for .mp4 and .mov, not for {format}")
    options = muxer_options(format, {}, movflags)
    try:
        # In a file: for faststart the muxer opens by name what it has written.
        with (
            scratch() as folder,
            av.open(address(folder / "trial"), "w", format=format, container_options=options) as output,
        ):
            video = output.add_stream("mpeg4", rate=25)
            video.width, video.height = 16, 16
            # With a frame in it: the muxer's fragments break down without one.
            output.mux(video.encode(VideoFrame(16, 16, "yuv420p")))
            output.mux(video.encode(None))
    except MEDIA_ERRORS as error:
        raise UsageError(f"FFmpeg refuses -movflags {movflags}: {reason(error)}") from error


def movie_timescale(video: Fraction, others: Iterable[Fraction]) -> int:
    """Ticks a second on which MP4 and MOV can say when their streams begin, in seconds: that of the video exactly.

    Edit lists count in them, a thousand a second unless told. Transport streams begin at any ninety-thousandth.
    """
    scale = math.lcm(_TIMESCALE, video.denominator)
    if scale > _LARGEST_TIMESCALE:
        return _TIMESCALE
    for start in others:
        finer = math.lcm(scale, start.denominator)
        scale = finer if finer <= _FINE_TIMESCALE else scale
    return scale


def muxer_options(
    format: str,
    tags: Mapping[str, str],
    movflags: str | None = None,
    *,
    early: bool = True,
    alone: bool = False,
    timescale: int = _TIMESCALE,
    bluray: bool = False,
) -> dict[str, str]:
    """Options under which the muxer keeps times and global `tags` as they are, and the user's `movflags`.

    `early` says that packets may have presentation times below 0, `alone` that it is one video and nothing else;
    `timescale` comes from `movie_timescale`, `bluray` from `stays_bluray`.
    """
    fine = (alone and format in _DECODED_BELOW_ZERO_ALONE) or (not early and format in _DECODED_BELOW_ZERO)
    shifts = format in WITHOUT_NEGATIVE_TIMES and not fine
    options = {"avoid_negative_ts": "make_non_negative" if shifts else "disabled"}
    if format == AVI:
        options["avoid_negative_ts"] = "make_zero"
    flags = [] if movflags is None else [movflags.lstrip("+")]
    if movflags is not None and not _FRAGMENTING.isdisjoint(movflags.split("+")):
        flags.append("delay_moov")  # without, there are no edit lists, and with them go the times
    if format in MOV_FORMATS and any(key.lower() not in _MOV_TAGS for key in kept_tags(tags)):
        flags.append("use_metadata_tags")
    if format in MOV_FORMATS and timescale != _TIMESCALE:
        options["movie_timescale"] = str(timescale)
    if flags:
        options["movflags"] = "+".join(flags)
    if format == "mpegts":
        options |= {"mpegts_copyts": "1", "mpegts_m2ts_mode": str(int(bluray))}
        if early:
            # What is below 0 has to be read first, or readers take it, and the file's length, for 26 hours. Unasked the
            # muxer holds sound back until some packets fill one of its own.
            options["pes_payload_size"] = "0"
    if format == Y4M:
        options["strict"] = "-1"  # deep and 4:2:2 frames, which every reader of today takes
    return options
