"""What the first convolution reads: the plane in cells, each pixel as a sum of two bf16.

bf16 has eight bits, a code up to sixteen: the second number is what the first one leaves.
"""

from llvmlite import ir

from carfix.restore.engine.amx.tiles import FLOATS, SHORT, narrow, widened
from carfix.restore.engine.llvm.vectors import INDEX, POINTER, Code, Value, Vectors, at, loop, number


def write_cells(module: ir.Module, scale: int) -> None:
    """A function `cells`: PixelUnshuffle of a plane of fp32 into cells of `[2, scale, scale]` bf16, high parts first.

    Its arguments: the first cell, the plane's first pixel; rows and columns of cells; units of four bytes from row to
    row of the cells, fp32 from row to row of the plane. `scale` divides 16.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 2 + [INDEX] * 4), "cells")
    target, plane, height, width, target_row, plane_row = function.args
    code: Code = ir.IRBuilder(function.append_basic_block())
    many = FLOATS // scale

    def some(y: Value, x: Value, count: int) -> None:
        vectors = Vectors(module, count * scale)
        highs, lows = [], []
        for line in range(scale):
            source = at(
                code, plane, (code.add(code.mul(y, number(scale)), number(line)), plane_row), (x, scale)
            )
            value = vectors.load(code, source)
            high = narrow(code, value)
            bits = code.bitcast(high, ir.VectorType(SHORT, vectors.lanes))
            highs.append(bits)
            low = narrow(code, code.fsub(value, widened(code, vectors, bits)))
            lows.append(code.bitcast(low, ir.VectorType(SHORT, vectors.lanes)))
        parts = _joined(code, highs + lows)
        # Of cell c, [part, line, column]: parts lie one after another, `count` cells of `scale` columns each.
        order = [
            (part * scale + line) * count * scale + cell * scale + column
            for cell in range(count)
            for part in range(2)
            for line in range(scale)
            for column in range(scale)
        ]
        code.store(_shuffled(code, parts, order), at(code, target, (y, target_row), (x, scale**2)), align=2)

    whole = code.sub(width, code.urem(width, number(many)))
    with loop(code, 0, height) as y:
        with loop(code, 0, whole, many) as x:
            some(y, x, many)
        with loop(code, whole, width) as x:
            some(y, x, 1)
    code.ret_void()


def _joined(code: Code, vectors: list[Value]) -> Value:
    """A power of two of vectors as one."""
    while len(vectors) > 1:
        size = 2 * vectors[0].type.count
        mask = ir.Constant(ir.VectorType(ir.IntType(32), size), list(range(size)))
        vectors = [
            code.shuffle_vector(one, other, mask)
            for one, other in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _shuffled(code: Code, vector: Value, order: list[int]) -> Value:
    undefined = ir.Constant(vector.type, ir.Undefined)
    return code.shuffle_vector(
        vector, undefined, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    )
