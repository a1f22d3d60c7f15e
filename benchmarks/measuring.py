"""What the suites share: a clock that workers wind, the cells to train, and the workers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import FRAMEWORKS
from parity.running.cells import Cell, Options, cells
from parity.running.pool import Pool
from parity.running.versions import Versions
from parity.spec import Case
from parity.suite import SuiteError, load_suite

SUITE = "impls"
"""The listings are those of these cases."""
QUICK_CASES = ("iris-logistic", "mlp-regression", "char-gru")
QUICK_LABELS = ("numpy", "torch", "jax")
ROUNDS, QUICK_ROUNDS = 5, 4
"""Four are the fewest that tell a difference between two runs from chance: see ``benchmarks.result.beyond_noise``."""
ROUND_SECONDS = 0.05
"""A shorter run is repeated until a round lasts so long, but not more than ``REPEATS`` times."""
REPEATS = 50


class Clock:
    """A pytest-benchmark timer that stands still but for ``advance``."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def __str__(self) -> str:
        return "perf_counter, where the work is done"

    def advance(self, seconds: float) -> None:
        self._now += seconds


CLOCK = Clock()


def take(benchmark: Any, seconds: Sequence[float]) -> None:
    """Let the ``benchmark`` fixture, whose timer is ``CLOCK``, take rounds that were measured elsewhere."""
    rounds = iter(seconds)
    benchmark.pedantic(lambda: CLOCK.advance(next(rounds)), rounds=len(seconds))


def in_turns(works: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each work, round by round, side by side: ``work(repeats)`` says what one of so many runs took.

    Each runs twice before, uncounted: what is compiled is compiled then, and what is short is repeated within a round.
    """
    often = {}
    for name, work in works.items():
        work(1)
        often[name] = repeats(work(1))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(work(often[name]))
    return seconds


class Workers:
    """A process for each framework that was asked for; only one of them works at a time."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._pools: dict[str, Pool] = {}
        self._versions = Versions({})

    def need(self, implementation: str) -> str:
        """The framework of an implementation; what cannot run here is left unmeasured, with the reason."""
        availability = self._versions.availability(implementation)
        if not availability.available:
            pytest.skip(availability.reason)
        return availability.framework

    def has(self, framework: str) -> bool:
        """Whether a framework can run here."""
        label = next(label for known in FRAMEWORKS if known.name == framework for label in known.packages)
        return self._versions.availability(label).available

    def ask(self, framework: str, do: str, **job: Any) -> Any:
        """The result of a job of ``benchmarks.worker``; WorkerError where it failed."""
        if framework not in self._pools:
            pool = Pool(1, path=sys.path, module="benchmarks.worker")
            self._pools[framework] = self._stack.enter_context(pool)
        job |= {"do": do, "suite": SUITE}
        return self._pools[framework].submit(framework, job).result()["result"]

    def timed(self, framework: str, do: str, **job: Any) -> Callable[[int], float]:
        """A work of ``in_turns``."""
        return lambda repeats: self.ask(framework, do, **job, repeats=repeats)


def trained_cells(config: pytest.Config) -> list[Cell]:
    """The cells asked for, in float32. The activations are left out: they are looked at and not trained."""
    quick, cases = config.getoption("--quick"), config.getoption("--parity-case")
    suite = load_suite(SUITE)
    try:
        options = Options(
            suite,
            Path(),
            cases=cases or (QUICK_CASES if quick else [name for name in suite.entries if name != "activations"]),
            implementations=config.getoption("--parity-impl") or (QUICK_LABELS if quick else ()),
            frameworks=config.getoption("--parity-framework"),
            dtypes=("float32",),
        )
        return cells(options)
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from error


def why(report: pytest.TestReport) -> str:
    """Why a benchmark gave no figure, in a line; nothing where it gave one."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else report.longreprtext).strip().splitlines()
        return lines[0] if lines else "it failed without a word"
    return ""


def steps(case: Case, epochs: int) -> int:
    """Updates in so many epochs."""
    return epochs * len(next(case.schedule.epochs(len(case.data().x))))


def repeats(seconds: float) -> int:
    """How often a run of so many seconds is repeated within a round."""
    return min(REPEATS, max(1, math.ceil(ROUND_SECONDS / seconds)))
