"""The cells that one call of the matrix asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parity.dtypes import DTYPES
from parity.frameworks import FRAMEWORKS, framework_of
from parity.judging.policy import asserts_parameters
from parity.recording.places import folder_name
from parity.running.jobs import CellName
from parity.running.on import LOCAL
from parity.suite import Entry, Suite, SuiteError


@dataclass(frozen=True)
class Options:
    """The request of one call of the matrix. Where ``epochs`` or ``lockstep`` is None, each case keeps its own.

    ``seeds`` are those that each case is run with; None is its own. ``timeout`` is the time that a job may take, in
    seconds. If it is None, it follows from the times of other jobs about the same case. ``on`` is where jobs are done,
    ``jobs`` how many at a time: see ``parity.running.on``.
    """

    suite: Suite
    out: Path
    cases: Sequence[str] = ()
    implementations: Sequence[str] = ()
    frameworks: Sequence[str] = ()
    dtypes: Sequence[str] = DTYPES
    device: str = "cpu"
    epochs: int | None = None
    variant: str | None = None
    seeds: Sequence[int | None] = (None,)
    lockstep: int | None = None
    deep: int = 0
    jobs: int | None = None
    on: str = LOCAL
    pythons: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        # What is imported or called for may go into another folder.
        object.__setattr__(self, "out", Path(os.path.abspath(self.out)))
        known = [framework.name for framework in FRAMEWORKS]
        for framework in (*self.frameworks, *self.pythons):
            if framework not in known:
                raise SuiteError(f"unknown framework {framework!r}: known are {', '.join(known)}")
        for label in self.implementations:
            if label not in self.suite.labels:
                labels = ", ".join(self.suite.labels)
                raise SuiteError(f"unknown implementation {label!r}: {self.suite.package} has {labels}")

    def wants(self, label: str) -> bool:
        """Say whether an implementation is asked for. If none is named, all are."""
        named = not self.implementations or label in self.implementations
        return named and (not self.frameworks or framework_of(label).name in self.frameworks)

    def possible_dtypes(self, label: str) -> list[str]:
        """The dtypes asked for that an implementation's framework can have on the device asked for."""
        never = framework_of(label).never
        return [] if self.device in never else [dtype for dtype in self.dtypes if dtype not in never]

    def entries(self) -> list[Entry]:
        """The cases asked for, on the data asked for: of data with a name, if no case is named, all that have them."""
        having = [name for name, entry in self.suite.entries.items() if self.variant in entry.case.variants]
        names = self.cases or having or self.suite.entries
        return [self.suite.entry(name, self.variant, seed) for name in names for seed in self.seeds]

    def reference(self, cell: Cell) -> Cell:
        """The cell that another of its case is held against."""
        return Cell(cell.entry, self.suite.reference, "float64", "cpu")

    def is_reference(self, cell: Cell) -> bool:
        """Whether others are held against it; it is held against itself, computed otherwise."""
        return (cell.implementation, cell.dtype, cell.device) == (self.suite.reference, "float64", "cpu")

    def stretch(self, cell: Cell) -> int | None:
        """The length of the stretches in which the cell is run a second time, from the reference's states."""
        case = cell.entry.case
        if self.lockstep is not None or self.is_reference(cell):
            return self.lockstep
        return None if asserts_parameters(case, cell.dtype) else case.stretch

    def cell_name(self, cell: Cell) -> CellName:
        """What a cell is called in every process."""
        entry = cell.entry
        package, case = self.suite.package, entry.case.name
        return CellName(package, case, entry.data, cell.implementation, cell.dtype, cell.device, entry.seed)


@dataclass(frozen=True)
class Cell:
    """One implementation of one case in one dtype on one device."""

    entry: Entry
    implementation: str
    dtype: str
    device: str

    @property
    def name(self) -> str:
        return f"{self.entry.folder}-{self.implementation}-{self.dtype}"

    def folder(self, out: Path, lockstep: int | None = None) -> Path:
        return out / self.entry.folder / folder_name(self.implementation, self.dtype, self.device, lockstep)


OnEpoch = Callable[[Cell, int, int], None]
"""``(cell, done, total)``: called with the progress of a cell."""


def cells(options: Options) -> list[Cell]:
    """The cells asked for: every implementation of every case unless some are named.

    Cells that can never exist, because the case or the framework has no such thing, are left out: see ``left_out``.
    SuiteError if no cell remains.
    """
    found = [
        Cell(entry, label, dtype, options.device)
        for entry in options.entries()
        for label in entry.implementations
        if options.wants(label) and label not in entry.case.absent
        for dtype in options.possible_dtypes(label)
    ]
    if not found:
        asked = ", ".join((*options.implementations, *options.frameworks))
        why = left_out(options) or list(owed(options).values())
        raise SuiteError(why[0] if why else f"none of the cases asked for has an implementation {asked}")
    return found


def owed(options: Options) -> dict[Cell, str]:
    """The cells asked for that fail before anything is run, each with its reason: see ``Suite.owed``."""
    return {
        Cell(entry, label, dtype, options.device): reason
        for entry in options.entries()
        for label, reason in options.suite.owed(entry).items()
        if options.wants(label)
        for dtype in options.possible_dtypes(label)
    }


def left_out(options: Options) -> list[str]:
    """Why some cells asked for do not exist: a sentence for each dtype or device that a framework can never have."""
    labels = {label for entry in options.entries() for label in entry.implementations if options.wants(label)}
    never = [framework_of(label).never for label in sorted(labels)]
    asked = (*options.dtypes, options.device)
    return list(dict.fromkeys(reasons[what] for reasons in never for what in asked if what in reasons))
