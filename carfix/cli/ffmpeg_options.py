"""What FFmpeg's options are called in `carfix restore`, where it has no option of that name."""

#: Arguments of FFmpeg's `-v` and `-loglevel`.
LOG_LEVELS = frozenset({"quiet", "panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace"})
#: Left out without a word: inputs come first here without `-i`, and the others are as carfix is anyway.
_NOTHING = frozenset({"-i", "-hide_banner", "-nostdin"})

_FILTERS = "carfix has no filters: put ffmpeg before or behind it, in a pipe"
_TIMES = "every frame keeps its time"
_KEPT = "tags, chapters and all streams are kept as they are; ffmpeg -i OUT -c copy changes them afterwards"
_RANGE = "-ss, -t and -to choose a part"
_SOUND = "sound is copied, or encoded by -c:a ENCODER with its channels; -b:a is its bit rate"
_SUBTITLES = "subtitles are copied, or left out with -sn"
_QUALITY = "use -crf, -b:v, or an option of the encoder's own, such as -x qp=20"
_HWACCEL = "use -hwaccel KIND:DEVICE"

_HINTS = {
    **dict.fromkeys(("-vf", "-filter", "-af", "-filter_complex", "-lavfi", "-bsf"), _FILTERS),
    **dict.fromkeys(("-r", "-framerate", "-vsync", "-fps_mode", "-copyts", "-itsoffset", "-async"), _TIMES),
    **dict.fromkeys(("-map", "-map_metadata", "-map_chapters", "-metadata", "-disposition"), _KEPT),
    **dict.fromkeys(("-timecode", "-timestamp"), _KEPT),
    **dict.fromkeys(("-avoid_negative_ts", "-fflags", "-flags", "-muxdelay", "-shortest"), "leave it out"),
    **dict.fromkeys(
        ("-thread_queue_size", "-max_muxing_queue_size", "-max_interleave_delta"), "leave it out"
    ),
    **dict.fromkeys(("-re", "-stream_loop"), "a file is read once, as fast as it is restored"),
    **dict.fromkeys(("-sseof", "-frames", "-vframes", "-fs"), _RANGE),
    **dict.fromkeys(("-aq", "-ar", "-ac", "-q:a"), _SOUND),
    **dict.fromkeys(("-c:s", "-codec:s", "-scodec", "-c:d", "-codec:d"), _SUBTITLES),
    **dict.fromkeys(("-q", "-q:v", "-qscale", "-qscale:v", "-qp", "-cq"), _QUALITY),
    **dict.fromkeys(
        ("-hwaccel_device", "-hwaccel_output_format", "-init_hw_device", "-vaapi_device"), _HWACCEL
    ),
    **dict.fromkeys(("-tag", "-vtag"), "carfix tags HEVC in MP4 and MOV hvc1; leave it out"),
    **dict.fromkeys(("-top", "-field_order"), "fields stay in their order; leave it out"),
    **dict.fromkeys(("-s", "-aspect"), "frames keep their size and shape; ffmpeg changes them, in a pipe"),
    **dict.fromkeys(("-c", "-codec"), "-c:v is the video's encoder, -c:a the sound's; all else is copied"),
    **dict.fromkeys(("-vcodec", "-codec:v"), "it is -c:v"),
    **dict.fromkeys(("-acodec", "-codec:a"), "it is -c:a"),
    **dict.fromkeys(
        ("-stats", "-nostats", "-stats_period"), "--progress none shows no progress, -q errors alone"
    ),
    **dict.fromkeys(("-pass", "-passlogfile", "-vpre"), "carfix encodes in one pass; use -crf"),
    "-ab": "it is -b:a",
    "-an": "-c:a none leaves sound out",
    "-b": "it is -b:v, or -b:a for sound",
    "-dn": "data streams are copied",
    "-vn": "carfix restores the video of a file; ffmpeg -vn takes its sound out",
    "-strict": "--strict counts damage as failure; FFmpeg's, for an encoder, is -x strict=VALUE",
    "-loglevel": "-q shows errors alone, -v tracebacks",
    "-force_key_frames": "-g is the most frames from keyframe to keyframe",
}

#: Options of encoders: what stands behind `-x`.
_ENCODERS = {
    name: name[1:].removesuffix(":v")
    for name in (
        *("-profile", "-profile:v", "-level", "-level:v", "-bf", "-bf:v", "-refs", "-keyint_min", "-sc_threshold"),
        *("-minrate", "-minrate:v", "-qmin", "-qmax", "-qcomp", "-threads", "-aq-mode", "-rc-lookahead", "-me_range"),
        *("-x264-params", "-x264opts", "-x265-params", "-svtav1-params", "-cpu-used", "-row-mt", "-deadline", "-rc"),
        *("-trellis", "-mbd", "-me_method", "-gpu"),
    )
}  # fmt: skip


def means_nothing_here(option: str) -> bool:
    """Whether it can be left out: what it asks for is so anyway."""
    return option in _NOTHING


def hint_for(option: str) -> str | None:
    """What to write instead of an option of FFmpeg's; None if it is not known for one."""
    for name in (option, option.rpartition(":")[0], option.partition(":")[0]):  # -c:v:0, -filter:v
        if name in _ENCODERS:
            return f"options of the encoder are given by -x: -x {_ENCODERS[name]}=VALUE"
        if name in _HINTS:
            return _HINTS[name]
    return None
