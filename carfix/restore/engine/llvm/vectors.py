"""Vectors of fp32 in LLVM's intermediate code: what the kernels are written with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from llvmlite import ir

#: Where instructions are added.
Code: TypeAlias = ir.IRBuilder
#: A number, vector or address in the code: llvmlite gives them no types in Python.
Value: TypeAlias = Any

FLOAT = ir.FloatType()
POINTER = ir.PointerType()
INDEX = ir.IntType(64)
LANE = ir.IntType(32)
#: Bytes that addresses are multiples of, as far as LLVM may rely on it: those of one fp32.
_ALIGNED = 4
#: fp32 in a cache line.
LINE = 16
#: 1.5 * 2^23: fp32 of this size are whole numbers.
ROUNDS = 12582912.0


class Numbers:
    """Vectors of numbers of four bytes."""

    def __init__(self, module: ir.Module, number: ir.Type, lanes: int) -> None:
        self.module, self.number, self.lanes = module, number, lanes
        self.type = ir.VectorType(number, lanes)

    def constant(self, value: float) -> Value:
        """`value` in every lane."""
        return ir.Constant(self.type, [value] * self.lanes)

    def load(self, code: Code, pointer: Value) -> Value:
        """The vector at `pointer`."""
        return code.load(pointer, typ=self.type, align=_ALIGNED)

    def store(self, code: Code, vector: Value, pointer: Value) -> None:
        """Put `vector` at `pointer`."""
        code.store(vector, pointer, align=_ALIGNED)

    def broadcast(self, code: Code, pointer: Value) -> Value:
        """The number at `pointer` in every lane."""
        return self.filled(code, code.load(pointer, typ=self.number))

    def filled(self, code: Code, value: Value) -> Value:
        """One number in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        one = code.insert_element(undefined, value, ir.Constant(LANE, 0))
        lanes = ir.Constant(ir.VectorType(LANE, self.lanes), [0] * self.lanes)
        return code.shuffle_vector(one, undefined, lanes)


class Vectors(Numbers):
    """Operations on `<lanes x float>`."""

    def __init__(self, module: ir.Module, lanes: int) -> None:
        super().__init__(module, FLOAT, lanes)

    def of(self, lanes: int) -> "Vectors":
        """Vectors of another length in the same module."""
        return Vectors(self.module, lanes)

    def prefetch(self, code: Code, pointer: Value, *, to_write: bool) -> None:
        """Have the cache line of `pointer` fetched, which need not be an address of ours."""
        near, data = 3, 1
        flags = [ir.Constant(LANE, n) for n in (int(to_write), near, data)]
        types = [POINTER, *[LANE] * len(flags)]
        called(code, self.module, "llvm.prefetch.p0", ir.VoidType(), types, [pointer, *flags])

    def lane(self, code: Code, vector: Value, number: int) -> Value:
        """One of the vector's numbers."""
        return code.extract_element(vector, ir.Constant(LANE, number))

    def multiply_add(self, code: Code, x: Value, y: Value, z: Value) -> Value:
        """x * y + z; `x` may be a number."""
        if isinstance(x, float):
            x = self.constant(x)
        # One instruction where the CPU has it, a product and a sum elsewhere.
        name = f"llvm.fmuladd.v{self.lanes}f32"
        return called(code, self.module, name, self.type, [self.type] * 3, [x, y, z])

    def combination(self, code: Code, coefficients: Sequence[Fraction], vectors: Sequence[Value]) -> Value:
        """The sum of products, as many as there are coefficients; one of these is 1."""
        start = coefficients.index(Fraction(1))
        result = vectors[start]
        for number, coefficient in enumerate(coefficients):
            if number == start:
                continue
            if coefficient == 1:
                result = code.fadd(result, vectors[number])
            elif coefficient == -1:
                result = code.fsub(result, vectors[number])
            else:
                result = self.multiply_add(code, float(coefficient), vectors[number], result)
        return result

    def leaky_relu(self, code: Code, vector: Value, slope: float) -> Value:
        """The larger of `vector` and `slope` times it, which is LeakyReLU for slopes up to 1."""
        scaled = code.fmul(vector, self.constant(slope))
        return code.select(code.fcmp_ordered(">", vector, scaled), vector, scaled)

    def converted(self, code: Code, pointer: Value, integer: ir.IntType) -> Value:
        """The unsigned integers at `pointer` as fp32."""
        wide = ir.VectorType(LANE, self.lanes)
        loaded = code.load(pointer, typ=ir.VectorType(integer, self.lanes), align=integer.width // 8)
        return code.sitofp(code.zext(loaded, wide), self.type)

    def store_rounded(self, code: Code, vector: Value, pointer: Value, integer: ir.IntType) -> None:
        """Numbers that such integers have, rounded to the nearest, halves to even, at `pointer`."""
        # Beside a number this large, no fraction is left: one rounding by the CPU's own rule.
        large = self.constant(ROUNDS)
        whole = code.fsub(code.fadd(vector, large), large)
        integers = code.fptosi(whole, ir.VectorType(LANE, self.lanes))
        code.store(
            code.trunc(integers, ir.VectorType(integer, self.lanes)), pointer, align=integer.width // 8
        )

    def bounded(self, code: Code, vector: Value, low: Value, high: Value) -> Value:
        """No less than `low`, no more than `high`."""
        above = code.select(code.fcmp_ordered(">", vector, low), vector, low)
        return code.select(code.fcmp_ordered("<", above, high), above, high)


def called(
    code: Code,
    module: ir.Module,
    name: str,
    result: ir.Type,
    types: Sequence[ir.Type],
    arguments: Sequence[Value],
) -> Value:
    """What LLVM's function `name` makes of `arguments` of these types."""
    function = module.globals.get(name) or ir.Function(module, ir.FunctionType(result, types), name)
    return code.call(function, arguments)


def rounded_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is no less than `size`."""
    return -(-size // unit) * unit


def number(value: Value) -> Value:
    """An index: a number of Python's as LLVM's; LLVM's as it is."""
    return ir.Constant(INDEX, value) if isinstance(value, int) else value


def at(code: Code, pointer: Value, *offsets: Value, of: ir.Type = FLOAT) -> Value:
    """`pointer` moved on by the sum of `offsets`, in numbers of type `of`; a pair stands for a product."""
    total: Value = None
    for offset in offsets:
        if isinstance(offset, tuple):
            offset = code.mul(number(offset[0]), number(offset[1]))
        total = number(offset) if total is None else code.add(total, number(offset))
    return code.gep(pointer, [total], source_etype=of)


@contextlib.contextmanager
def loop(code: Code, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
    """The code added inside runs with the index given, from `start` by `step` while it is below `stop`."""
    before = code.block
    head, body, behind = (code.append_basic_block() for _ in range(3))
    code.branch(head)
    code.position_at_end(head)
    index = code.phi(INDEX)
    index.add_incoming(number(start), before)
    code.cbranch(code.icmp_signed("<", index, number(stop)), body, behind)
    code.position_at_end(body)
    yield index
    index.add_incoming(code.add(index, number(step)), code.block)
    code.branch(head)
    code.position_at_end(behind)


def carried(
    code: Code,
    stop: int,
    step: int,
    values: Sequence[Value],
    body: Callable[[Value, list[Value]], list[Value]],
) -> list[Value]:
    """`values` after `body(index, values)`, which returns the next ones, for each index from 0 by `step` below `stop`.

    They stay in registers; there is at least one round.
    """
    before, again, behind = code.block, code.append_basic_block(), code.append_basic_block()
    code.branch(again)
    code.position_at_end(again)
    index = code.phi(INDEX)
    index.add_incoming(number(0), before)
    entering = [code.phi(value.type) for value in values]
    for entered, value in zip(entering, values, strict=True):
        entered.add_incoming(value, before)
    leaving = body(index, list(entering))
    following = code.add(index, number(step))
    index.add_incoming(following, code.block)
    for entered, value in zip(entering, leaving, strict=True):
        entered.add_incoming(value, code.block)
    code.cbranch(code.icmp_signed("<", following, number(stop)), again, behind)
    code.position_at_end(behind)
    return leaving
