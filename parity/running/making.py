"""What a matrix makes: every run and noise floor that is not on disk yet, each once, however many cells wait for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from parity.dtypes import DTYPES, NARROW
from parity.judging.floors.floor import load
from parity.judging.outcome import Outcome
from parity.recording.limits import Budget
from parity.recording.lock import tidy
from parity.recording.places import CHECKED, keep_failure, stretch_name
from parity.running.cells import Cell, OnEpoch, Options
from parity.running.executor import Executor, UnrunError
from parity.running.jobs import FloorFile, MeasureFloor, MeasureStretches, OnDisk, Record
from parity.running.keyring import Keyring
from parity.running.keys import hyper_parameters
from parity.running.publishing import Publisher
from parity.running.recordings import Recordings
from parity.running.versions import Versions
from parity.trajectory import TrajectoryError

STRETCHES = 20
"""So many floors of stretches are measured before a cell is judged again."""


class Making:
    """The runs and noise floors that a matrix's cells need: found on disk, or submitted to an executor.

    ``before_writing`` is called before anything is submitted, and not where all of it is there. ``publisher`` is told
    of everything that is there then.
    """

    def __init__(
        self,
        options: Options,
        versions: Versions,
        keys: Keyring,
        recordings: Recordings,
        publisher: Publisher,
        before_writing: Callable[[], None],
    ) -> None:
        self._options, self._versions, self._keys = options, versions, keys
        self._recordings, self._publisher, self._before_writing = recordings, publisher, before_writing
        self._submitted: dict[Path, Future[OnDisk]] = {}

    def needs(self, cell: Cell, pool: Executor, on_epoch: OnEpoch) -> dict[str, Future[OnDisk]]:
        """What a cell's judgement waits for, by name; submitted once however many cells wait for it."""
        lockstep = self._options.stretch(cell)
        runs = self.runs_needed(cell)
        needs = {name: self.run(*run, pool, on_epoch) for name, run in runs.items() if name != "lockstep run"}
        needs["floor"] = self.floor(cell, None, pool, on_epoch)
        if lockstep:
            needs["lockstep run"] = self.run(*runs["lockstep run"], pool, on_epoch)
            needs["lockstep floor"] = self.floor(cell, lockstep, pool, on_epoch)
        return needs

    def runs_needed(self, cell: Cell) -> dict[str, tuple[Cell, int | None]]:
        """The runs that a cell's judgement waits for, by name: each a cell, and the length of its stretches."""
        lockstep = self._options.stretch(cell)
        runs: dict[str, tuple[Cell, int | None]] = {"run": (cell, None)}
        if self._options.is_reference(cell):
            runs["check"] = checked(cell), None
        else:
            runs["reference"] = self._options.reference(cell), None
        if lockstep:
            runs["lockstep run"] = (checked(cell) if self._options.is_reference(cell) else cell), lockstep
        return runs

    def run(self, cell: Cell, lockstep: int | None, pool: Executor, on_epoch: OnEpoch) -> Future[OnDisk]:
        """A cell's run, free or in lockstep."""
        folder = cell.folder(self._options.out, lockstep)
        if folder not in self._submitted:
            made = self._start(cell, lockstep, folder, pool, on_epoch)
            made.add_done_callback(partial(_keep_failure, folder))
            self._submitted[folder] = self._publisher.after(made, folder)
        return self._submitted[folder]

    def _start(
        self, cell: Cell, lockstep: int | None, folder: Path, pool: Executor, on_epoch: OnEpoch
    ) -> Future[OnDisk]:
        availability = self._versions.availability(cell.implementation)
        if not availability.available:
            return failed(UnrunError(availability.reason))
        if cell.implementation not in cell.entry.implementations:  # the reference, which every cell needs
            return failed(UnrunError(f"{cell.entry.case.name} has no {cell.implementation} implementation"))
        key = self._keys.key(cell, lockstep)
        if not self._options.fresh and self._recordings.has(cell, lockstep, self._deep(cell, lockstep)):
            return _finished(OnDisk(cached=True))
        case, name, deep = cell.entry.case, self._options.cell_name(cell), self._deep(cell, lockstep)
        meta = {
            "case": cell.entry.folder,
            "implementation": cell.implementation,
            "dtype": "float64" if cell.dtype == CHECKED else cell.dtype,
            "device": cell.device,
            "lockstep": lockstep,
            "key": key,
            "origin": self._keys.origin(cell),
            "versions": self._versions.of(cell.implementation),
            "hyper_parameters": hyper_parameters(case),
            **({"buffers": list(case.buffers)} if case.buffers else {}),
            "deep": deep,
            "float32_parameters": case.policy.float32_parameters,
            "floor": self._keys.mark(cell),
        }
        # What a stopped run has not looked at cannot be looked at again.
        resume = not self._options.fresh and not deep
        epochs = self._keys.length(cell, lockstep)
        reuse = not self._options.fresh
        job = Record(name, name.environment, name.resources, epochs, str(folder), meta, lockstep, deep, resume, reuse)
        self._before_writing()
        return pool.submit(job, lambda progress: on_epoch(cell, progress.done, progress.of))

    def floor(self, cell: Cell, lockstep: int | None, pool: Executor, on_epoch: OnEpoch) -> Future[OnDisk]:
        """The noise floor that a cell's run is held against: the suite's own is copied, if it fits, not measured."""
        try:
            floor = self._keys.floor(cell, lockstep)
        except OSError as error:
            where = error.filename2 or error.filename or self._options.out
            return failed(UnrunError(f"it cannot be copied to {where}: {error.strerror}"))
        path = Path(floor.path)
        if path not in self._submitted:
            if load(path, floor.mark) is not None and not (self._options.fresh and self._keys.shipped(floor) is None):
                measured = _finished(OnDisk(cached=True))
            else:
                measured = self.measure(cell, lockstep, floor, pool, on_epoch)
            self._submitted[path] = self._publisher.after(measured, path)
        return self._submitted[path]

    def measure(
        self, cell: Cell, lockstep: int | None, floor: FloorFile, pool: Executor, on_epoch: OnEpoch
    ) -> Future[OnDisk]:
        """Have a floor measured and written where ``floor`` says, whatever is there."""
        reference = self._options.reference(cell)
        name, epochs = self._options.cell_name(reference), self._keys.floor_length(reference)
        dtypes = (cell.dtype,) if cell.dtype in NARROW else DTYPES
        reuse = not self._options.fresh
        job = MeasureFloor(name, name.environment, name.resources, epochs, dtypes, floor, lockstep, reuse)
        self._before_writing()
        return pool.submit(job, lambda progress: on_epoch(reference, progress.done, progress.of))

    def stretches(self, cell: Cell, outcome: Outcome, pool: Executor, on_epoch: OnEpoch) -> dict[str, Future[OnDisk]]:
        """Have the floors of the first stretches measured that a judgement lacks: what it waits for then, by name.

        Each is measured once. What is not believed then stays INCONCLUSIVE.
        """
        lockstep = self._options.stretch(cell)
        if not lockstep or not outcome.judgement.unmeasured:
            return {}
        floor, reference = self._keys.floor(cell, lockstep), self._options.reference(cell)
        beside = Path(floor.path)
        paths = {start: beside.with_name(stretch_name(beside.name, start)) for start in outcome.judgement.unmeasured}

        budget = Budget()

        def lacks(path: Path) -> bool:
            measured = self._submitted.get(path)
            if measured is None and self._options.fresh:
                return True
            return (measured is not None and not measured.done()) or kept(path) is None

        def kept(path: Path) -> object:
            return load(path, floor.mark, self._options.out, budget=budget)

        missing = [start for start, path in paths.items() if lacks(path)]
        new = [start for start in missing[:STRETCHES] if paths[start] not in self._submitted]
        if new:
            dtypes = (cell.dtype,) if cell.dtype in NARROW else DTYPES
            name = self._options.cell_name(reference)
            job = MeasureStretches(name, name.environment, name.resources, dtypes, floor, lockstep, tuple(new))
            self._before_writing()
            measured = pool.submit(job, lambda progress: on_epoch(reference, progress.done, progress.of))
            measured = self._publisher.after(measured, *(paths[start] for start in new))
            self._submitted |= {paths[start]: measured for start in new}
        return {f"floor from epoch {start}": self._submitted[paths[start]] for start in missing[:STRETCHES]}

    def _deep(self, cell: Cell, lockstep: int | None) -> int:
        """How many updates of a run are recorded deeply: of a free run alone, and not of the reference's check."""
        return 0 if lockstep or cell.dtype == CHECKED else self._options.deep


def checked(reference: Cell) -> Cell:
    return replace(reference, dtype=CHECKED)


def _keep_failure(folder: Path, run: Future[OnDisk]) -> None:
    error = None if run.cancelled() else run.exception()
    if error is not None:
        with contextlib.suppress(OSError):
            tidy(folder)
    if not (run.cancelled() or isinstance(error, UnrunError)):
        # Where nothing can be written this call's own outcome says what failed, and a mark that stays is heeded.
        with contextlib.suppress(OSError, TrajectoryError):
            keep_failure(folder, "" if error is None else str(error) or type(error).__name__)


def _finished(result: OnDisk) -> Future[OnDisk]:
    future: Future[OnDisk] = Future()
    future.set_result(result)
    return future


def failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
