"""Decoders that conceal what damage took: H.264's does so only where one thread has the whole frame.

With threads within a frame FFmpeg switches its concealment off (and calls it unsafe there), and macroblocks that could
not be decoded show whatever a reused picture held: another thing in every run. A camera's frames are one slice, which
one thread decodes anyway.
"""

from av.codec.context import CodecContext

#: Codecs whose decoders conceal with one thread alone.
_ALONE = ("h264",)


def conceal(context: CodecContext) -> None:
    """Let a decoder that is not open yet conceal errors, the same way in every run and on every machine."""
    if context.codec.canonical_name in _ALONE and not context.is_hwaccel:
        context.thread_count = 1
