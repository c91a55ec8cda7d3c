"""What FFmpeg's options are called in `carfix restore`, where it has no option of that name."""

#: Arguments of FFmpeg's `-v` and `-loglevel`.
LOG_LEVELS = frozenset({"quiet", "panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace"})
#: Left out without a word: inputs come first here without `-i`, and the others are as carfix is anyway.
_NOTHING = frozenset({"-i", "-hide_banner", "-nostdin"})

_FILTERS = "carfix has no filters: put ffmpeg before or behind it, in a pipe"
_TIMES = "every frame keeps its time"
_KEPT = "tags, chapters and all streams are kept as they are; ffmpeg -i OUT -c copy changes them afterwards"
_LEAVE_OUT = "leave it out"
_CONTAINER = (
    "carfix sets the container up itself; ffmpeg -i OUT -c copy changes it, or cuts it up, afterwards"
)
_RANGE = "-ss, -t and -to choose a part"
_SOUND = "sound is copied, or encoded by -c:a ENCODER with its channels; -b:a is its bit rate"
_SUBTITLES = "subtitles are copied, or left out with -sn"
_QUALITY = "use -crf, -b:v, or an option of the encoder's own, such as -x qp=20"
_HWACCEL = "use -hwaccel KIND:DEVICE"

_HINTS = {
    **dict.fromkeys(("-vf", "-filter", "-af", "-filter_complex", "-lavfi", "-bsf"), _FILTERS),
    **dict.fromkeys(("-vbsf", "-sws_flags", "-deinterlace"), _FILTERS),
    **dict.fromkeys(("-r", "-framerate", "-vsync", "-fps_mode", "-copyts", "-itsoffset", "-async"), _TIMES),
    **dict.fromkeys(("-fpsmax", "-itsscale", "-start_at_zero"), _TIMES),
    **dict.fromkeys(("-map", "-map_metadata", "-map_chapters", "-metadata", "-disposition"), _KEPT),
    **dict.fromkeys(("-timecode", "-timestamp", "-attach", "-dump_attachment"), _KEPT),
    **dict.fromkeys(("-avoid_negative_ts", "-fflags", "-muxdelay", "-shortest"), _LEAVE_OUT),
    **dict.fromkeys(("-thread_queue_size", "-max_muxing_queue_size", "-max_interleave_delta"), _LEAVE_OUT),
    **dict.fromkeys(("-probesize", "-analyzeduration", "-ignore_unknown", "-copy_unknown"), _LEAVE_OUT),
    **dict.fromkeys(
        ("-report", "-benchmark", "-accurate_seek", "-noautorotate", "-filter_threads"), _LEAVE_OUT
    ),
    **dict.fromkeys(
        ("-muxrate", "-brand", "-video_track_timescale", "-write_tmcd", "-mpegts_flags"), _CONTAINER
    ),
    **dict.fromkeys(("-segment_time", "-hls_time", "-hls_list_size", "-reset_timestamps"), _CONTAINER),
    **dict.fromkeys(("-re", "-stream_loop"), "a file is read once, as fast as it is restored"),
    **dict.fromkeys(("-sseof", "-frames", "-vframes", "-fs"), _RANGE),
    **dict.fromkeys(("-aq", "-ar", "-ac", "-q:a", "-vbr", "-sample_fmt", "-channel_layout"), _SOUND),
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
    **dict.fromkeys(("-xerror", "-err_detect"), "--strict counts damage as failure"),
    "-pixel_format": "it is -pix_fmt",
    "-progress": "--progress plain writes lines for people, --log-json for programs",
    "-vb": "it is -b:v",
    "-b": "it is -b:v, or -b:a for sound",
    "-dn": "data streams are copied",
    "-vn": "carfix restores the video of a file; ffmpeg -vn takes its sound out",
    "-strict": "--strict counts damage as failure; FFmpeg's, for an encoder, is -x strict=VALUE",
    "-loglevel": "-q shows errors alone, -v tracebacks",
    "-force_key_frames": "-g is the most frames from keyframe to keyframe",
}


def means_nothing_here(option: str) -> bool:
    """Whether it can be left out: what it asks for is so anyway."""
    return option in _NOTHING


def hint_for(option: str) -> str | None:
    """What to write instead of an option of FFmpeg's; None if it is not known for one."""
    return next((_HINTS[name] for name in _unmarked(option) if name in _HINTS), None)


def encoder_hint_for(option: str) -> str | None:
    """The same of an option that some encoder has."""
    from carfix.video.encoder_settings import all_options

    found = next((name[1:] for name in _unmarked(option) if name[1:] in all_options()), None)
    return found and f"options of the encoder are given by -x: -x {found}=VALUE"


def _unmarked(option: str) -> tuple[str, ...]:
    """The option with and without its stream: -c:v:0, -filter:v."""
    return option, option.rpartition(":")[0], option.partition(":")[0]
