"""The experiments of ``parity prove`` as jobs, and what each has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.frameworks import framework_of
from parity.judging.verdict import Verdict
from parity.running.executor import Emit, Environment, Progress, Resources

if TYPE_CHECKING:
    from parity.proving.experiments import Planted
    from parity.suite import Entry, Implementation, Suite


@dataclass(frozen=True)
class Subject:
    """An implementation of a case that an experiment is made with."""

    suite: str
    case: str
    implementation: str

    @property
    def environment(self) -> Environment:
        return Environment(framework_of(self.implementation).name)

    def find(self) -> tuple[Suite, Entry, Implementation]:
        from parity.suite import load_suite

        suite = load_suite(self.suite)
        entry = suite.entry(self.case)
        return suite, entry, suite.implementation(entry, self.implementation)


@dataclass(frozen=True)
class Plants:
    """The mistakes that were planted in a case, and those that were not.

    ``unseen``: rounding in float32 hides them. ``impossible``: a run of the dtype, or the implementation, cannot make
    them. ``without_effect``: they would change nothing. ``cut`` says how the case was shortened.
    """

    planted: tuple[Planted, ...]
    unseen: tuple[str, ...]
    impossible: tuple[str, ...]
    without_effect: tuple[str, ...]
    cut: str


@dataclass(frozen=True)
class CleanRun:
    """What became of a right run, with another seed and other weights."""

    case: str
    implementation: str
    dtype: str
    seed: int
    verdict: Verdict
    ratio: float | None
    reason: str


@dataclass(frozen=True)
class SmallestSeen:
    """By dtype, the smallest change of the learning rate that fails; ``cut`` says how the case was shortened."""

    change: Mapping[str, float | None]
    cut: str


@dataclass(frozen=True)
class Prove:
    """Plant these mistakes; ``alternate``: in float32 every third alone."""

    subject: Subject
    environment: Environment
    resources: Resources
    plants: tuple[str, ...]
    alternate: bool

    def run(self, emit: Emit) -> Plants:
        from parity.proving.experiments import Planted, plants

        suite, entry, implementation = self.subject.find()
        found = plants(suite, entry, implementation, self.plants, lambda: emit(Progress()), self.alternate)
        return Plants(
            planted=tuple(Planted(**plant) for plant in found["plants"]),
            unseen=tuple(found["unseen"]),
            impossible=tuple(found["impossible"]),
            without_effect=tuple(found["without_effect"]),
            cut=found["cut"],
        )


@dataclass(frozen=True)
class Clean:
    """Follow right runs with so many other seeds and initial weights."""

    subject: Subject
    environment: Environment
    resources: Resources
    seeds: int

    def run(self, emit: Emit) -> tuple[CleanRun, ...]:
        from parity.proving.experiments import clean

        suite, entry, implementation = self.subject.find()
        found = clean(suite, entry, implementation, self.seeds, lambda: emit(Progress()))
        return tuple(CleanRun(**run) for run in found)


@dataclass(frozen=True)
class Smallest:
    """Find the smallest change of the reference's learning rate that is still seen."""

    subject: Subject
    environment: Environment
    resources: Resources

    def run(self, emit: Emit) -> SmallestSeen:
        from parity.proving.experiments import smallest

        suite, entry, _ = self.subject.find()
        found = smallest(suite, entry, lambda: emit(Progress()))
        return SmallestSeen(found["smallest"], found["cut"])


Experiment = Prove | Clean | Smallest
