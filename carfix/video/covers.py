"""Cover pictures: what each container makes of a stream that players show for the file as a whole."""

from av.container import OutputContainer
from av.stream import Disposition, Stream

from carfix.video.choice import codec_of

#: Containers whose muxers take a cover picture and give none back: FFmpeg's MOV writes it nowhere, its transport stream
#: as data without a name.
WITHOUT_COVERS = ("mov", "3gp", "3g2", "ismv", "mpegts")
#: Where FFmpeg's muxer would make a track of one frame of it; an attachment is read as a cover again.
_ATTACHING = ("matroska",)
#: Pictures that FFmpeg's reader of Matroska takes for covers, by codec: the type of the attachment, and a suffix for
#: pictures whose file had no names.
_TYPES = {
    "png": ("image/png", "png"),
    "mjpeg": ("image/jpeg", "jpg"),
    "gif": ("image/gif", "gif"),
    "tiff": ("image/tiff", "tiff"),
}


def is_cover(stream: Stream) -> bool:
    """Whether the stream is one picture for the whole file; FFmpeg's muxers ask the same."""
    return stream.type == "video" and stream.disposition == Disposition.attached_pic


def is_attached(stream: Stream, format: str) -> bool:
    """Whether the stream goes into `format` as an attachment, in the header and with no packet."""
    return format in _ATTACHING and is_cover(stream) and codec_of(stream) in _TYPES


def attach(output: OutputContainer, stream: Stream, picture: bytes) -> None:
    """Add the cover `picture`, the data of the packet of `stream`."""
    mimetype, suffix = _TYPES[codec_of(stream)]
    output.add_attachment(stream.metadata.get("filename", f"cover.{suffix}"), mimetype, picture)
