"""The numbers that lie in maps between layers: fp32, or fp16, which takes half of the memory and of its bandwidth."""

import dataclasses

from llvmlite import ir

from carfix.restore.engine.llvm.vectors import FLOAT, LINE, Code, Value, Vectors, at

_HALF = ir.HalfType()


@dataclasses.dataclass(frozen=True)
class Maps:
    """How vectors of fp32 lie in a map; rows are so many units of four bytes, as everywhere."""

    vectors: Vectors
    half: bool

    @property
    def line(self) -> int:
        """Numbers in a cache line."""
        return LINE * numbers_in_unit(half=self.half)

    def at(self, code: Code, row: Value, *offsets: Value) -> Value:
        """The place in a row, by its numbers: see `carfix.restore.engine.llvm.vectors.at`."""
        return at(code, row, *offsets, of=_HALF if self.half else FLOAT)

    def load(self, code: Code, pointer: Value) -> Value:
        """The vector at `pointer`."""
        if not self.half:
            return self.vectors.load(code, pointer)
        halves = ir.VectorType(_HALF, self.vectors.lanes)
        return code.fpext(code.load(pointer, typ=halves, align=2), self.vectors.type)

    def store(self, code: Code, vector: Value, pointer: Value) -> None:
        """Put `vector` at `pointer`, rounded to the nearest."""
        if not self.half:
            self.vectors.store(code, vector, pointer)
            return
        halves = ir.VectorType(_HALF, self.vectors.lanes)
        code.store(code.fptrunc(vector, halves), pointer, align=2)


def numbers_in_unit(*, half: bool) -> int:
    """How many lie in four bytes."""
    return 2 if half else 1
