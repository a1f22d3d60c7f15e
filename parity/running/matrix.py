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

from parity.explaining.metrics import metric_alone
from parity.judging.cell import judge_cell
from parity.judging.floors.floor import load
from parity.judging.ladder import Rung
from parity.judging.outcome import Outcome
from parity.judging.verdict import Judgement, Verdict
from parity.recording.format import MANIFEST
from parity.recording.manifest import read_manifest
from parity.recording.places import Place, keep_explanation
from parity.recording.storage import Storage
from parity.running.cells import Cell, OnEpoch, Options, cells, owed
from parity.running.deadlines import Deadlines
from parity.running.executor import Executor, Job, WorkerError
from parity.running.jobs import (
    CellName,
    Climb,
    Explain,
    OnDisk,
    SampleText,
)
from parity.running.keyring import Keyring
from parity.running.making import Making, failed
from parity.running.on import executor, installed_on
from parity.running.packages import reach_of
from parity.running.publishing import Publisher
from parity.running.recordings import Recordings, check_there
from parity.running.versions import Versions
from parity.suite import SuiteError
from parity.trajectory import TrajectoryError

CHANGES = 4
"""So many changes of a process are said of a cell."""


class Matrix:
    """One call of ``parity run``: what to record, where it lies, and the judgement of every cell.

    ``before_writing`` is called before anything is recorded or measured, and not where all of it is there. ``storage``
    gets what is made, where the folder of results is a copy of what lies there.
    """

    def __init__(
        self, options: Options, before_writing: Callable[[], None] = lambda: None, storage: Storage | None = None
    ) -> None:
        self._publisher = Publisher(options.out, storage)
        self.options, self.suite = options, options.suite
        self.cells = cells(options)
        self.owed = owed(options)
        self.versions = Versions(options.pythons, installed_on(options.on))
        self._reach = reach_of(self.suite.package)
        self._keys = Keyring(options, self.versions)
        self._recordings = Recordings(options, self._keys, self._reach)
        self._making = Making(options, self.versions, self._keys, self._recordings, self._publisher, before_writing)
        self._changed: dict[CellName, tuple[str, ...]] = {}

    def epochs(self, cell: Cell) -> int:
        """The epochs that are asked for: the case's own unless the options say others."""
        return self._keys.epochs(cell)

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
                if stretches := self._making.stretches(cell, outcome, pool, on_epoch):
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
                needs = self._making.needs(cell, pool, on_epoch)
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
            recorded = {run: self._making.run(run, None, pool, on_epoch) for run in runs.values()}
            wait(recorded.values())
            texts: dict[Cell, Future[str]] = {}
            for cell, run in runs.items():
                error, name = recorded[run].exception(), self.options.cell_name(cell)
                folder = str(run.folder(self.options.out))
                job = SampleText(name, name.environment, name.resources, folder, **wish)
                texts[cell] = failed(error) if error else pool.submit(job)
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
                for lockstep in dict.fromkeys((None, self.options.stretch(cell))):
                    wanted = self._keys.floor_in(self.suite.floors, cell, lockstep)
                    path = Path(wanted.path)
                    if path not in jobs and (self.options.fresh or load(path, wanted.mark) is None):
                        jobs[path] = self._making.measure(cell, lockstep, wanted, pool, on_epoch)
            wait(jobs.values())
        return {path: job.exception() for path, job in jobs.items()}

    def climb(self, pool: Executor) -> dict[Cell, Future[tuple[Rung, ...]]]:
        """Send every cell up the ladder; each future holds its steps."""
        floors = {cell: self._floors(cell, pool) for cell in self.cells}
        wait({future for wanted in floors.values() for future in wanted})
        return {cell: self._start_climb(cell, floors[cell], pool) for cell in self.cells}

    def _floors(self, cell: Cell, pool: Executor) -> list[Future[OnDisk]]:
        lengths = [None, self.options.stretch(cell)] if self.options.stretch(cell) else [None]
        return [self._making.floor(cell, length, pool, lambda cell, epoch, of: None) for length in lengths]

    def _start_climb(self, cell: Cell, floors: list[Future[OnDisk]], pool: Executor) -> Future[tuple[Rung, ...]]:
        availability = self.versions.availability(cell.implementation)
        if not availability.available:
            return failed(WorkerError(availability.reason))
        for error in (floor.exception() for floor in floors):
            if error is not None:
                return failed(WorkerError(f"its noise floor: {error}"))
        name, lockstep = self.options.cell_name(cell), self.options.stretch(cell)
        held = self._keys.floor(cell, lockstep) if lockstep else None
        return pool.submit(Climb(name, name.environment, name.resources, self._keys.floor(cell, None), held))

    def _judge(self, cell: Cell, needs: Mapping[str, Future[OnDisk]]) -> Outcome:
        outcome = self._judged(cell, needs)
        changes = self._changed.get(self.options.cell_name(cell), ())
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
            checked=self.options.is_reference(cell),
        )
        for name, need in needs.items():
            error = need.exception()
            if error is not None:
                about = "" if name == "run" else f"its {name}: "
                doubt = Judgement(Verdict.INCONCLUSIVE, reason=f"{about}{error}")
                return replace(outcome, judgement=doubt, trace=getattr(error, "trace", ""))
        place = Place(cell.folder(self.options.out), cell.implementation, cell.dtype, cell.device)
        try:
            for name, (run, lockstep) in self._making.runs_needed(cell).items():
                self._recordings.take(run, lockstep, needs[name].result())
            judged = judge_cell(self._recordings.of(cell), place)
            self._check_there(cell)
        except (OSError, ValueError) as error:
            return replace(outcome, judgement=Judgement(Verdict.INCONCLUSIVE, reason=str(error)))
        # What an earlier call left beside the run is not this one's explanation.
        return replace(judged, cached=needs["run"].result().cached, explanation=None)

    def _check_there(self, cell: Cell) -> None:
        """Refuse a judgement on runs and floors that are not there any more: TrajectoryError."""
        out, lockstep = self.options.out, self.options.stretch(cell)
        floors = [self._keys.floor_in(out / "floors", cell, length) for length in dict.fromkeys((None, lockstep))]
        needed = [run.folder(out, length) for run, length in self._making.runs_needed(cell).values()]
        check_there(out, *needed, *(Path(floor.path) for floor in floors))

    def _explain(self, cell: Cell, outcome: Outcome, pool: Executor, on_epoch: OnEpoch) -> Future[dict[str, Any]]:
        """Have a failed cell explained, in a worker of its framework: the run that failed, as it was judged."""
        name, out = self.options.cell_name(cell), self.options.out
        # In lockstep the reference has its check alone, which is no run of its own.
        lockstep = None if self.options.is_reference(cell) else outcome.judgement.lockstep
        assert outcome.judgement.epoch is not None
        job = Explain(
            name,
            name.environment,
            name.resources,
            outcome.judgement.epoch,
            str(cell.folder(out, lockstep)),
            str(self.options.reference(cell).folder(out)),
            self._keys.floor(cell, lockstep),
            lockstep,
            "" if self.options.is_reference(cell) else metric_alone(outcome.judgement),
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
