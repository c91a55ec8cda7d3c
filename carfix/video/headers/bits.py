"""Bits of a header, first bit first."""


class Bits:
    """Reads numbers off the front. Raises `EndOfHeader` where there are no more bits."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        if count > self._left:
            raise EndOfHeader
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        """One bit."""
        return self.u(1) == 1

    def skip(self, count: int) -> None:
        """Pass over `count` bits."""
        self.u(count)

    def ue(self) -> int:
        """Exponential Golomb, unsigned (ITU-T H.265, 9.2)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise EndOfHeader
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Exponential Golomb, signed (ITU-T H.265, 9.2.2)."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class EndOfHeader(Exception):
    """The header is shorter than its own fields say: it is damaged, or not what it was taken for."""
