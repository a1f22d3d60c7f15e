"""How many jobs a second go through a Ray cluster: ``python -m benchmarks.on_ray``.

A cluster is begun on this machine for each number of workers, with as many cores as that, however few it has: what
sleeps is then as it would be on so many machines, but for the network; what computes shares the cores that there are.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from parity.running.executor import Emit, Environment, Executor, Progress, Resources

WORKERS = (1, 2, 4, 8)
SECONDS = 0.05
SIZE = 100
"""Products of square matrices of this size are what computes, for as long as it takes one worker alone to sleep."""
NUMPY, CORE = Environment("numpy"), Resources()


@dataclass(frozen=True)
class Sleep:
    """Sleep."""

    seconds: float
    environment: Environment = NUMPY
    resources: Resources = CORE

    def run(self, emit: Emit) -> float:
        emit(Progress(1, 1))
        time.sleep(self.seconds)
        return self.seconds


@dataclass(frozen=True)
class Multiply:
    """Multiply matrices so many times, and say for how many seconds."""

    times: int
    environment: Environment = NUMPY
    resources: Resources = CORE

    def run(self, emit: Emit) -> float:
        import numpy as np

        emit(Progress(1, 1))
        begun, matrix = time.perf_counter(), np.eye(SIZE)
        for _ in range(self.times):
            matrix = matrix @ matrix
        return time.perf_counter() - begun


def rate(executor: Executor, job: Sleep | Multiply, jobs: int) -> float:
    """Jobs a second, after every worker has begun."""
    begun = time.perf_counter()
    for future in [executor.submit(job) for _ in range(jobs)]:
        future.result()
    return jobs / (time.perf_counter() - begun)


def measured(executor: Executor, workers: int, times: int, jobs: int) -> list[float]:
    """Jobs a second that sleep, that compute and that do nothing; then the seconds until every worker has begun.

    At last the milliseconds that this process itself spends on a job.
    """
    with executor:
        begun = time.perf_counter()
        for future in [executor.submit(Sleep(2.0)) for _ in range(workers)]:
            future.result()
        started = time.perf_counter() - begun - 2.0
        kinds, mine = (Sleep(SECONDS), Multiply(times), Sleep(0.0)), time.process_time()
        rates = [rate(executor, job, workers * jobs) for job in kinds]
        return [*rates, started, 1000 * (time.process_time() - mine) / (len(kinds) * workers * jobs)]


def main(jobs: int = 100) -> None:
    """Measure and print a line for each number of workers, here and on Ray; so many jobs for each."""
    import ray

    from parity.running.ray.executor import RayExecutor
    from parity.running.workers.pool import Pool

    with Pool(1) as pool:
        pool.submit(Multiply(1)).result()
        times = int(1000 * SECONDS / pool.submit(Multiply(1000)).result())
    print(f"{os.cpu_count()} cores; {1000 * SECONDS:g} ms of sleep, or {times} products of {SIZE} × {SIZE} matrices\n")
    print("| workers | | sleep | compute | nothing | begun after | here, each |")
    print("|---|---|---|---|---|---|---|")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    for workers in WORKERS:
        found = {"pool": measured(Pool(workers, start_another=0), workers, times, jobs)}
        ray.init("local", num_cpus=workers, object_store_memory=200 << 20, **quiet)
        found["Ray"] = measured(RayExecutor(jobs=workers), workers, times, jobs)
        ray.shutdown()
        for name, (*rates, started, each) in found.items():
            figures = (*(f"{rate:.1f}/s" for rate in rates), f"{started:.1f} s", f"{each:.1f} ms")
            print("|", " | ".join((str(workers), name, *figures)), "|", flush=True)


if __name__ == "__main__":
    # What a worker is given must have been made by a module that it can import, too.
    from benchmarks.on_ray import main as measure

    measure(*(int(number) for number in sys.argv[1:]))
