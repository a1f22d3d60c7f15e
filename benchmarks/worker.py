"""The jobs of the benchmarks: a worker trains and takes the time of it.

A trainer stays in its process from one job to the next, so that a round measures training alone. Every run begins at
the case's initial state.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from parity.running.executor import Emit, Environment, Resources
from parity.spec import Case
from parity.trainer import State, Trainer, record


@dataclass
class Ready:
    """A trainer, its case, the case with a snapshot after every epoch, and the state that every run starts from."""

    trainer: Trainer
    case: Case
    each: Case
    start: State


def train_only(ready: Ready, epochs: int, folder: Path) -> None:
    """Train every epoch in one call, and keep nothing but the end state."""
    order = ready.case.schedule.epochs(len(ready.case.data().x))
    ready.trainer.train([sum((next(order) for _ in range(epochs)), ())])


def recorded(ready: Ready, epochs: int, folder: Path) -> None:
    """Take a snapshot and the case's metrics after every epoch."""
    for _ in record(ready.trainer, ready.each, epochs):
        pass


def kept(ready: Ready, epochs: int, folder: Path) -> None:
    """Take a snapshot after every epoch, and no metrics."""
    for _ in record(ready.trainer, replace(ready.each, metrics=()), epochs):
        pass


def written(ready: Ready, epochs: int, folder: Path) -> None:
    """Write snapshots to disk, as often as the case takes them."""
    _write(ready.trainer, replace(ready.case, metrics=()), epochs, folder)


def written_each(ready: Ready, epochs: int, folder: Path) -> None:
    """Write a snapshot to disk after every epoch."""
    _write(ready.trainer, replace(ready.each, metrics=()), epochs, folder)


def evaluated(ready: Ready, epochs: int, folder: Path) -> None:
    """Write snapshots and the case's metrics to disk, as often as it takes them: what ``parity run`` does."""
    _write(ready.trainer, ready.case, epochs, folder)


def _write(trainer: Trainer, case: Case, epochs: int, folder: Path) -> None:
    from parity.recording.writer import Writer

    with Writer(folder / "run", {"dtype": "float32"}) as writer:
        for chunk in record(trainer, case, epochs):
            writer.add(chunk)


RESOURCES = Resources(about="a benchmark")
WAYS: dict[str, Callable[[Ready, int, Path], None]] = {
    "train": train_only,
    "record": recorded,
    "keep": kept,
    "write": written,
    "write each": written_each,
    "evaluate": evaluated,
}


@cache
def _ready() -> dict[tuple[str, str], Ready]:
    """What ``Prepare`` has built for the jobs that follow. A worker may keep no value of a module between jobs."""
    return {}


@dataclass(frozen=True)
class Took:
    """The seconds of an import, of building a model and of its first run."""

    imported: float
    built: float
    ran: float

    def as_json(self) -> dict[str, float]:
        return {"import": self.imported, "build": self.built, "run": self.ran}


@dataclass(frozen=True)
class Run:
    """Run what ``Prepare`` has built, in one of ``WAYS``; the result is the mean of ``repeats``, in seconds."""

    environment: Environment
    suite: str
    case: str
    implementation: str
    epochs: int
    way: str
    repeats: int = 1
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> float:
        ready = _ready()[self.case, self.implementation]
        seconds = 0.0
        for _ in range(self.repeats):
            ready.trainer.load(ready.start)
            folder = Path(tempfile.mkdtemp(prefix="parity-bench-"))
            try:
                begun = time.perf_counter()
                WAYS[self.way](ready, self.epochs, folder)
                seconds += time.perf_counter() - begun
            finally:
                shutil.rmtree(folder)
        return seconds / self.repeats


@dataclass(frozen=True)
class Prepare:
    """Import, build and run once in the way asked for."""

    environment: Environment
    suite: str
    case: str
    implementation: str
    epochs: int
    way: str
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> Took:
        from parity.suite import load_suite

        suite = load_suite(self.suite)
        entry = suite.entry(self.case)
        implementation = suite.implementation(entry, self.implementation)
        case = entry.case
        case.data()  # read once a process, whoever comes first
        begun = time.perf_counter()
        implementation.load()
        imported = time.perf_counter()
        trainer = implementation.build(case, "float32", "cpu")
        built = time.perf_counter()
        _ready().clear()
        _ready()[self.case, self.implementation] = Ready(trainer, case, replace(case, every=1), trainer.export())
        first = Run(self.environment, self.suite, self.case, self.implementation, self.epochs, self.way).run(emit)
        return Took(imported - begun, built - imported, first)


@dataclass(frozen=True)
class Listing:
    """Seconds of the plain script's loop, the mean of ``repeats``; what comes before the loop is not counted."""

    environment: Environment
    suite: str
    case: str
    epochs: int
    repeats: int = 1
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> float:
        from benchmarks.plain import LISTINGS
        from parity.suite import load_suite

        case = load_suite(self.suite).entry(self.case).case
        seconds = 0.0
        for _ in range(self.repeats):
            loop = LISTINGS[case.name].prepare(case)
            begun = time.perf_counter()
            loop(self.epochs)
            seconds += time.perf_counter() - begun
        return seconds / self.repeats
