"""Luma codes into the plane that a network works on, and its result into codes: one pass over memory each.

The arithmetic is that of `carfix.restore.engine.planes`, operation by operation.
"""

from collections.abc import Callable

from llvmlite import ir

from carfix.restore.engine.llvm.vectors import (
    FLOAT,
    INDEX,
    POINTER,
    Code,
    Value,
    Vectors,
    at,
    loop,
    number,
)


def write_entrance(module: ir.Module, vectors: Vectors, bits: int) -> None:
    """A function `enterN`: codes of N bits times a factor, less 1.

    Its arguments: the plane's pixel, the first code; rows and columns; fp32 from row to row of the plane, codes from
    row to row; the factor, 2 / peak.
    """
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [POINTER] * 2 + [INDEX] * 4 + [FLOAT]), f"enter{bits}"
    )
    target, source, height, width, target_row, source_row, factor = function.args
    integer = ir.IntType(bits)
    code = ir.IRBuilder(function.append_basic_block())

    def pixels(by: Vectors, y: Value, x: Value) -> None:
        codes = by.converted(code, at(code, source, (y, source_row), x, of=integer), integer)
        unit = code.fsub(code.fmul(codes, by.filled(code, factor)), by.constant(1.0))
        by.store(code, unit, at(code, target, (y, target_row), x))

    _each(code, vectors, height, width, pixels)


def write_exit(module: ir.Module, vectors: Vectors, bits: int) -> None:
    """A function `leaveN`: a plane, and a share of what its residual moves it within [-1, 1], as codes of N bits.

    Its arguments: the first code, the plane's and the residual's pixel; rows and columns; codes from row to row, fp32
    from row to row of plane and residual; the share, and half of the peak.
    """
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [POINTER] * 3 + [INDEX] * 5 + [FLOAT] * 2), f"leave{bits}"
    )
    target, plane, residual, height, width, target_row, plane_row, residual_row, share, half = function.args
    integer = ir.IntType(bits)
    code = ir.IRBuilder(function.append_basic_block())
    whole = code.fcmp_ordered("==", share, ir.Constant(FLOAT, 1.0))

    def pixels(by: Vectors, y: Value, x: Value) -> None:
        unit = by.load(code, at(code, plane, (y, plane_row), x))
        moved = code.fadd(unit, by.load(code, at(code, residual, (y, residual_row), x)))
        restored = by.bounded(code, moved, by.constant(-1.0), by.constant(1.0))
        part = code.fmul(by.filled(code, share), code.fsub(restored, unit))
        restored = code.select(whole, restored, code.fadd(unit, part))
        scale = by.filled(code, half)
        value = code.fmul(code.fadd(restored, by.constant(1.0)), scale)
        value = by.bounded(code, value, by.constant(0.0), code.fadd(scale, scale))
        by.store_rounded(code, value, at(code, target, (y, target_row), x, of=integer), integer)

    _each(code, vectors, height, width, pixels)


def _each(
    code: Code, vectors: Vectors, height: Value, width: Value, pixels: Callable[[Vectors, Value, Value], None]
) -> None:
    """`pixels` for all, vectors of them as far as a row has whole ones."""
    single = vectors.of(1)
    whole = code.sub(width, code.urem(width, number(vectors.lanes)))
    with loop(code, 0, height) as y:
        with loop(code, 0, whole, vectors.lanes) as x:
            pixels(vectors, y, x)
        with loop(code, whole, width) as x:
            pixels(single, y, x)
    code.ret_void()
