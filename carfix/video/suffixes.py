"""Which files of a folder are taken for videos."""

#: What counts as video when a folder is walked.
VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "vob", "flv", "wmv"),
        *("asf", "3gp", "3g2", "ogv", "mxf", "nut", "y4m", "264", "h264", "265", "h265", "hevc", "dav", "ps"),
    )
)
