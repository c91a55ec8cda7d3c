"""Picture headers of H.263 (ITU-T H.263, 5.1): whether a picture needs none before it."""

from carfix.video.headers.bits import Bits, EndOfHeader

_START_CODE, _START_CODE_BITS = 0b10_0000, 22
#: PTYPE's source format that says that PLUSPTYPE follows, which H.263+ has (5.1.4), and UFEP's value for all of it.
_EXTENDED, _ALL_FIELDS = 0b111, 0b001
#: MPPTYPE's picture type code of an I-picture.
_INTRA = 0b000


def is_intra(packet: bytes) -> bool:
    """Whether the packet holds an I-picture; False where its header does not tell."""
    header = Bits(packet[:16])
    try:
        if header.u(_START_CODE_BITS) != _START_CODE:
            return False
        # Temporal reference; two marks, split screen, document camera, freeze picture release.
        header.skip(8 + 5)
        if header.u(3) != _EXTENDED:
            return not header.flag()
        if header.u(3) == _ALL_FIELDS:
            header.skip(18)
        return header.u(3) == _INTRA
    except EndOfHeader:
        return False
