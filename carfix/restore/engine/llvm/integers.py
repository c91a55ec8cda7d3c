"""Vectors of integers in LLVM's intermediate code; those of 16 bits by the instructions of x86."""

from typing import ClassVar

from llvmlite import ir

from carfix.restore.engine.llvm.vectors import LANE, ROUNDS, Code, Numbers, Value, Vectors, called

#: The bits of `ROUNDS` in fp32.
_ROUNDS_BITS = 0x4B400000
#: Integers in 16 bytes, within which x86 packs.
_PART = 4


class Integers(Numbers):
    """Operations on `<lanes x i32>`, and on twice as many integers of 16 bits in as many bytes."""

    #: What LLVM calls x86's instructions for vectors of so many lanes.
    _PRODUCTS: ClassVar = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}
    _NARROWED: ClassVar = {4: "sse2.packssdw.128", 8: "avx2.packssdw", 16: "avx512.packssdw.512"}

    def __init__(self, module: ir.Module, lanes: int) -> None:
        super().__init__(module, LANE, lanes)
        self.short = ir.VectorType(ir.IntType(16), 2 * lanes)

    def rounded(self, code: Code, vector: Value, scale: Value) -> Value:
        """Vectors of fp32, their product rounded to the nearest, halves to even; below 2^22 either way."""
        # Beside a number this large, no fraction is left, and its last bits are the integer.
        floats = Vectors(self.module, self.lanes)
        summed = floats.multiply_add(code, vector, scale, floats.constant(ROUNDS))
        return code.sub(code.bitcast(summed, self.type), self.constant(_ROUNDS_BITS))

    def narrowed(self, code: Code, first: Value, second: Value) -> Value:
        """Two vectors as one of 16 bits, each number as near as that comes; in the order of `narrowed_order`."""
        name = f"llvm.x86.{self._NARROWED[self.lanes]}"
        return called(code, self.module, name, self.short, [self.type] * 2, [first, second])

    def products_of_pairs(self, code: Code, first: Value, second: Value) -> Value:
        """Of vectors of pairs of 16 bits: both products, summed in 32."""
        name = f"llvm.x86.{self._PRODUCTS[self.lanes]}"
        pairs = [code.bitcast(vector, self.short) for vector in (first, second)]
        return called(code, self.module, name, self.type, [self.short] * 2, pairs)

    def added_in_turn(self, code: Code, total: Value, vector: Value) -> Value:
        """The sum of vectors of 32 bits, which LLVM does not take apart."""
        function = ir.FunctionType(self.type, [self.type, self.type])
        return code.asm(function, "vpaddd $2, $1, $0", "=v,v,v", [total, vector], False)


def narrowed_order(lanes: int) -> list[int]:
    """Which of two vectors' numbers stands where in `Integers.narrowed`: 16 bytes of each vector in turn."""
    starts = range(0, lanes, _PART)
    return [half + start + n for start in starts for half in (0, lanes) for n in range(_PART)]
