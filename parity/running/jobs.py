"""What travels to a worker that deals with a case, and what is done there: frozen jobs, each with its ``run``."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.frameworks import framework_of
from parity.running.executor import Emit, Environment, Progress, Resources

if TYPE_CHECKING:
    from parity.judging.floors.floor import Floor
    from parity.judging.ladder import Rung
    from parity.suite import Entry, Implementation


@dataclass(frozen=True)
class CellName:
    """A cell by its names, under which every process that has the suite finds it.

    ``data`` is ``Entry.data``, and ``seed`` is the entry's.
    """

    suite: str
    case: str
    data: str | None
    implementation: str
    dtype: str
    device: str
    seed: int | None = None

    @property
    def environment(self) -> Environment:
        return Environment(framework_of(self.implementation).name, self.device)

    @property
    def resources(self) -> Resources:
        about = self.case if self.data is None else f"{self.case}@{Path(self.data).stem}"
        return Resources(gpus=0.0 if self.device == "cpu" else 1.0, about=about)

    def find(self) -> tuple[Entry, Implementation, Implementation]:
        """Its case, in the implementation's way, both implementations; SuiteError where the suite has no such cell."""
        from parity.running.workers.process import keep_as_they_are
        from parity.suite import load_suite

        suite = load_suite(self.suite)
        entry = suite.entry(self.case, self.data, self.seed)
        entry = replace(entry, case=entry.case.in_way(self.implementation))
        keep_as_they_are(entry.case)
        return entry, suite.implementation(entry, self.implementation), suite.implementation(entry, suite.reference)


@dataclass(frozen=True)
class FloorFile:
    """A noise floor on disk, and the mark that it must bear."""

    path: str
    mark: str

    def load(self) -> Mapping[str, Floor]:
        """The floors by dtype; FileNotFoundError where none with that mark is there."""
        from parity.judging.floors.floor import load

        floors = load(Path(self.path), self.mark)
        if floors is None:
            raise FileNotFoundError(f"no noise floor at {self.path}")
        return floors


@dataclass(frozen=True)
class OnDisk:
    """What a run or a measurement leaves is on disk; ``cached`` where it had been before.

    ``made`` says which run that is: see ``parity.recording.format.made``; "" for what is no run.
    """

    cached: bool = False
    made: str = ""


@dataclass(frozen=True)
class Record:
    """Train a cell and record it in ``folder``, under what ``meta`` says of it.

    In stretches of ``lockstep`` epochs, each from the reference's state, where that is given; all of the first ``deep``
    updates. ``resume``: go on with what a run that was stopped has left. ``reuse``: where another process has recorded
    the same just now, take its recording.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    epochs: int
    folder: str
    meta: Mapping[str, Any]
    lockstep: int | None = None
    deep: int = 0
    resume: bool = False
    reuse: bool = False

    def run(self, emit: Emit) -> OnDisk:
        from parity.recording.lock import alone

        with alone(Path(self.folder), lambda: emit(Progress())):
            there = self._there() if self.reuse else ""
            return OnDisk(cached=bool(there), made=there) if there else self._record(emit)

    def _there(self) -> str:
        """The run that lies in the folder, as ``made`` says it, if it is the one that is wanted; "" else."""
        from parity.recording.format import made
        from parity.recording.manifest import read_manifest
        from parity.recording.reader import read
        from parity.running.reading.reads import unchanged
        from parity.trajectory import TrajectoryError

        try:
            found = read_manifest(Path(self.folder))
            same = found.get("key") == self.meta.get("key") and found.get("deep", 0) >= self.deep
            return made(read(self.folder).meta) if same and unchanged(found.get("depends")) else ""
        except (OSError, TrajectoryError):
            return ""

    def _record(self, emit: Emit) -> OnDisk:
        from parity.frameworks import settings_of
        from parity.judging.floors.noise import checked, in_lockstep
        from parity.recording.format import batch_order_hash
        from parity.recording.places import CHECKED
        from parity.recording.steps import watched
        from parity.recording.writer import Writer
        from parity.trainer import record

        cell, process = self.cell, os.getpid()
        entry, implementation, reference = cell.find()
        case = entry.case
        sources = [implementation.path, entry.spec, *([reference.path] if self.lockstep else [])]
        begun = time.perf_counter()
        implementation.load()
        imported = time.perf_counter()
        if cell.dtype == CHECKED:
            trainer, case = checked(implementation.build, case, longdouble=implementation.label == "numpy")
        else:
            trainer = implementation.build(case, cell.dtype, cell.device)
        if self.lockstep:
            trainer, state, go_on = in_lockstep(trainer, reference.build(case, "float64", "cpu"), case, self.lockstep)
        elif cell.dtype == CHECKED:
            # Neither a longdouble nor the order of random numbers can be stored: such a run begins anew.
            state, go_on = lambda: None, trainer.load
        else:
            state, go_on = trainer.export, trainer.load
        seen = layers = None
        if self.deep:
            from parity.watching.inside import LayersOfTrainer

            layers = LayersOfTrainer(trainer)
            seen = watched(trainer, case, self.deep, layers)
        machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
        threads, settings = int(os.environ["OMP_NUM_THREADS"]), settings_of(implementation.label, cell.device)
        order = batch_order_hash(case.schedule, len(case.data().x), self.epochs)
        meta = {**self.meta, "batch_order": order, "platform": machine, "threads": threads, "settings": settings}
        built = time.perf_counter()
        # The framework itself is imported by the first run of its process alone.
        meta["timings"] = {"import": imported - begun, "build": built - imported}
        _end_if_forked(process)
        # What has been read by now is what a run that goes on here must have begun with.
        shapes = {name: value.shape for name, value in case.initial().items()}
        with Writer(self.folder, meta | _depends(sources), state, resume=self.resume, shapes=shapes) as writer:
            if writer.resumed is not None:
                go_on(writer.resumed)
            for chunk in record(seen.trainer if seen else trainer, case, self.epochs, writer.start):
                _end_if_forked(process)
                writer.add(chunk, seen.take() if seen else None)
                emit(Progress(int(chunk.epochs[-1]), self.epochs))
            said = layers.said if layers is not None else {}
            writer.finish(seconds=time.perf_counter() - built, **_depends(sources), **said)
        return OnDisk(made=writer.made)


def _depends(sources: list[Path]) -> dict[str, Any]:
    """What a run depends on beside its key, as its metadata have it."""
    from parity.running.reading.reads import read_by

    found = read_by(sources)
    return {} if found is None else {"depends": found}


def _end_if_forked(process: int) -> None:
    """End what was forked from this process within a job and came back from there: the job is its parent's."""
    if os.getpid() != process:
        os._exit(1)


@dataclass(frozen=True)
class Climb:
    """Send a cell up the ladder, held to these floors."""

    cell: CellName
    environment: Environment
    resources: Resources
    floor: FloorFile
    lockstep_floor: FloorFile | None = None

    def run(self, emit: Emit) -> tuple[Rung, ...]:
        from parity.judging.ladder import climb

        cell = self.cell
        entry, implementation, reference = cell.find()
        lockstep = self.lockstep_floor.load()[cell.dtype] if self.lockstep_floor else None
        floor = self.floor.load()[cell.dtype]
        return tuple(climb(implementation.build, reference.build, entry.case, cell.dtype, cell.device, floor, lockstep))


@dataclass(frozen=True)
class SampleText:
    """Let a cell's implementation write text with the parameters that the run in ``folder`` ended with."""

    cell: CellName
    environment: Environment
    resources: Resources
    folder: str
    prime: str
    length: int
    temperature: float
    seed: int

    def run(self, emit: Emit) -> str:
        from parity.recording.reader import read
        from parity.running.sampling import sample

        entry, implementation, _ = self.cell.find()
        trainer = implementation.build(entry.case, self.cell.dtype, self.cell.device)
        state = trainer.export()
        state.params = {name: values[len(values) - 1] for name, values in read(self.folder).params.items()}
        trainer.load(state)
        alphabet = entry.case.display.alphabet
        return sample(trainer.predict, alphabet, self.prime, self.length, self.temperature, self.seed)


@dataclass(frozen=True)
class MeasureFloor:
    """Measure the noise floors of a case on its reference and leave them in a file.

    ``reuse``: where another process has measured the same just now, take its floors.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    epochs: int
    dtypes: tuple[str, ...]
    floor: FloorFile
    lockstep: int | None = None
    reuse: bool = False

    def run(self, emit: Emit) -> OnDisk:
        from parity.recording.lock import alone

        with alone(Path(self.floor.path), lambda: emit(Progress())):
            if self.reuse and self._there():
                return OnDisk(cached=True)
            return self._measure(emit)

    def _there(self) -> bool:
        try:
            return bool(self.floor.load())
        except (OSError, ValueError):
            return False

    def _measure(self, emit: Emit) -> OnDisk:
        from parity.judging.floors.floor import save
        from parity.judging.floors.noise import measure, runs_of

        entry, implementation, _ = self.cell.find()
        runs, of = itertools.count(1), runs_of(self.dtypes)
        floors = measure(
            implementation.build,
            entry.case,
            self.epochs,
            self.lockstep,
            lambda: emit(Progress(next(runs), of)),
            self.dtypes,
        )
        save(floors, Path(self.floor.path), self.floor.mark)
        return OnDisk()


@dataclass(frozen=True)
class MeasureStretches:
    """Measure the floors of single stretches of a case in lockstep, on its reference, each where it begins.

    ``starts`` are the epochs after which they begin; ``floor`` is the file of the case's floors in lockstep, beside
    which each stretch gets one of its own.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    dtypes: tuple[str, ...]
    floor: FloorFile
    lockstep: int
    starts: tuple[int, ...]

    def run(self, emit: Emit) -> OnDisk:
        from parity.judging.floors.floor import save
        from parity.judging.floors.noise import measure_stretches, runs_of
        from parity.recording.places import stretch_name

        entry, implementation, _ = self.cell.find()
        runs, of = itertools.count(1), len(self.starts) * runs_of(self.dtypes)
        measured = measure_stretches(
            implementation.build,
            entry.case,
            self.lockstep,
            self.starts,
            lambda: emit(Progress(next(runs), of)),
            self.dtypes,
        )
        for start, floors in measured:
            path = Path(self.floor.path)
            save(floors, path.with_name(stretch_name(path.name, start)), self.floor.mark)
        return OnDisk()


@dataclass(frozen=True)
class Explain:
    """Explain the run of a cell that lies in ``folder`` and left its tolerance at the epoch ``failed``, from 1.

    ``lockstep`` is the length of its stretches in epochs; None for a free run. ``reference`` is the folder of the run
    that it is held against, ``floor`` its noise floor. ``metric`` is the one by which alone it failed; empty where a
    loss or a parameter did. The result is what ``--json`` writes.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    failed: int
    folder: str
    reference: str
    floor: FloorFile
    lockstep: int | None = None
    metric: str = ""

    def run(self, emit: Emit) -> dict[str, Any]:
        from parity.explaining.explain import Explanation, explain
        from parity.explaining.metrics import explain_metric
        from parity.mistakes.catalogue import mistakes_for
        from parity.recording.reader import read

        cell = self.cell
        entry, implementation, reference = cell.find()
        run = read(self.folder)
        floor = self.floor.load()[cell.dtype].until(len(run.loss), len(run.epochs))
        trainer = implementation.build(entry.case, cell.dtype, cell.device)
        if self.metric:
            other, name = read(self.reference), self.metric
            found = explain_metric(entry, trainer, reference, run, other, name=name, dtype=cell.dtype, floor=floor)
            return Explanation(found, {}).as_json()
        done, mistakes = itertools.count(1), len(mistakes_for(entry))
        return explain(
            entry,
            trainer,
            reference,
            run,
            failed=self.failed,
            dtype=cell.dtype,
            floor=floor.carried(read(self.reference)) if self.lockstep else floor,
            lockstep=self.lockstep,
            on_step=lambda: emit(Progress(next(done), mistakes)),
        ).as_json()


@dataclass(frozen=True)
class Replayed:
    """What replays on a reference explain of a recording, or why that recording is none of its case."""

    explanation: Mapping[str, Any]
    refusal: str = ""


@dataclass(frozen=True)
class Replay:
    """Explain one of two recordings, ``a`` or the ``second``, by replays on the reference that ``cell`` is."""

    cell: CellName
    environment: Environment
    resources: Resources
    a: str
    b: str
    noise: tuple[str, ...] = ()
    second: bool = False

    def run(self, emit: Emit) -> Replayed:
        from parity.explaining.folders import replayed
        from parity.judging.floors.known import Known
        from parity.running.keys import mark
        from parity.suite import load_suite
        from parity.trajectory import TrajectoryError

        entry, _, _ = self.cell.find()
        known = Known(load_suite(self.cell.suite), mark)
        noise = [Path(folder) for folder in self.noise]
        try:
            return Replayed(replayed(known, entry, Path(self.a), Path(self.b), noise, self.second))
        except TrajectoryError as error:
            return Replayed({}, str(error))


DEVICES = Resources(about="devices")


@dataclass(frozen=True)
class FindDevice:
    """Ask a framework for its CUDA device; the result is its name, and a job that fails says why there is none."""

    environment: Environment
    trainer: str
    resources: Resources = DEVICES

    def run(self, emit: Emit) -> str:
        return str(import_module(self.trainer).find_cuda())
