"""AMX in LLVM's intermediate code: tiles, and bf16 in and out of vectors of fp32.

A CPU with AMX has eight tiles of 16 rows of 64 bytes. One instruction adds to a tile of 16x16 fp32 the product of a
tile of 16 rows of 32 bf16 and one of 16 rows of 16 pairs of bf16: 8,192 multiplications in 16 cycles.
"""

from collections.abc import Sequence

from llvmlite import ir

from carfix.restore.engine.llvm.vectors import INDEX, POINTER, Code, Value, Vectors, called

#: Rows of a tile, bytes of a row, and what a row holds.
ROWS, ROW_BYTES = 16, 64
PAIRS, FLOATS = 16, 16
#: 4-byte units of a tile.
TILE = ROWS * ROW_BYTES // 4

_BYTE = ir.IntType(8)
#: In which the bits of a bf16 lie.
SHORT = ir.IntType(16)


class _BFloat(ir.Type):  # type: ignore[misc] # llvmlite has no types
    """LLVM's bfloat, which llvmlite does not know."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BFLOAT = _BFloat()


class Tiles:
    """Instructions on tiles, by their numbers 0 to 7."""

    def __init__(self, module: ir.Module) -> None:
        self._module = module

    def configure(self, code: Code, before: Value) -> None:
        """Make all eight whole tiles, for this thread; what was configured goes to the 64 bytes at `before`."""
        self._call(code, "sttilecfg", [POINTER], [before])
        rows, columns = [ROWS] * 8 + [0] * 8, [ROW_BYTES, 0] * 8 + [0] * 16  # bytes, and little-endian words
        config = [1, 0, *[0] * 14, *columns, *rows]
        value = ir.Constant(ir.ArrayType(_BYTE, len(config)), config)
        variable = ir.GlobalVariable(self._module, value.type, "tile_config")
        variable.initializer, variable.global_constant, variable.linkage = value, True, "internal"
        variable.align = ROW_BYTES
        self._call(code, "ldtilecfg", [POINTER], [variable])

    def restore(self, code: Code, before: Value) -> None:
        """As it was before `configure`: other libraries' code in this thread may count on it."""
        self._call(code, "ldtilecfg", [POINTER], [before])

    def load(self, code: Code, tile: int, pointer: Value, stride: int) -> None:
        """Sixteen rows of 64 bytes, `stride` bytes apart."""
        self._call(
            code, "tileloadd64", [_BYTE, POINTER, INDEX], [_tile(tile), pointer, ir.Constant(INDEX, stride)]
        )

    def store(self, code: Code, tile: int, pointer: Value, stride: int) -> None:
        """The same back."""
        self._call(
            code, "tilestored64", [_BYTE, POINTER, INDEX], [_tile(tile), pointer, ir.Constant(INDEX, stride)]
        )

    def multiply_add(self, code: Code, total: int, x: int, y: int) -> None:
        """`total` += `x` times `y`, `y` in pairs of rows."""
        self._call(code, "tdpbf16ps", [_BYTE] * 3, [_tile(total), _tile(x), _tile(y)])

    def _call(self, code: Code, name: str, types: Sequence[ir.Type], arguments: Sequence[Value]) -> None:
        called(code, self._module, f"llvm.x86.{name}", ir.VoidType(), types, arguments)


def _tile(number: int) -> Value:
    return ir.Constant(_BYTE, number)


def load_wide(code: Code, vectors: Vectors, pointer: Value) -> Value:
    """As many bf16 as a vector has lanes, as fp32."""
    return widened(code, vectors, code.load(pointer, typ=ir.VectorType(SHORT, vectors.lanes), align=2))


def widened(code: Code, vectors: Vectors, bits: Value) -> Value:
    """The bits of bf16, in integers, as fp32."""
    long = ir.VectorType(ir.IntType(32), vectors.lanes)
    moved = code.shl(code.zext(bits, long), ir.Constant(long, [16] * vectors.lanes))
    return code.bitcast(moved, vectors.type)


def narrow(code: Code, vector: Value) -> Value:
    """fp32 as bf16, rounded to the nearest."""
    return code.fptrunc(vector, ir.VectorType(BFLOAT, vector.type.count))
