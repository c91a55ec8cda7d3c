"""What a GPU may refuse - memory, graphs, compilers - and what the engine does then; on the CPU."""

import contextlib
import weakref

import numpy as np
import pytest
import torch
from backends import CPU, FAST, Late, cuda_engine, expected_of, picture
from networks import awake_model

from carfix.errors import CarfixError
from carfix.restore.engine.autotune import Plan
from carfix.restore.engine.cuda_engine import windows_at_once
from carfix.restore.engine.cuda_program import COMPILED, EAGER, Batch, Builder, Program
from carfix.restore.engine.cuda_streams import CudaStreams, Mark


class Cramped(Builder):
    """A device that holds windows of at most 48 pixels."""

    def build(self, variant: str, batch: Batch) -> Program:
        if batch.height > 48:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().build(variant, batch)


def test_out_of_memory_repeats_the_frames_in_smaller_windows_and_remembers() -> None:
    model = awake_model(FAST)
    engine = cuda_engine(model, builder=Cramped, queues=Late())
    small = engine.submit(picture(40, 40), 8)
    large = engine.submit(picture(150, 96), 8)
    assert np.array_equal(large.result(), expected_of(model, picture(150, 96)))
    assert np.array_equal(small.result(), expected_of(model, picture(40, 40)))
    assert engine.plan(150, 96).tile <= 48
    assert engine.plan(40, 40).tile == 4096  # whole frames of that size fit
    assert np.array_equal(engine.restore(picture(150, 96), 8), expected_of(model, picture(150, 96)))


class Full(Builder):
    def build(self, variant: str, batch: Batch) -> Program:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


def test_out_of_memory_below_the_smallest_window_is_an_error() -> None:
    with pytest.raises(CarfixError, match="smallest window"):
        cuda_engine(awake_model(FAST), builder=Full).restore(picture(64, 64), 8)


def test_a_variant_that_cannot_be_built_any_more_is_replaced() -> None:
    class NoCompiler(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            if variant == COMPILED:
                raise FileNotFoundError("gcc")
            return super().build(variant, batch)

    model = awake_model(FAST)
    engine = cuda_engine(model, 64, windows=2, builder=NoCompiler, variant=COMPILED)
    codes = picture(100, 70)
    assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes, tile=64))


class Streams(CudaStreams):
    """Streams as a builder of graphs sees them, on a machine that has none."""

    def __init__(self) -> None:
        pass

    def on(self, queue: str, after: Mark | None = None) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        pass


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing"), None])
def test_a_capture_that_fails_leaves_the_program_as_it_is(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError | None
) -> None:
    class Captured(Program):
        def __init__(self, restore: object, batch: Batch, device: torch.device) -> None:
            raise error or torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("carfix.restore.engine.cuda_program.CapturedProgram", Captured)
    builder = Builder(awake_model(FAST).net, device=CPU, precision="fp32", queues=Streams())
    if error is None:
        with pytest.raises(torch.OutOfMemoryError):
            builder.build(EAGER, Batch(1, 32, 32, 8))
        return
    program = builder.build(EAGER, Batch(1, 32, 32, 8))
    codes = picture(32, 32)
    program.input.copy_(torch.from_numpy(codes))
    program()
    assert np.array_equal(program.output.numpy(), expected_of(awake_model(FAST), codes))
    assert not program.captured


def test_programs_for_other_batches_make_room_before_windows_shrink() -> None:
    alive: weakref.WeakSet[Program] = weakref.WeakSet()

    class RoomForOne(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            if alive:
                raise torch.OutOfMemoryError("CUDA out of memory")
            program = super().build(variant, batch)
            alive.add(program)
            return program

    model = awake_model(FAST)
    engine = cuda_engine(model, windows=2, builder=RoomForOne)
    for count in (2, 1, 2):
        codes = picture(60, 44, count=count)
        assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes))
    assert engine.plan(60, 44) == Plan(4096, 2, EAGER)


def test_few_windows_do_not_pay_for_a_full_batch() -> None:
    plan = Plan(1920, 6, EAGER)
    assert [windows_at_once(plan, count) for count in (1, 2, 3, 4, 5, 6, 60)] == [1, 2, 4, 4, 6, 6, 6]
    assert windows_at_once(Plan(1920, 6, COMPILED), 1) == 6


def test_many_planes_go_through_in_parts() -> None:
    model = awake_model(FAST)
    engine = cuda_engine(model, queues=Late())  # two frames a batch
    codes = picture(40, 40, count=7)
    assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes))
    assert max(len(slot.source) for slot in engine._slots if slot is not None) == 2
    assert engine.restore(codes[:0], 8).shape == (0, 40, 40)


def test_other_errors_of_the_device_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        cuda_engine(awake_model(FAST), builder=Broken).restore(picture(64, 64), 8)
