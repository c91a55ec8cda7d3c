"""AAC of transport streams, which describe it in the header of each packet (ADTS) and not at the beginning."""

from av.audio.stream import AudioStream
from av.stream import Stream

#: MPEG-4's type of sound, and how often the rate that is heard has the rate that is stored, by FFmpeg's names.
_PROFILES = {"Main": (1, 1), "LC": (2, 1), "HE-AAC": (2, 2), "HE-AACv2": (2, 2)}
#: ISO/IEC 14496-3, 1.6.3.4: rates in Hz by their numbers.
_RATES = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000),
    *(22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
#: The same, 1.6.3.5: numbers of the channels' usual arrangements. Others are told in the sound itself.
_ARRANGEMENTS = {"mono": 1, "stereo": 2, "5.1": 6}


def describe_aac(copy: Stream) -> None:
    """Give `copy`, a stream for packets of sound, its description if that is AAC and lacks it.

    Matroska has it ahead of all packets. In a file FFmpeg's muxer goes back there, and must find the room that it has
    left; into a pipe it refuses the stream.
    """
    if not isinstance(copy, AudioStream) or copy.codec_context.name != "aac" or copy.codec_context.extradata:
        return
    context = copy.codec_context
    kind, times = _PROFILES.get(context.profile or "", (0, 1))
    rate, layout = context.sample_rate // times, context.layout.name
    if context.profile == "HE-AACv2":  # both channels are made of one
        layout = "mono"
    if kind and rate in _RATES and layout in _ARRANGEMENTS:
        config = kind << 11 | _RATES.index(rate) << 7 | _ARRANGEMENTS[layout] << 3
        context.extradata = config.to_bytes(2, "big")
