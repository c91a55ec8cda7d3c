"""Flash Video's uncompressed sound: what FFmpeg's muxer would take and not give back."""

from av.audio.codeccontext import AudioCodecContext

FLV = "flv"
#: Sampling rates in Hz that FLV has a number for, by codec: it writes others under one of these, without a word.
_RATES = {
    "pcm_alaw": (8_000,),
    "pcm_mulaw": (8_000,),
    "pcm_u8": (11_025, 22_050, 44_100),
    "pcm_s16le": (11_025, 22_050, 44_100),
    "adpcm_swf": (11_025, 22_050, 44_100),
}
#: Of more channels than stereo FLV tells the places, for codecs that it has a four-letter code for: for these it has
#: none, and the muxer ends the whole process (FFmpeg 8 and 9).
_MOST_CHANNELS = 2


def flash_refusal(context: AudioCodecContext) -> str | None:
    """Why FLV cannot hold such sound; None if it can, or its muxer says so itself."""
    codec = context.codec.canonical_name
    if codec not in _RATES and not codec.startswith("pcm_"):
        return None
    rates = _RATES.get(codec, ())
    if not rates:
        return "it has no such sound"
    if context.sample_rate in rates and context.layout.nb_channels <= _MOST_CHANNELS:
        return None
    return f"it takes it at {', '.join(map(str, rates))} Hz, in mono or stereo"
