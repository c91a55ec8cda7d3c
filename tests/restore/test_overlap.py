"""Several batches under way: results as of each alone, in order, and always work for every thread of a CPU."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from backends import FAST, fused_engine, picture, torch_engine
from engines import Overlapped
from networks import awake_model

from carfix.restore.engine import Planes, Wanted
from carfix.restore.engine.cpu_engine import WINDOWS_AHEAD, WindowRestorer
from carfix.restore.engine.fused import is_fusable
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.overlap import begin, in_order

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_batches_under_way_on_a_cpu_give_what_they_give_alone() -> None:
    model = awake_model(FAST)
    engine = fused_engine(model, 64)
    codes = picture(90, 118, count=6)
    wanted = engine.restore(codes, 8)
    shares = np.linspace(0, 1, 6, dtype=np.float32)
    moved = engine.restore(codes, 8, shares)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    under_way = [engine.submit(codes[part], 8) for part in parts]
    with_shares = [engine.submit(codes[part], 8, shares[part]) for part in parts]
    small = engine.submit(codes[:1, :30, :30], 8)  # windows of another size meanwhile
    for part, batch in reversed([*zip(parts, under_way, strict=True)]):
        assert np.array_equal(batch.result(), wanted[part])
    for part, batch in zip(parts, with_shares, strict=True):
        assert np.array_equal(batch.result(), moved[part])
    assert small.result().shape == (1, 30, 30)
    engine.close()


def test_batches_begin_ahead_of_results_which_come_in_order() -> None:
    engine = Overlapped(1, batch=1, depth=3)
    begun: list[int] = []

    def batches() -> Iterator[Callable[[], Planes]]:
        for number in range(5):
            begun.append(number)
            yield begin(engine, np.full((1, 2, 2), number, np.uint8), 8)

    results = in_order(engine, batches())
    assert next(results)[0, 0, 0] == 1
    assert begun == [0, 1, 2]
    assert [int(planes[0, 0, 0]) for planes in results] == [2, 3, 4, 5]
    assert engine.most == 3


@pytest.mark.parametrize(("threads", "frames"), [(1, 1), (2, 2), (16, 4), (64, 4)])
def test_there_are_always_windows_for_all_threads(threads: int, frames: int) -> None:
    """Also behind the batch that is waited for, whatever the size of the video."""
    engine = fused_engine(awake_model(FAST), None, threads=threads, batch=frames)
    for height, width in ((24, 32), (360, 640)):
        codes = np.zeros((frames, height, width), np.uint8)
        engine.submit(codes, 8).result()
        windows = frames * len(engine.cut(codes).found)
        assert (engine.depth - 1) * windows >= WINDOWS_AHEAD * threads > (engine.depth - 2) * windows
    engine.close()


def test_memory_that_a_thread_lacks_makes_windows_smaller() -> None:
    class Narrow(FusedEngine):
        def restorer(self, height: int, width: int) -> WindowRestorer:
            compute = super().restorer(height, width)

            def narrow(
                codes: Planes, bits: int, share: float, kept: tuple[slice, slice], wanted: Wanted | None
            ) -> Planes:
                if height > 60:
                    raise MemoryError
                return compute(codes, bits, share, kept, wanted)

            return narrow

    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    model = awake_model(FAST)
    codes = picture(96, 96, count=2)
    engine = Narrow(model, precision="fp32", threads=2)
    wanted = torch_engine(model, None).restore(codes, 8)
    under_way = [engine.submit(codes, 8) for _ in range(3)]
    assert all(np.array_equal(batch.result(), wanted) for batch in under_way)
    assert engine.tile == 48  # halved once, though all three found no room
    assert np.array_equal(engine.restore(codes, 8), wanted)
    engine.close()
