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
    from parity.judging.floor import Floor
    from parity.judging.ladder import Rung
    from parity.suite import Entry, Implementation


@dataclass(frozen=True)
class CellName:
    """A cell by its names, under which every process that has the suite finds it. ``data`` is ``Entry.data``."""

    suite: str
    case: str
    data: str | None
    implementation: str
    dtype: str
    device: str

    @property
    def environment(self) -> Environment:
        return Environment(framework_of(self.implementation).name, self.device)

    @property
    def resources(self) -> Resources:
        about = self.case if self.data is None else f"{self.case}@{Path(self.data).stem}"
        return Resources(gpus=0.0 if self.device == "cpu" else 1.0, about=about)

    def find(self) -> tuple[Entry, Implementation, Implementation]:
        """Its case, in the implementation's way, both implementations; SuiteError where the suite has no such cell."""
        from parity.suite import load_suite

        suite = load_suite(self.suite)
        entry = suite.entry(self.case, self.data)
        entry = replace(entry, case=entry.case.in_way(self.implementation))
        return entry, suite.implementation(entry, self.implementation), suite.implementation(entry, suite.reference)


@dataclass(frozen=True)
class FloorFile:
    """A noise floor on disk, and the mark that it must bear."""

    path: str
    mark: str

    def load(self) -> Mapping[str, Floor]:
        """The floors by dtype; FileNotFoundError where none with that mark is there."""
        from parity.judging.floor import load

        floors = load(Path(self.path), self.mark)
        if floors is None:
            raise FileNotFoundError(f"no noise floor at {self.path}")
        return floors


@dataclass(frozen=True)
class OnDisk:
    """What a run or a measurement leaves is on disk; ``cached`` where it had been before."""

    cached: bool = False


@dataclass(frozen=True)
class Record:
    """Train a cell and record it in ``folder``, under what ``meta`` says of it.

    In stretches of ``lockstep`` epochs, each from the reference's state, where that is given; all of the first ``deep``
    updates. ``resume``: go on with what a run that was stopped has left.
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

    def run(self, emit: Emit) -> OnDisk:
        from parity.frameworks import settings_of
        from parity.judging.noise import checked, in_lockstep
        from parity.recording.format import batch_order_hash
        from parity.recording.places import CHECKED
        from parity.recording.steps import watched
        from parity.recording.writer import Writer
        from parity.trainer import record

        cell = self.cell
        entry, implementation, reference = cell.find()
        case = entry.case
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
        seen = watched(trainer, case, self.deep) if self.deep else None
        machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
        threads, settings = int(os.environ["OMP_NUM_THREADS"]), settings_of(implementation.label, cell.device)
        order = batch_order_hash(case.schedule, len(case.data().x), self.epochs)
        meta = {**self.meta, "batch_order": order, "platform": machine, "threads": threads, "settings": settings}
        built = time.perf_counter()
        # The framework itself is imported by the first run of its process alone.
        meta["timings"] = {"import": imported - begun, "build": built - imported}
        with Writer(self.folder, meta, state, resume=self.resume) as writer:
            if writer.resumed is not None:
                go_on(writer.resumed)
            for chunk in record(seen.trainer if seen else trainer, case, self.epochs, writer.start):
                writer.add(chunk, seen.take() if seen else None)
                emit(Progress(int(chunk.epochs[-1]), self.epochs))
            writer.finish(seconds=time.perf_counter() - built)
        return OnDisk()


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
    """Measure the noise floors of a case on its reference and leave them in a file."""

    cell: CellName
    environment: Environment
    resources: Resources
    epochs: int
    dtypes: tuple[str, ...]
    floor: FloorFile
    lockstep: int | None = None

    def run(self, emit: Emit) -> OnDisk:
        from parity.judging.floor import save
        from parity.judging.noise import measure, runs_of

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
class Explain:
    """Explain the run of a cell that lies in ``folder`` and left its tolerance at the epoch ``failed``, from 1.

    ``lockstep`` is the length of its stretches in epochs; None for a free run. ``reference`` is the folder of the run
    that it is held against, ``floor`` its noise floor. The result is what ``--json`` writes.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    failed: int
    folder: str
    reference: str
    floor: FloorFile
    lockstep: int | None = None

    def run(self, emit: Emit) -> dict[str, Any]:
        from parity.explaining.explain import explain
        from parity.mistakes.catalogue import mistakes_for
        from parity.recording.reader import read

        cell = self.cell
        entry, implementation, reference = cell.find()
        run = read(self.folder)
        floor = self.floor.load()[cell.dtype].until(len(run.loss), len(run.epochs))
        done, mistakes = itertools.count(1), len(mistakes_for(entry))
        return explain(
            entry,
            implementation.build(entry.case, cell.dtype, cell.device),
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
        from parity.judging.known import Known
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
