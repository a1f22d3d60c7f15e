"""Which mistake is planted in which case and implementation, and which right runs are followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Mistake, Unplanted
from parity.mistakes.planting import batches
from parity.mistakes.stepwise import Stepwise
from parity.proving.experiments import CLEAN_UPDATES, CLEAN_WORK, cut, work_of
from parity.proving.worker import Clean, Experiment, Prove, Smallest, Subject
from parity.running.executor import Emit, Environment, Resources
from parity.spec import Case
from parity.suite import Entry, Suite, load_suite
from parity.trainer import Build, Trainer

PLACES = 2
"""Cases that a mistake is planted in, of different models where there are two."""
IN_FRAMEWORKS = ("torch", "jax", "tf1", "keras")
SEEDS = 4
"""Other seeds and initial weights of each cheap case."""
CLEAN_IN = ("numpy", "torch", "jax")
SUBSET_COST = 1.8e7
"""Above this, about the nanoseconds of a cut run, a case is not in the subset."""


RESOURCES = Resources(about="the plan")


@dataclass(frozen=True)
class Planned:
    """The experiments, those that take longest first, and the mistakes that fit no case.

    ``without_effect`` are (mistake, case) of those that can be planted in a case, but would change nothing there.
    """

    experiments: tuple[Experiment, ...]
    nowhere: tuple[str, ...]
    without_effect: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """Choose the experiments: which mistake fits where is tried out on the reference, in its framework."""

    suite: str
    subset: bool
    environment: Environment
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> Planned:
        return plan(load_suite(self.suite), self.subset)


def cost(entry: Entry) -> float:
    """What a cut run takes, about: a row that meets a parameter is a nanosecond, an update many thousands."""
    case = cut(entry.case)
    each = 1e6 if hasattr(case.schedule, "size") else 5e4
    rows = sum(map(len, next(case.schedule.epochs(len(case.data().x)))))
    return case.epochs * (work_of(case) + each * batches(case) + 50 * rows)


def plan(suite: Suite, subset: bool) -> Planned:
    """Choose the experiments.

    Each mistake is planted into the reference on the cheapest case that it fits and the cheapest of another model, and
    into one framework: in turn where that can be any, one that it can be said in where it is in a model's pieces.
    ``subset``: on one case each, and not on the expensive ones.
    """
    entries = sorted(suite.entries.values(), key=cost)
    if subset:
        entries = [entry for entry in entries if cost(entry) < SUBSET_COST]
    known = {hypothesis.name: hypothesis for entry in suite.entries.values() for hypothesis in mistakes_for(entry)}
    places: dict[str, list[Entry]] = {name: [] for name in known}
    without_effect: list[tuple[str, str]] = []
    for entry in entries:
        build = suite.implementation(entry, suite.reference).build
        for hypothesis in mistakes_for(entry):
            here = places[hypothesis.name]
            new = not here or (not subset and all(place.spec != entry.spec for place in here))
            if len(here) < PLACES and new:
                why = _unplanted(hypothesis, build, entry.case)
                if why is None:
                    here.append(entry)
                elif isinstance(why, ChangesNothing):
                    without_effect.append((hypothesis.name, entry.case.name))
    _visit_every_model(suite, entries, places)
    planted: dict[tuple[str, str], list[str]] = {}
    jobs: list[Experiment] = []

    def needs(kind: type[Experiment], entry: Entry, label: str) -> tuple[Subject, Environment, Resources]:
        subject = Subject(suite.package, entry.case.name, label)
        return subject, subject.environment, Resources(about=f"{kind.__name__} {subject.case}")

    turn = 0
    for name, found in places.items():
        for entry in found:
            planted.setdefault((entry.case.name, suite.reference), []).append(name)
        chosen = IN_FRAMEWORKS if found and _anywhere(known[name], suite, found[0]) else known[name].pieces_of
        if found and chosen:
            labels = [label for label in chosen if label in found[0].implementations]
            labels = [label for label in labels if label not in found[0].case.absent]
            labels = [label for label in labels if label == "torch"] if subset else labels
            if labels and not (subset and turn % 3):
                # An expensive case stays in one framework, whose process then replays every mistake but once.
                choice = turn if cost(found[0]) < SUBSET_COST else entries.index(found[0])
                planted.setdefault((found[0].case.name, labels[choice % len(labels)]), []).append(name)
            turn += 1
    for (case, label), names in planted.items():
        jobs.append(Prove(*needs(Prove, suite.entries[case], label), tuple(names), alternate=subset))
    for entry in entries:
        if work_of(cut(entry.case, CLEAN_UPDATES)) * cut(entry.case, CLEAN_UPDATES).epochs <= CLEAN_WORK:
            for label in CLEAN_IN:
                if label in entry.implementations and not (subset and label == "jax"):
                    jobs.append(Clean(*needs(Clean, entry, label), seeds=1 if subset else SEEDS))
        jobs.append(Smallest(*needs(Smallest, entry, suite.reference)))

    def whole_cost(job: Experiment) -> float:
        return cost(suite.entries[job.subject.case]) * (1 + (len(job.plants) if isinstance(job, Prove) else 0))

    ordered = sorted(jobs, key=whole_cost, reverse=True)
    nowhere = tuple(name for name, found in places.items() if not found)
    return Planned(tuple(ordered), nowhere, tuple(pair for pair in without_effect if pair[0] in nowhere))


def _unplanted(hypothesis: Mistake, build: Build, case: Case) -> Unplanted | None:
    """Why a mistake cannot be planted in a case; None if it can."""
    if hypothesis.figures_only and all(published.rule == "envelope" for published in case.publication.figures):
        return CannotBePlanted("one draw of many: figures that only have to be near show no such mistake")
    with np.errstate(all="ignore"):
        case = case if hypothesis.figures_only else cut(case)
        trainer = hypothesis.plant(build, case, "float64", "cpu")
    return trainer if isinstance(trainer, Unplanted) else None


def _visit_every_model(suite: Suite, entries: Sequence[Entry], places: Mapping[str, list[Entry]]) -> None:
    """Where no mistake was planted in a model, those that were planted least are planted there, too."""
    for entry in entries:
        if any(place.spec == entry.spec for found in places.values() for place in found):
            continue
        build = suite.implementation(entry, suite.reference).build
        fits = [h.name for h in mistakes_for(entry) if not h.figures_only and not _unplanted(h, build, entry.case)]
        for name in sorted(fits, key=lambda name: len(places[name]))[:PLACES]:
            places[name].append(entry)


def _anywhere(hypothesis: Mistake, suite: Suite, entry: Entry) -> bool:
    """Whether a mistake can be planted into an implementation of which nothing is known but the verbs."""
    build = suite.implementation(entry, suite.reference).build

    def foreign(case: Case, dtype: str, device: str) -> Trainer:
        return Stepwise(build(case, dtype, device), case, dtype)

    return _unplanted(hypothesis, foreign, entry.case) is None
