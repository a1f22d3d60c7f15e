"""The harness proved on itself: every mistake of the catalogue planted and looked for, and right runs left alone.

Three questions. Is every planted mistake found, in its phase, under its name? Is a right implementation ever called
wrong, over other seeds and initial weights? How small a change is still seen?

A mistake is planted in float64 wherever its rule says that it applies, and in float32 where its own path leaves the
float32 tolerance by more than a noise floor: what rounding hides, no harness can see. Cases are cut to their first
epochs, texts to shorter portions; a beginning has the beginning of the noise floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from parity.frameworks import framework_of
from parity.judging.verdict import Verdict
from parity.proving.experiments import Planted
from parity.proving.plan import plan
from parity.recording.steps import Phase
from parity.running.pool import Pool, WorkerError
from parity.running.versions import Versions
from parity.suite import Suite

PHASE_RIGHT, NAME_RIGHT = 0.95, 0.85
"""The least shares of the plants that must be found in their phase and under their name."""


@dataclass
class Evidence:
    """What ``parity prove`` found. ``unseen`` are (mistake, case) that float32 hides; ``nowhere`` fit no case here."""

    subset: bool = False
    plants: list[Planted] = field(default_factory=list)
    clean: list[dict[str, Any]] = field(default_factory=list)
    smallest: dict[str, dict[str, float | None]] = field(default_factory=dict)
    unseen: list[tuple[str, str]] = field(default_factory=list)
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
    jobs: int = 2,
    pythons: Mapping[str, str] | None = None,
    path: Sequence[str] = (),
    on_plan: Callable[[int], None] = lambda jobs: None,
    on_step: Callable[[str], None] = lambda name: None,
    on_job: Callable[[str], None] = lambda name: None,
) -> Evidence:
    """Plant, leave alone and measure, in worker processes. Frameworks that are not installed are left out."""
    begun = time.monotonic()
    planned, nowhere = plan(suite, subset)
    versions = Versions(pythons or {})
    planned = [job for job in planned if versions.availability(job["implementation"]).available]
    on_plan(len(planned))
    evidence = Evidence(subset, nowhere=nowhere)
    with Pool(jobs, pythons, path) as pool:
        waiting: dict[Future[dict[str, Any]], dict[str, Any]] = {}
        for job in planned:
            name = f"{job['do']} {job['case']} {job['implementation']}"
            future = pool.submit(framework_of(job["implementation"]).name, job, partial(_told, on_step, name))
            waiting[future] = job
        while waiting:
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                job = waiting.pop(future)
                name = f"{job['do']} {job['case']} {job['implementation']}"
                try:
                    _gather(evidence, job, future.result()["result"])
                except WorkerError as error:
                    evidence.failures.append(f"{name}: {error}")
                on_job(name)
    evidence.plants.sort(key=lambda plant: (list(Phase).index(Phase(plant.planted_phase)), plant.hypothesis))
    evidence.seconds = time.monotonic() - begun
    return evidence


def _told(on_step: Callable[[str], None], name: str, event: Mapping[str, Any]) -> None:
    on_step(name)


def _gather(evidence: Evidence, job: Mapping[str, Any], result: Any) -> None:
    if job["do"] == "clean":
        evidence.clean += result
        return
    if result["cut"]:
        evidence.cut[job["case"]] = result["cut"]
    if job["do"] == "smallest":
        evidence.smallest[job["case"]] = result["smallest"]
        return
    evidence.plants += [Planted(**plant) for plant in result["plants"]]
    evidence.unseen += [(name, job["case"]) for name in result["unseen"]]


def confusion(plants: Iterable[Planted]) -> Iterator[tuple[str, str, list[Planted], list[str]]]:
    """Each mistake with its phase, its plants, and what it was taken for where it was not named."""
    groups: dict[str, list[Planted]] = {}
    for plant in plants:
        groups.setdefault(plant.hypothesis, []).append(plant)
    for name, found in groups.items():
        taken = [f"{plant.named} ({plant.phase})" for plant in found if not plant.name_right or not plant.phase_right]
        yield name, found[0].planted_phase, found, list(dict.fromkeys(taken))
