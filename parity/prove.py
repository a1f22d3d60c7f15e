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

import numpy as np

from parity.experiments import CLEAN_UPDATES, CLEAN_WORK, Planted, cut, work_of
from parity.frameworks import framework_of
from parity.hypotheses import Hypothesis, hypotheses_for
from parity.locate import PHASES
from parity.matrix import Versions
from parity.planting import Stepwise, batches
from parity.pool import Pool, WorkerError
from parity.spec import Case
from parity.suite import Entry, Suite
from parity.tolerance import Build
from parity.trainer import Trainer
from parity.verdict import Verdict

PLACES = 2
"""Cases that a mistake is planted in, of different models where there are two."""
IN_FRAMEWORKS = ("torch", "jax", "tf1", "keras")
PHASE_RIGHT, NAME_RIGHT = 0.95, 0.85
"""The least shares of the plants that must be found in their phase and under their name."""
SEEDS = 4
"""Other seeds and initial weights of each cheap case."""
CLEAN_IN = ("numpy", "torch", "jax")
SUBSET_COST = 1.8e7
"""Above this, about the nanoseconds of a cut run, a case is not in the subset."""


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


# What is run, and where.


def _cost(entry: Entry) -> float:
    """What a cut run takes, about: a row that meets a parameter is a nanosecond, an update many thousands."""
    case = cut(entry.case)
    each = 1e6 if hasattr(case.schedule, "size") else 5e4
    rows = sum(map(len, next(case.schedule.epochs(len(case.data().x)))))
    return case.epochs * (work_of(case) + each * batches(case) + 50 * rows)


def plan(suite: Suite, subset: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The jobs for the workers, the longest first, and the mistakes that fit no case.

    Each mistake is planted into the reference on the cheapest case that it fits and the cheapest of another model, and
    into one framework: in turn where that can be any, one that it can be said in where it is in a model's pieces.
    ``subset``: on one case each, and not on the expensive ones.
    """
    entries = sorted(suite.entries.values(), key=_cost)
    if subset:
        entries = [entry for entry in entries if _cost(entry) < SUBSET_COST]
    known = {hypothesis.name: hypothesis for entry in suite.entries.values() for hypothesis in hypotheses_for(entry)}
    places: dict[str, list[Entry]] = {name: [] for name in known}
    for entry in entries:
        build = suite.implementation(entry, suite.reference).build
        for hypothesis in hypotheses_for(entry):
            here = places[hypothesis.name]
            new = not here or (not subset and all(place.spec != entry.spec for place in here))
            if len(here) < PLACES and new and _plantable(hypothesis, build, entry.case):
                here.append(entry)
    _visit_every_model(suite, entries, places)
    jobs: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(do: str, entry: Entry, label: str, **more: Any) -> dict[str, Any]:
        key = do, entry.case.name, label
        start = {"do": do, "suite": suite.package, "case": entry.case.name, "implementation": label}
        return jobs.setdefault(key, {**start, "plants": [], "alternate": subset, **more})

    turn = 0
    for name, found in places.items():
        for entry in found:
            add("prove", entry, suite.reference)["plants"].append(name)
        chosen = IN_FRAMEWORKS if found and _anywhere(known[name], suite, found[0]) else known[name].pieces_of
        if found and chosen:
            labels = [label for label in chosen if label in found[0].implementations]
            labels = [label for label in labels if label not in found[0].case.absent]
            labels = [label for label in labels if label == "torch"] if subset else labels
            if labels and not (subset and turn % 3):
                # An expensive case stays in one framework, whose process then replays every mistake but once.
                choice = turn if _cost(found[0]) < SUBSET_COST else entries.index(found[0])
                add("prove", found[0], labels[choice % len(labels)])["plants"].append(name)
            turn += 1
    for entry in entries:
        if work_of(cut(entry.case, CLEAN_UPDATES)) * cut(entry.case, CLEAN_UPDATES).epochs <= CLEAN_WORK:
            for label in CLEAN_IN:
                if label in entry.implementations and not (subset and label == "jax"):
                    add("clean", entry, label, seeds=1 if subset else SEEDS)
        add("smallest", entry, suite.reference)
    ordered = sorted(jobs.values(), key=lambda job: -_cost(suite.entries[job["case"]]) * (1 + len(job["plants"])))
    return ordered, [name for name, found in places.items() if not found]


def _plantable(hypothesis: Hypothesis, build: Build, case: Case) -> bool:
    if hypothesis.figures_only and all(published.rule == "envelope" for published in case.published):
        return False  # One draw of many: figures that only have to be near show no such mistake.
    with np.errstate(all="ignore"):
        case = case if hypothesis.figures_only else cut(case)
        return hypothesis.plant(build, case, "float64", "cpu") is not None


def _visit_every_model(suite: Suite, entries: Sequence[Entry], places: Mapping[str, list[Entry]]) -> None:
    """Where no mistake was planted in a model, those that were planted least are planted there, too."""
    for entry in entries:
        if any(place.spec == entry.spec for found in places.values() for place in found):
            continue
        build = suite.implementation(entry, suite.reference).build
        fits = [h.name for h in hypotheses_for(entry) if not h.figures_only and _plantable(h, build, entry.case)]
        for name in sorted(fits, key=lambda name: len(places[name]))[:PLACES]:
            places[name].append(entry)


def _anywhere(hypothesis: Hypothesis, suite: Suite, entry: Entry) -> bool:
    """Whether a mistake can be planted into an implementation of which nothing is known but the verbs."""
    build = suite.implementation(entry, suite.reference).build

    def foreign(case: Case, dtype: str, device: str) -> Trainer:
        return Stepwise(build(case, dtype, device), case, dtype)

    return _plantable(hypothesis, foreign, entry.case)


# All of it.


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
    evidence.plants.sort(key=lambda plant: (PHASES.index(plant.planted_phase), plant.hypothesis))
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
