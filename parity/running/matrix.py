"""Cases × implementations × dtypes as cells: run what is not yet on disk, then judge every cell."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from parity.dtypes import DTYPES, NARROW
from parity.explaining.metrics import metric_alone
from parity.judging.cell import judge_cell
from parity.judging.floors.floor import load
from parity.judging.ladder import Rung
from parity.judging.outcome import Outcome
from parity.judging.policy import asserts_parameters
from parity.judging.verdict import Judgement, Verdict
from parity.recording.format import MANIFEST
from parity.recording.limits import Budget
from parity.recording.lock import tidy
from parity.recording.manifest import read_manifest
from parity.recording.places import CHECKED, Place, keep_explanation, keep_failure, stretch_name
from parity.recording.storage import Storage
from parity.running.cells import Cell, OnEpoch, Options, cells, owed
from parity.running.deadlines import Deadlines
from parity.running.executor import Executor, Job, UnrunError, WorkerError
from parity.running.jobs import (
    CellName,
    Climb,
    Explain,
    FloorFile,
    MeasureFloor,
    MeasureStretches,
    OnDisk,
    Record,
    SampleText,
)
from parity.running.keyring import Keyring
from parity.running.keys import hyper_parameters
from parity.running.on import executor, installed_on
from parity.running.packages import reach_of
from parity.running.publishing import Publisher
from parity.running.recordings import Recordings, check_there
from parity.running.versions import Versions
from parity.suite import SuiteError
from parity.trajectory import TrajectoryError

CHANGES = 4
"""So many changes of a process are said of a cell."""
STRETCHES = 20
"""So many floors of stretches are measured before a cell is judged again."""


class Matrix:
    """One call of ``parity run``: what to record, where it lies, and the judgement of every cell.

    ``before_writing`` is called before anything is recorded or measured, and not where all of it is there. ``storage``
    gets what is made, where the folder of results is a copy of what lies there.
    """

    def __init__(
        self, options: Options, before_writing: Callable[[], None] = lambda: None, storage: Storage | None = None
    ) -> None:
        self._before_writing = before_writing
        self._publisher = Publisher(options.out, storage)
        self.options, self.suite = options, options.suite
        self.cells = cells(options)
        self.owed = owed(options)
        self.versions = Versions(options.pythons, installed_on(options.on))
        self._reach = reach_of(self.suite.package)
        self._keys = Keyring(options, self.versions)
        self._recordings = Recordings(options, self._keys, self._reach)
        self._submitted: dict[Path, Future[OnDisk]] = {}
        self._changed: dict[CellName, tuple[str, ...]] = {}

    def epochs(self, cell: Cell) -> int:
        """The epochs that are asked for: the case's own unless the options say others."""
        return self._keys.epochs(cell)

    def reference(self, cell: Cell) -> Cell:
        return Cell(cell.entry, self.suite.reference, "float64", "cpu")

    def is_reference(self, cell: Cell) -> bool:
        return (cell.implementation, cell.dtype, cell.device) == (self.suite.reference, "float64", "cpu")

    def lockstep(self, cell: Cell) -> int | None:
        """The length of the stretches in which the cell is run a second time, from the reference's states."""
        case = cell.entry.case
        if self.options.lockstep is not None or self.is_reference(cell):
            return self.options.lockstep
        return None if asserts_parameters(case, cell.dtype) else case.stretch

    def executor(self, root: Path | None = None) -> Executor:
        """What this matrix's jobs are done by, which read and write in the folder of results, or in ``root``."""
        options, deadlines = self.options, Deadlines(self.options.timeout, self._seconds)
        where = root or options.out
        return executor(options.on, options.jobs, options.pythons, self._reach, deadlines, self._note_changes, where)

    def _note_changes(self, job: Job[Any], changes: tuple[str, ...]) -> None:
        cell = getattr(job, "cell", None)
        if isinstance(cell, CellName):
            self._changed[cell] = tuple(dict.fromkeys((*self._changed.get(cell, ()), *changes)))

    def _seconds(self, about: str) -> float | None:
        """The longest that any run of that case in the folder of results took, None where there is none."""
        found = []
        for path in (self.options.out / about).glob(f"*/{MANIFEST}"):
            with contextlib.suppress(OSError, TrajectoryError):
                found.append(read_manifest(path.parent).get("seconds"))
        # Bounded, as what a file says must be.
        return max((min(seconds, 1e9) for seconds in found if seconds is not None), default=None)

    def run(
        self,
        on_epoch: OnEpoch = lambda cell, epoch, of: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        explain: bool = True,
        keep: Callable[[Outcome], Outcome] = lambda outcome: outcome,
    ) -> list[Outcome]:
        """Record what is not on disk yet, judge every cell as soon as what it needs is there; in the cells' order.

        ``keep`` says what is kept of an outcome until all are there.
        """
        with self._publisher, self.executor() as pool:
            outcomes = {cell: _missing(cell, reason) for cell, reason in self.owed.items()}
            for outcome in outcomes.values():
                on_outcome(outcome)
            cells = dict.fromkeys(self.cells)
            left = Counter(cell.entry.folder for cell in cells)
            # Whatever can go on puts itself here: nobody looks through all that wait.
            ready: SimpleQueue[tuple[Cell, Callable[[], Outcome | None]]] = SimpleQueue()

            def wait_for(cell: Cell, needs: Collection[Future[Any]], then: Callable[[], Outcome | None]) -> None:
                _when_done(needs, lambda: ready.put((cell, then)))

            def judge(cell: Cell, needs: Mapping[str, Future[OnDisk]]) -> Outcome | None:
                outcome = self._judge(cell, needs)
                if stretches := self._stretches(cell, outcome, pool, on_epoch):
                    both = {**needs, **stretches}
                    wait_for(cell, both.values(), lambda: judge(cell, both))
                    return None
                if outcome.judgement.verdict is not Verdict.FAIL or not explain:
                    return outcome
                # Explained by a worker, as runs are made: the other cells go on meanwhile.
                explanation = self._explain(cell, outcome, pool, on_epoch)
                wait_for(cell, [explanation], lambda: self._explained(cell, outcome, explanation))
                return None

            for cell in cells:
                needs = self._needs(cell, pool, on_epoch)
                wait_for(cell, needs.values(), partial(judge, cell, needs))
            while len(outcomes) < len(cells) + len(self.owed):
                cell, go_on = ready.get()
                ended = go_on()
                if ended is None:
                    continue
                outcomes[cell] = keep(ended)
                on_outcome(ended)
                left[cell.entry.folder] -= 1
                if not left[cell.entry.folder]:
                    self._recordings.forget(cell)
        return [outcomes[cell] for cell in (*self.cells, *self.owed)]

    def sample(
        self, wish: Mapping[str, Any], weights: str = "", on_epoch: OnEpoch = lambda cell, epoch, of: None
    ) -> dict[Cell, str | BaseException]:
        """The text that each cell's implementation writes after its run, which is made where it is not on disk yet.

        ``wish`` has the keywords of ``sampling.sample``: prime, length, temperature, seed. ``weights`` names
        the implementation whose trained parameters all of them take, in the cell's dtype; "" is each its own.
        """
        with self._publisher, self.executor() as pool:
            runs = {cell: replace(cell, implementation=weights) if weights else cell for cell in self.cells}
            recorded = {run: self._submit(run, None, pool, on_epoch) for run in runs.values()}
            wait(recorded.values())
            texts: dict[Cell, Future[str]] = {}
            for cell, run in runs.items():
                error, name = recorded[run].exception(), self.name(cell)
                folder = str(run.folder(self.options.out))
                job = SampleText(name, name.environment, name.resources, folder, **wish)
                texts[cell] = _failed(error) if error else pool.submit(job)
            wait(texts.values())
        return {cell: text.exception() or text.result() for cell, text in texts.items()}

    def measure_floors(self, on_epoch: OnEpoch = lambda cell, epoch, of: None) -> dict[Path, BaseException | None]:
        """Measure the noise floor of every case asked for and keep it with the suite; what failed, and why.

        Floors that are there and fit are left alone unless the options say ``fresh``.
        """
        if self.suite.floors is None:
            raise SuiteError(
                f"{self.suite.package} does not say where its floors are kept: set FLOORS in its __init__.py"
            )
        with self.executor(self.suite.floors) as pool:
            jobs = {}
            for cell in {(cell.entry.folder, cell.dtype): cell for cell in self.cells}.values():
                for lockstep in dict.fromkeys((None, self.lockstep(cell))):
                    wanted = self._keys.floor_in(self.suite.floors, cell, lockstep)
                    path = Path(wanted.path)
                    if path not in jobs and (self.options.fresh or load(path, wanted.mark) is None):
                        jobs[path] = self._measure(cell, lockstep, wanted, pool, on_epoch)
            wait(jobs.values())
        return {path: job.exception() for path, job in jobs.items()}

    def climb(self, pool: Executor) -> dict[Cell, Future[tuple[Rung, ...]]]:
        """Send every cell up the ladder; each future holds its steps."""
        floors = {cell: self._floors(cell, pool) for cell in self.cells}
        wait({future for wanted in floors.values() for future in wanted})
        return {cell: self._start_climb(cell, floors[cell], pool) for cell in self.cells}

    def _floors(self, cell: Cell, pool: Executor) -> list[Future[OnDisk]]:
        lengths = [None, self.lockstep(cell)] if self.lockstep(cell) else [None]
        return [self._submit_floor(cell, length, pool, lambda cell, epoch, of: None) for length in lengths]

    def _start_climb(self, cell: Cell, floors: list[Future[OnDisk]], pool: Executor) -> Future[tuple[Rung, ...]]:
        availability = self.versions.availability(cell.implementation)
        if not availability.available:
            return _failed(WorkerError(availability.reason))
        for error in (floor.exception() for floor in floors):
            if error is not None:
                return _failed(WorkerError(f"its noise floor: {error}"))
        name, lockstep = self.name(cell), self.lockstep(cell)
        held = self._keys.floor(cell, lockstep) if lockstep else None
        return pool.submit(Climb(name, name.environment, name.resources, self._keys.floor(cell, None), held))

    def _needs(self, cell: Cell, pool: Executor, on_epoch: OnEpoch) -> dict[str, Future[OnDisk]]:
        """What a cell's judgement waits for, by name; submitted once however many cells wait for it."""
        lockstep = self.lockstep(cell)
        runs = self._runs_needed(cell)
        needs = {name: self._submit(*run, pool, on_epoch) for name, run in runs.items() if name != "lockstep run"}
        needs["floor"] = self._submit_floor(cell, None, pool, on_epoch)
        if lockstep:
            needs["lockstep run"] = self._submit(*runs["lockstep run"], pool, on_epoch)
            needs["lockstep floor"] = self._submit_floor(cell, lockstep, pool, on_epoch)
        return needs

    def _runs_needed(self, cell: Cell) -> dict[str, tuple[Cell, int | None]]:
        """The runs that a cell's judgement waits for, by name: each a cell, and the length of its stretches."""
        lockstep = self.lockstep(cell)
        runs: dict[str, tuple[Cell, int | None]] = {"run": (cell, None)}
        if self.is_reference(cell):
            runs["check"] = _checked(cell), None
        else:
            runs["reference"] = self.reference(cell), None
        if lockstep:
            runs["lockstep run"] = (_checked(cell) if self.is_reference(cell) else cell), lockstep
        return runs

    def _submit(self, cell: Cell, lockstep: int | None, pool: Executor, on_epoch: OnEpoch) -> Future[OnDisk]:
        folder = cell.folder(self.options.out, lockstep)
        if folder not in self._submitted:
            made = self._start(cell, lockstep, folder, pool, on_epoch)
            made.add_done_callback(partial(_keep_failure, folder))
            self._submitted[folder] = self._publisher.after(made, folder)
        return self._submitted[folder]

    def _start(
        self, cell: Cell, lockstep: int | None, folder: Path, pool: Executor, on_epoch: OnEpoch
    ) -> Future[OnDisk]:
        availability = self.versions.availability(cell.implementation)
        if not availability.available:
            return _failed(UnrunError(availability.reason))
        if cell.implementation not in cell.entry.implementations:  # the reference, which every cell needs
            return _failed(UnrunError(f"{cell.entry.case.name} has no {cell.implementation} implementation"))
        key = self._keys.key(cell, lockstep)
        if not self.options.fresh and self._recordings.has(cell, lockstep, self._deep(cell, lockstep)):
            return _finished(OnDisk(cached=True))
        case, name, deep = cell.entry.case, self.name(cell), self._deep(cell, lockstep)
        meta = {
            "case": cell.entry.folder,
            "implementation": cell.implementation,
            "dtype": "float64" if cell.dtype == CHECKED else cell.dtype,
            "device": cell.device,
            "lockstep": lockstep,
            "key": key,
            "origin": self._keys.origin(cell),
            "versions": self.versions.of(cell.implementation),
            "hyper_parameters": hyper_parameters(case),
            **({"buffers": list(case.buffers)} if case.buffers else {}),
            "deep": deep,
            "float32_parameters": case.policy.float32_parameters,
            "floor": self._keys.mark(cell),
        }
        # What a stopped run has not looked at cannot be looked at again.
        resume = not self.options.fresh and not deep
        epochs = self._keys.length(cell, lockstep)
        reuse = not self.options.fresh
        job = Record(name, name.environment, name.resources, epochs, str(folder), meta, lockstep, deep, resume, reuse)
        self._before_writing()
        return pool.submit(job, lambda progress: on_epoch(cell, progress.done, progress.of))

    def _submit_floor(self, cell: Cell, lockstep: int | None, pool: Executor, on_epoch: OnEpoch) -> Future[OnDisk]:
        try:
            floor = self._keys.floor(cell, lockstep)
        except OSError as error:
            where = error.filename2 or error.filename or self.options.out
            return _failed(UnrunError(f"it cannot be copied to {where}: {error.strerror}"))
        path = Path(floor.path)
        if path not in self._submitted:
            if load(path, floor.mark) is not None and not (self.options.fresh and self._keys.shipped(floor) is None):
                measured = _finished(OnDisk(cached=True))
            else:
                measured = self._measure(cell, lockstep, floor, pool, on_epoch)
            self._submitted[path] = self._publisher.after(measured, path)
        return self._submitted[path]

    def _measure(
        self, cell: Cell, lockstep: int | None, floor: FloorFile, pool: Executor, on_epoch: OnEpoch
    ) -> Future[OnDisk]:
        reference = self.reference(cell)
        name, epochs = self.name(reference), self._keys.floor_length(reference)
        dtypes = (cell.dtype,) if cell.dtype in NARROW else DTYPES
        reuse = not self.options.fresh
        job = MeasureFloor(name, name.environment, name.resources, epochs, dtypes, floor, lockstep, reuse)
        self._before_writing()
        return pool.submit(job, lambda progress: on_epoch(reference, progress.done, progress.of))

    def _stretches(self, cell: Cell, outcome: Outcome, pool: Executor, on_epoch: OnEpoch) -> dict[str, Future[OnDisk]]:
        """Have the floors of the first stretches measured that a judgement lacks: what it waits for then, by name.

        Each is measured once. What is not believed then stays INCONCLUSIVE.
        """
        lockstep = self.lockstep(cell)
        if not lockstep or not outcome.judgement.unmeasured:
            return {}
        floor, reference = self._keys.floor(cell, lockstep), self.reference(cell)
        beside = Path(floor.path)
        paths = {start: beside.with_name(stretch_name(beside.name, start)) for start in outcome.judgement.unmeasured}

        budget = Budget()

        def lacks(path: Path) -> bool:
            measured = self._submitted.get(path)
            if measured is None and self.options.fresh:
                return True
            return (measured is not None and not measured.done()) or kept(path) is None

        def kept(path: Path) -> object:
            return load(path, floor.mark, self.options.out, budget=budget)

        missing = [start for start, path in paths.items() if lacks(path)]
        new = [start for start in missing[:STRETCHES] if paths[start] not in self._submitted]
        if new:
            dtypes = (cell.dtype,) if cell.dtype in NARROW else DTYPES
            name = self.name(reference)
            job = MeasureStretches(name, name.environment, name.resources, dtypes, floor, lockstep, tuple(new))
            self._before_writing()
            measured = pool.submit(job, lambda progress: on_epoch(reference, progress.done, progress.of))
            measured = self._publisher.after(measured, *(paths[start] for start in new))
            self._submitted |= {paths[start]: measured for start in new}
        return {f"floor from epoch {start}": self._submitted[paths[start]] for start in missing[:STRETCHES]}

    def name(self, cell: Cell) -> CellName:
        """What a cell is called in every process."""
        entry = cell.entry
        package, case = self.suite.package, entry.case.name
        return CellName(package, case, entry.data, cell.implementation, cell.dtype, cell.device, entry.seed)

    def _deep(self, cell: Cell, lockstep: int | None) -> int:
        """How many updates of a run are recorded deeply: of a free run alone, and not of the reference's check."""
        return 0 if lockstep or cell.dtype == CHECKED else self.options.deep

    def _judge(self, cell: Cell, needs: Mapping[str, Future[OnDisk]]) -> Outcome:
        outcome = self._judged(cell, needs)
        changes = self._changed.get(self.name(cell), ())
        if not changes:
            return outcome
        named = "; ".join((*changes[:CHANGES], *(["and more"] if len(changes) > CHANGES else [])))
        note = f"it changed what its process keeps, so that another went on: {named}"
        judgement = outcome.judgement
        return replace(outcome, judgement=replace(judgement, note="; ".join(filter(None, (judgement.note, note)))))

    def _judged(self, cell: Cell, needs: Mapping[str, Future[OnDisk]]) -> Outcome:
        outcome = Outcome(
            cell.entry.folder,
            cell.implementation,
            cell.dtype,
            cell.device,
            Judgement(Verdict.INCONCLUSIVE),
            entry=cell.entry,
            checked=self.is_reference(cell),
        )
        for name, need in needs.items():
            error = need.exception()
            if error is not None:
                about = "" if name == "run" else f"its {name}: "
                doubt = Judgement(Verdict.INCONCLUSIVE, reason=f"{about}{error}")
                return replace(outcome, judgement=doubt, trace=getattr(error, "trace", ""))
        place = Place(cell.folder(self.options.out), cell.implementation, cell.dtype, cell.device)
        try:
            for name, (run, lockstep) in self._runs_needed(cell).items():
                self._recordings.take(run, lockstep, needs[name].result())
            judged = judge_cell(self._recordings.of(cell), place)
            self._check_there(cell)
        except (OSError, ValueError) as error:
            return replace(outcome, judgement=Judgement(Verdict.INCONCLUSIVE, reason=str(error)))
        # What an earlier call left beside the run is not this one's explanation.
        return replace(judged, cached=needs["run"].result().cached, explanation=None)

    def _check_there(self, cell: Cell) -> None:
        """Refuse a judgement on runs and floors that are not there any more: TrajectoryError."""
        out, lockstep = self.options.out, self.lockstep(cell)
        floors = [self._keys.floor_in(out / "floors", cell, length) for length in dict.fromkeys((None, lockstep))]
        needed = [run.folder(out, length) for run, length in self._runs_needed(cell).values()]
        check_there(out, *needed, *(Path(floor.path) for floor in floors))

    def _explain(self, cell: Cell, outcome: Outcome, pool: Executor, on_epoch: OnEpoch) -> Future[dict[str, Any]]:
        """Have a failed cell explained, in a worker of its framework: the run that failed, as it was judged."""
        name, out = self.name(cell), self.options.out
        # In lockstep the reference has its check alone, which is no run of its own.
        lockstep = None if self.is_reference(cell) else outcome.judgement.lockstep
        assert outcome.judgement.epoch is not None
        job = Explain(
            name,
            name.environment,
            name.resources,
            outcome.judgement.epoch,
            str(cell.folder(out, lockstep)),
            str(self.reference(cell).folder(out)),
            self._keys.floor(cell, lockstep),
            lockstep,
            "" if self.is_reference(cell) else metric_alone(outcome.judgement),
        )
        return pool.submit(job, lambda progress: on_epoch(cell, progress.done, progress.of))

    def _explained(self, cell: Cell, outcome: Outcome, explanation: Future[dict[str, Any]]) -> Outcome:
        """A failed outcome with its explanation; without one, and its reason extended, where explaining failed."""
        folder = cell.folder(self.options.out)
        try:
            found = explanation.result()
            keep_explanation(folder, outcome.judgement.reason, found)
            self._publisher.publish(folder)
        except WorkerError as error:
            reason = f"{outcome.judgement.reason}; it could not be explained: {error}"
            return replace(outcome, judgement=replace(outcome.judgement, reason=reason), trace=error.trace)
        return replace(outcome, explanation=found)


def _when_done(futures: Collection[Future[Any]], then: Callable[[], None]) -> None:
    """Call ``then`` once, as soon as all are done, in the thread that does the last."""
    if not futures:
        then()
        return
    left, lock = len(futures), threading.Lock()

    def done(future: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = not left
        if last:
            then()

    for future in futures:
        future.add_done_callback(done)


def _missing(cell: Cell, reason: str) -> Outcome:
    judgement = Judgement(Verdict.FAIL, reason=reason)
    return Outcome(cell.entry.folder, cell.implementation, cell.dtype, cell.device, judgement, entry=cell.entry)


def _checked(reference: Cell) -> Cell:
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


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
