"""What watching a loop of one's own costs: a deeply recorded update, and a later one, over an update nobody watches.

Without shadows, each of which makes every update once more. Plain and later updates take turns, several at a time.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.loops import LOOPS, RESIDUAL, Watch
from benchmarks.measuring import CLOCK, Workers, take


@pytest.mark.benchmark(group="watching", timer=CLOCK)
@pytest.mark.parametrize("loop", LOOPS)
def test_watching(benchmark: Any, loop: str, workers: Workers, rounds: int) -> None:
    framework = LOOPS[loop][0]
    if not workers.has(framework):
        pytest.skip(f"{framework} cannot run here")
    seconds = workers.ask(framework, Watch, loop=loop, rounds=rounds if loop.endswith(RESIDUAL) else 3 * rounds)
    take(benchmark, seconds["later"])
    benchmark.extra_info |= {
        "loop": loop,
        "plain_seconds": seconds["plain"],
        "first_seconds": seconds["first"][0],
        "deep_seconds": seconds["deep"],
        "disk_seconds": seconds["disk"],
        "peak_bytes": seconds["bytes"][0],
    }
