"""What the suites share: a clock that is set by hand, the worker processes, and the cells to train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.worker import Listing, Prepare, Run
from parity.frameworks import FRAMEWORKS
from parity.running.cells import Cell, Options, cells
from parity.running.executor import Environment, Job
from parity.running.packages import reach_of
from parity.running.versions import Versions
from parity.running.workers.pool import Pool
from parity.spec import Case
from parity.suite import SuiteError, load_suite

T = TypeVar("T")
SUITE = "impls"
"""The suite whose cases the documents' scripts train."""
QUICK_CASES = ("iris-logistic", "mlp-regression", "char-gru")
QUICK_LABELS = ("numpy", "torch", "jax")
ROUNDS, QUICK_ROUNDS = 5, 4
"""Four are the fewest that tell a difference between two runs from chance: see ``benchmarks.result.beyond_noise``."""
ROUND_SECONDS = 0.05
"""A run that is shorter is repeated until a round lasts this long, but not more than ``REPEATS`` times."""
REPEATS = 50


Work = Callable[[int], float]
"""Runs something so many times and returns the seconds of one run."""


class Clock:
    """A pytest-benchmark timer that only ``advance`` moves."""

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
    """Give the ``benchmark`` fixture, whose timer is ``CLOCK``, rounds that were measured elsewhere."""
    rounds = iter(seconds)
    benchmark.pedantic(lambda: CLOCK.advance(next(rounds)), rounds=len(seconds))


def in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """The seconds of each work, round by round; within a round each has its turn.

    Each runs twice before, uncounted: the first run compiles, the second says how often a short run is repeated
    within a round.
    """
    often = {}
    for name, work in works.items():
        work(1)
        often[name] = _repeats(work(1))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(work(often[name]))
    return seconds


class Workers:
    """A process for each framework that a suite asks for; only one of them works at a time."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._pools: dict[str, Pool] = {}
        self._versions = Versions({})

    def need(self, implementation: str) -> str:
        """The framework of an implementation. One that cannot run here is left unmeasured, with the reason."""
        availability = self._versions.availability(implementation)
        if not availability.available:
            pytest.skip(availability.reason)
        return availability.framework

    def has(self, framework: str) -> bool:
        """Whether a framework can run here."""
        label = next(label for known in FRAMEWORKS if known.name == framework for label in known.packages)
        return self._versions.availability(label).available

    def ask(self, framework: str, kind: Callable[..., Job[T]], **job: Any) -> T:
        """The result of a job of that kind, of ``benchmarks.worker``; WorkerError where it failed."""
        if framework not in self._pools:
            self._pools[framework] = self._stack.enter_context(Pool(1, reach=reach_of(SUITE)))
        return self._pools[framework].submit(kind(Environment(framework), SUITE, **job)).result()

    def timed(self, framework: str, kind: type[Run] | type[Listing], **job: Any) -> Work:
        """A job of ``benchmarks.worker`` as a work that ``in_turns`` takes."""
        return lambda repeats: self.ask(framework, kind, **job, repeats=repeats)


@dataclass(frozen=True)
class Prepared:
    """A cell that its worker has built and run once, for ``epochs`` epochs.

    ``first`` has the seconds that import, build and run took.
    """

    workers: Workers
    framework: str
    cell: Cell
    epochs: int
    first: Mapping[str, float]

    def works(self, *ways: str) -> dict[str, Work]:
        """The run in each of these ways of ``benchmarks.worker.WAYS``, for ``in_turns``."""
        return {way: self.workers.timed(self.framework, Run, **_job(self.cell, self.epochs), way=way) for way in ways}

    def described(self) -> dict[str, Any]:
        """What the result says of any cell that was trained."""
        case = self.cell.entry.case
        return {
            "case": case.name,
            "implementation": self.cell.implementation,
            "steps": _steps(case, self.epochs),
        }


def prepare(workers: Workers, cell: Cell, epochs: int, way: str) -> Prepared:
    """Let the worker of a cell's framework import, build and run it once in a ``way``.

    One that cannot run here is left unmeasured, with the reason.
    """
    framework = workers.need(cell.implementation)
    return Prepared(
        workers, framework, cell, epochs, workers.ask(framework, Prepare, **_job(cell, epochs), way=way).as_json()
    )


def _job(cell: Cell, epochs: int) -> dict[str, Any]:
    return {"case": cell.entry.case.name, "implementation": cell.implementation, "epochs": epochs}


def trained_cells(config: pytest.Config) -> list[Cell]:
    """The float32 cells that the options name. The case of activations is left out: nothing is trained in it."""
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
    """Why a benchmark gave no figure, in a line; "" where it gave one."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = (crash.message if crash else report.longreprtext).strip().splitlines()
        return lines[0] if lines else "it failed without a word"
    return ""


def _steps(case: Case, epochs: int) -> int:
    """The number of updates in ``epochs`` epochs."""
    return epochs * len(next(case.schedule.epochs(len(case.data().x))))


def _repeats(seconds: float) -> int:
    """How often a run that takes ``seconds`` is repeated within a round."""
    return min(REPEATS, max(1, math.ceil(ROUND_SECONDS / seconds)))
