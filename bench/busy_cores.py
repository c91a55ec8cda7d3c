"""How busy a CPU engine keeps many cores, on a machine that has few: windows that sleep instead of computing.

A window sleeps in proportion to its pixels. The share is the sum of all sleeps over cores x seconds: with batches under
way as a restore has them, and with each batch waited for before the next begins.

    python bench/busy_cores.py
"""

import argparse
import math
import time

import numpy as np

from carfix.net.catalog import load_model
from carfix.restore.engine import Planes
from carfix.restore.engine.cpu_engine import WindowRestorer, in_floats
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.overlap import begin, in_order
from carfix.restore.engine.planes import Floats

#: Pixels a second of a core that sleeps: so slow that what is really computed around a window hardly counts.
SPEED = 1e6
SIZES = ((360, 640), (720, 1280))
#: Megapixels for each core to sleep through.
WORK = 4.0


class Sleeping(FusedEngine):
    """Takes windows as the real one does and returns them as they are."""

    def restorer(self, height: int, width: int) -> WindowRestorer:
        """See `CpuEngine.restorer`."""

        def sleep(unit: Floats) -> Floats:
            time.sleep(unit.size / SPEED)
            return unit

        return in_floats(sleep)


def share(engine: FusedEngine, planes: Planes, *, ahead: bool) -> float:
    """The share of all cores' time that windows take."""
    found = engine.cut(planes).found
    pixels = sum(math.prod(window.size) for window in found)
    batches = math.ceil(WORK * 1e6 * engine.threads / (pixels * len(planes)))
    start = time.perf_counter()
    if ahead:
        for _ in in_order(engine, (begin(engine, planes, 8) for _ in range(batches))):
            pass
    else:
        for _ in range(batches):
            engine.restore(planes, 8)
    seconds = time.perf_counter() - start
    return batches * len(planes) * pixels / SPEED / engine.threads / seconds


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="fast")
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 8, 16, 32])
    arguments = parser.parse_args()
    model = load_model(arguments.network)
    print("| cores | picture | batches one by one | under way |\n| ---: | --- | ---: | ---: |")
    for cores in arguments.cores:
        for height, width in SIZES:
            engine = Sleeping(model, precision="fp32", threads=cores)
            planes = np.zeros((engine.batch, height, width), np.uint8)
            engine.restore(planes, 8)  # starts the threads
            alone = share(engine, planes, ahead=False)
            ahead = share(engine, planes, ahead=True)
            print(f"| {cores} | {width}x{height} | {alone:.0%} | {ahead:.0%} |", flush=True)
            engine.close()


if __name__ == "__main__":
    main()
