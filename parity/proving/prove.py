"""The harness proved on itself: every mistake of the catalogue planted and looked for, and right runs left alone.

Three questions. Is every planted mistake found, in its phase, under its name? Is a right implementation ever called
wrong, over other seeds and initial weights? How small a change is still seen?

A mistake is planted in float64 wherever its rule says that it applies, and in float32 where its own path leaves the
float32 tolerance by more than a noise floor: what rounding hides, no harness can see. Cases are cut to their first
epochs, texts to shorter portions; a beginning has the beginning of the noise floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from parity.frameworks import framework_of
from parity.judging.verdict import Verdict
from parity.proving.experiments import Planted
from parity.proving.plan import Plan
from parity.proving.worker import Experiment, Plants, SmallestSeen
from parity.recording.steps import Phase
from parity.running.deadlines import Deadlines
from parity.running.executor import Environment, Progress, WorkerError
from parity.running.on import LOCAL, executor, installed_on
from parity.running.packages import reach_of
from parity.running.versions import Versions
from parity.suite import Suite, SuiteError

PHASE_RIGHT, NAME_RIGHT = 0.95, 0.85
"""The least shares of the plants that must be found in their phase and under their name."""


@dataclass
class Evidence:
    """What ``parity prove`` found.

    ``nowhere`` are the mistakes that fit no case here. Of the others, or of a case that some fit, ``unseen`` are
    (mistake, case) that float32 hides, ``impossible`` those that a run of the dtype or the implementation cannot make.
    ``without_effect`` are (mistake, case) that would change nothing there.
    """

    subset: bool = False
    plants: list[Planted] = field(default_factory=list)
    clean: list[dict[str, Any]] = field(default_factory=list)
    smallest: dict[str, dict[str, float | None]] = field(default_factory=dict)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    impossible: list[tuple[str, str]] = field(default_factory=list)
    without_effect: list[tuple[str, str]] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    cut: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def false_alarms(self) -> list[dict[str, Any]]:
        return [run for run in self.clean if run["verdict"] != Verdict.PASS]

    @property
    def proved(self) -> bool:
        """All caught, enough of them located and named, no false alarm, and nothing that could not be run."""
        planted = len(self.plants)
        enough = (
            sum(plant.phase_right for plant in self.plants) >= PHASE_RIGHT * planted
            and sum(plant.name_right for plant in self.plants) >= NAME_RIGHT * planted
        )
        all_caught = planted > 0 and all(plant.caught for plant in self.plants)
        return all_caught and enough and bool(self.clean) and not self.false_alarms and not self.failures

    def as_json(self) -> dict[str, Any]:
        return {
            "planted": len(self.plants),
            "caught": sum(plant.caught for plant in self.plants),
            "phase_right": sum(plant.phase_right for plant in self.plants),
            "name_right": sum(plant.name_right for plant in self.plants),
            "name_tied": sum(plant.tied for plant in self.plants),
            "clean_runs": len(self.clean),
            "false_alarms": len(self.false_alarms),
            "plants": [
                {
                    "hypothesis": plant.hypothesis,
                    "case": plant.case,
                    "implementation": plant.implementation,
                    "dtype": plant.dtype,
                    "caught": plant.caught,
                    "phase": plant.phase,
                    "named": plant.named,
                    "epoch": plant.epoch,
                    "planted_phase": plant.planted_phase,
                    "tied": plant.tied,
                }
                for plant in self.plants
            ],
            "smallest": self.smallest,
            "below_float32": [list(pair) for pair in self.unseen],
            "cannot_be_planted": [list(pair) for pair in self.impossible],
            "changes_nothing": [list(pair) for pair in self.without_effect],
            "nowhere": self.nowhere,
            "cut": self.cut,
            "failures": self.failures,
            "alarms": self.false_alarms,
            "subset": self.subset,
            "seconds": self.seconds,
        }


def prove(
    suite: Suite,
    subset: bool = False,
    jobs: int | None = None,
    pythons: Mapping[str, str] | None = None,
    timeout: float | None = None,
    on_plan: Callable[[int], None] = lambda jobs: None,
    on_step: Callable[[str], None] = lambda name: None,
    on_job: Callable[[str], None] = lambda name: None,
    on: str = LOCAL,
) -> Evidence:
    """Plant, leave alone and measure, in worker processes, where ``on`` says; leave out frameworks not installed.

    SuiteError where the reference cannot be asked which mistakes fit it.
    """
    begun = time.monotonic()
    versions = Versions(pythons or {}, installed_on(on))
    evidence = Evidence(subset)
    with executor(on, jobs, pythons, reach_of(suite.package), Deadlines(timeout)) as pool:
        try:
            planned = pool.submit(Plan(suite.package, subset, Environment(framework_of(suite.reference).name))).result()
        except WorkerError as error:
            raise SuiteError(f"no mistake can be planted in the reference, {suite.reference}: {error}") from error
        evidence.nowhere += planned.nowhere
        evidence.without_effect += planned.without_effect
        chosen = [job for job in planned.experiments if versions.availability(job.subject.implementation).available]
        on_plan(len(chosen))
        waiting: dict[Future[Any], Experiment] = {}
        for job in chosen:
            waiting[pool.submit(job, partial(_told, on_step, _name(job)))] = job
        while waiting:
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                job = waiting.pop(future)
                try:
                    _gather(evidence, job, future.result())
                except WorkerError as error:
                    evidence.failures.append(f"{_name(job)}: {error}")
                on_job(_name(job))
    evidence.plants.sort(key=lambda plant: (list(Phase).index(Phase(plant.planted_phase)), plant.hypothesis))
    evidence.seconds = time.monotonic() - begun
    return evidence


def _name(job: Experiment) -> str:
    return f"{type(job).__name__.lower()} {job.subject.case} {job.subject.implementation}"


def _told(on_step: Callable[[str], None], name: str, progress: Progress) -> None:
    on_step(name)


def _gather(evidence: Evidence, job: Experiment, result: Any) -> None:
    case = job.subject.case
    if isinstance(result, tuple):
        evidence.clean += [asdict(run) for run in result]
        return
    if result.cut:
        evidence.cut[case] = result.cut
    if isinstance(result, SmallestSeen):
        evidence.smallest[case] = dict(result.change)
        return
    assert isinstance(result, Plants)
    evidence.plants += result.planted
    evidence.unseen += [(name, case) for name in result.unseen]
    evidence.impossible += [(name, case) for name in result.impossible]
    evidence.without_effect += [(name, case) for name in result.without_effect]


def confusion(plants: Iterable[Planted]) -> Iterator[tuple[str, str, list[Planted], list[str]]]:
    """Each mistake with its phase, its plants, and what it was taken for where it was not named."""
    groups: dict[str, list[Planted]] = {}
    for plant in plants:
        groups.setdefault(plant.hypothesis, []).append(plant)
    for name, found in groups.items():
        taken = [f"{plant.named} ({plant.phase})" for plant in found if not plant.name_right or not plant.phase_right]
        yield name, found[0].planted_phase, found, list(dict.fromkeys(taken))
