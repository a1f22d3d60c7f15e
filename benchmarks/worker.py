"""A worker process of the benchmarks: one framework, which takes its own time of what it is asked to train.

``python -m benchmarks.worker`` speaks as ``parity.running.worker`` does. What is built stays from one job to the next,
so that a round measures training alone; every run begins at the case's initial state.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from parity.running.jobs import Emit, Job
from parity.running.worker import serve
from parity.spec import Case
from parity.trainer import State, Trainer, record


@dataclass
class Ready:
    """A trainer, its case, the same with a snapshot after every epoch, and the state that every run starts from."""

    trainer: Trainer
    case: Case
    each: Case
    start: State


def train_only(ready: Ready, epochs: int, folder: Path) -> None:
    """Training and nothing else: every epoch in one call, whose end state alone comes back."""
    order = ready.case.schedule.epochs(len(ready.case.data().x))
    ready.trainer.train([sum((next(order) for _ in range(epochs)), ())])


def recorded(ready: Ready, epochs: int, folder: Path) -> None:
    """A snapshot and the case's metrics after every epoch."""
    for _ in record(ready.trainer, ready.each, epochs):
        pass


def kept(ready: Ready, epochs: int, folder: Path) -> None:
    """A snapshot after every epoch, and no metrics."""
    for _ in record(ready.trainer, replace(ready.each, metrics=()), epochs):
        pass


def written(ready: Ready, epochs: int, folder: Path) -> None:
    """A snapshot as often as the case has it, on disk."""
    _write(ready.trainer, replace(ready.case, metrics=()), epochs, folder)


def written_each(ready: Ready, epochs: int, folder: Path) -> None:
    """A snapshot after every epoch, on disk."""
    _write(ready.trainer, replace(ready.each, metrics=()), epochs, folder)


def evaluated(ready: Ready, epochs: int, folder: Path) -> None:
    """A snapshot and the case's metrics as often as it has them, on disk: what ``parity run`` does."""
    _write(ready.trainer, ready.case, epochs, folder)


def _write(trainer: Trainer, case: Case, epochs: int, folder: Path) -> None:
    from parity.recording.writer import Writer

    with Writer(folder / "run", {"dtype": "float32"}) as writer:
        for chunk in record(trainer, case, epochs):
            writer.add(chunk)


WAYS: dict[str, Callable[[Ready, int, Path], None]] = {
    "train": train_only,
    "record": recorded,
    "keep": kept,
    "write": written,
    "write each": written_each,
    "evaluate": evaluated,
}

_ready: dict[tuple[str, str], Ready] = {}


def _run(job: Job, emit: Emit) -> float:
    """Seconds of one run, the mean of ``repeats``."""
    ready = _ready[job["case"], job["implementation"]]
    repeats: int = job["repeats"]
    seconds = 0.0
    for _ in range(repeats):
        ready.trainer.load(ready.start)
        folder = Path(tempfile.mkdtemp(prefix="parity-bench-"))
        try:
            begun = time.perf_counter()
            WAYS[job["way"]](ready, job["epochs"], folder)
            seconds += time.perf_counter() - begun
        finally:
            shutil.rmtree(folder)
    return seconds / repeats


def _prepare(job: Job, emit: Emit) -> dict[str, float]:
    """Import, build and run once in the way asked for; the seconds that each took."""
    from parity.suite import load_suite

    suite = load_suite(job["suite"])
    entry = suite.entry(job["case"])
    implementation = suite.implementation(entry, job["implementation"])
    case = entry.case
    case.data()  # read once a process, whoever comes first
    begun = time.perf_counter()
    implementation.load()
    imported = time.perf_counter()
    trainer = implementation.build(case, "float32", "cpu")
    built = time.perf_counter()
    _ready.clear()
    _ready[job["case"], job["implementation"]] = Ready(trainer, case, replace(case, every=1), trainer.export())
    first = _run({**job, "repeats": 1}, emit)
    return {"import": imported - begun, "build": built - imported, "run": first}


def _listing(job: Job, emit: Emit) -> float:
    """Seconds of the plain script's loop, the mean of ``repeats``; what comes before the loop is not counted."""
    from benchmarks.plain import LISTINGS
    from parity.suite import load_suite

    case = load_suite(job["suite"]).entry(job["case"]).case
    repeats: int = job["repeats"]
    seconds = 0.0
    for _ in range(repeats):
        loop = LISTINGS[case.name].prepare(case)
        begun = time.perf_counter()
        loop(job["epochs"])
        seconds += time.perf_counter() - begun
    return seconds / repeats


if __name__ == "__main__":
    serve({"prepare": _prepare, "run": _run, "listing": _listing})
