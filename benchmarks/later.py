"""What a later update of a watched loop costs over one that nobody watches, taking turns update by update.

    python -m benchmarks.later [LOOP ...] [--updates N]

Both loops are in one process, so that what else the machine does slows both alike. The ratio is the median of those of
neighbours, of wall time and of the processor time of all threads. The load of the machine is said beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.loops import LOOPS, Loop, Step

WARM = 15
"""The first so many updates are compiled, or are recorded deeply."""
QUICK = ("torch", "torch.compile", "flax jit", "flax nnx jit", "keras graph", "keras jit")


def measure(name: str, updates: int) -> str:
    """Measure one loop in this process, and say it in a line of a table.

    Args:
        name: One of ``LOOPS``.
        updates: How many updates of each are taken.
    """
    from parity.watching import watch

    make = LOOPS[name][1]
    alone, loop = make(), make()
    plain, folder = alone.update(None), Path(tempfile.mkdtemp(prefix="parity-bench-"))
    try:
        with watch(folder / "run", *loop.watched, deep=1, shadows=0) as run:
            watched = loop.update(run)
            for _ in range(WARM):
                _taken(alone, plain)
                _taken(loop, watched)
            both = [(_taken(alone, plain), _taken(loop, watched)) for _ in range(updates)]
    finally:
        shutil.rmtree(folder)
    wall, processor = (statistics.median(later[k] / one[k] for one, later in both) for k in (0, 1))
    usual = statistics.median(one[0] for one, _ in both)
    load = os.getloadavg()[0]
    return f"{name:22} {1000 * usual:8.1f} ms  {wall:6.3f} ×  {processor:6.3f} ×  load {load:.1f}"


def _taken(loop: Loop, step: Step) -> tuple[float, float]:
    begun = time.perf_counter(), time.process_time()
    loop.wait(step())
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def main() -> None:
    """Measure each loop in a process of its own, because frameworks share none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs="*", choices=[*LOOPS, []], metavar="LOOP", help=", ".join(LOOPS))
    parser.add_argument("--updates", type=int, default=200, help="how many updates of each are taken (200)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(measure(given.loops[0], given.updates))
        return
    print(f"{'loop':22} {'plain':>11}  {'wall':>8}  {'processor':>8}")
    for name in given.loops or QUICK:
        again = [sys.executable, "-m", "benchmarks.later", name, "--updates", str(given.updates), "--here"]
        quiet = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(again, env=quiet, capture_output=True, text=True, check=False)
        print(done.stdout.strip() or f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
