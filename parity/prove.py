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
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from parity.diagnose import Replays
from parity.explain import explain
from parity.frameworks import framework_of
from parity.hypotheses import Hypothesis, hypotheses_for
from parity.locate import PHASES
from parity.matrix import Versions
from parity.planting import Stepwise, batches
from parity.pool import Pool, WorkerError
from parity.published import Figure, figures
from parity.spec import DTYPES, Case, Params
from parity.suite import Entry, Implementation, Suite, fingerprint
from parity.tolerance import FACTOR, RUNS, Build, Floor, load, measure, stirred
from parity.trainer import Trainer, record
from parity.trajectory import Trajectory, gather
from parity.verdict import Judgement, Verdict, judge

UPDATES, WORK = 120, 1e8
"""A case is cut to so many updates, or so many products of rows and parameters, but never below two snapshots."""
PORTION, PORTIONS = 40, 20
"""A text is cut to so many portions of so many characters."""
PLACES = 2
"""Cases that a mistake is planted in, of different models where there are two."""
IN_FRAMEWORKS = ("torch", "jax", "tf1", "keras")
SEEDS, CLEAN_UPDATES, CLEAN_WORK = 4, 40, 1e7
"""Other seeds and initial weights of each cheap case, and how far such a right run is followed."""
CLEAN_IN = ("numpy", "torch", "jax")
SUBSET_COST = 1.8e7
"""Above this, about the nanoseconds of a cut run, a case is not in the subset."""
SECONDS = 600.0
"""No replay begins so long after a run's explanation has begun."""
DECADES = (-17.0, 0.0)
STEP = 0.1
"""Between which powers of ten, and how finely, the smallest visible change is looked for."""
NO_ONE = "unexplained"


@dataclass(frozen=True)
class Planted:
    """One mistake, planted and looked for.

    ``phase`` and ``named`` are what was found, ``epoch`` where; ``tied`` says that other mistakes explain the run
    as well as the one named, and the planted one is among them.
    """

    hypothesis: str
    case: str
    implementation: str
    dtype: str
    caught: bool
    planted_phase: str
    phase: str
    named: str
    epoch: int | None
    tied: bool

    @property
    def phase_right(self) -> bool:
        return self.caught and self.phase == self.planted_phase

    @property
    def name_right(self) -> bool:
        return self.caught and (self.named == self.hypothesis or self.tied)


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
        """All caught, no false alarm, and nothing that could not be run."""
        all_caught = bool(self.plants) and all(plant.caught for plant in self.plants)
        return all_caught and bool(self.clean) and not self.false_alarms and not self.failures

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


def cut(case: Case, updates: int = UPDATES, work: float = WORK) -> Case:
    """The case's first epochs, without metrics: see ``UPDATES``."""
    case = replace(case, metrics=())
    if hasattr(case.schedule, "size"):
        schedule: Any = case.schedule
        case, updates = replace(case, schedule=replace(schedule, size=PORTION)), PORTIONS
    wanted = min(updates // batches(case), int(work / _work(case)))
    whole = max(2, wanted // case.every) * case.every
    return replace(case, epochs=min(case.epochs, whole))


def _work(case: Case) -> float:
    """Rows times parameters of an epoch."""
    rows = sum(map(len, next(case.schedule.epochs(len(case.data().x)))))
    return float(rows * sum(p.size for p in case.initial().values()))


def _cost(entry: Entry) -> float:
    """What a cut run takes, about: a row that meets a parameter is a nanosecond, an update many thousands."""
    case = cut(entry.case)
    each = 1e6 if hasattr(case.schedule, "size") else 5e4
    rows = sum(map(len, next(case.schedule.epochs(len(case.data().x)))))
    return case.epochs * (_work(case) + each * batches(case) + 50 * rows)


def plan(suite: Suite, subset: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The jobs for the workers, the longest first, and the mistakes that fit no case.

    Each mistake is planted into the reference on the cheapest case that it fits and the cheapest of another model,
    and, where it is not in the pieces of a NumPy model, into one framework, in turn. ``subset``: on one case each,
    and not on the expensive ones.
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
        if found and not known[name].figures_only and _anywhere(known[name], suite, found[0]):
            labels = [label for label in IN_FRAMEWORKS if label in found[0].implementations]
            labels = [label for label in labels if label not in found[0].case.absent]
            labels = [label for label in labels if label == "torch"] if subset else labels
            if labels and not (subset and turn % 3):
                # An expensive case stays in one framework, whose process then replays every mistake but once.
                choice = turn if _cost(found[0]) < SUBSET_COST else entries.index(found[0])
                add("prove", found[0], labels[choice % len(labels)])["plants"].append(name)
            turn += 1
    for entry in entries:
        if _work(cut(entry.case, CLEAN_UPDATES)) * cut(entry.case, CLEAN_UPDATES).epochs <= CLEAN_WORK:
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


# The jobs, as workers do them.


def plants(
    suite: Suite,
    entry: Entry,
    implementation: Implementation,
    names: Sequence[str],
    on_plant: Callable[[], None],
    alternate: bool = False,
) -> dict[str, Any]:
    """Plant mistakes into one implementation of one case and look for them; plain data.

    In every dtype, or, ``alternate``, in float64 and, of every third mistake, in float32.
    """
    case = cut(entry.case)
    reference = suite.implementation(entry, suite.reference)
    floors = floors_of(suite, entry, case, reference.build)
    hypotheses = hypotheses_for(entry)
    replays = Replays(reference.build, case, hypotheses)
    found: list[Planted] = []
    unseen: list[str] = []
    for number, hypothesis in enumerate(hypothesis for hypothesis in hypotheses if hypothesis.name in names):
        for dtype in DTYPES[::-1] if number % 3 == 0 or not alternate else DTYPES[-1:]:
            if hypothesis.figures_only:
                if dtype == "float64":
                    found.append(_figures_plant(entry, implementation, hypothesis, hypotheses, floors["float64"]))
            elif not _visible(hypothesis, replays, case, dtype, floors):
                unseen.append(hypothesis.name)
            else:
                plant = partial(hypothesis.plant, implementation.build, case, dtype, "cpu")
                with np.errstate(all="ignore"):
                    one = look(replace(entry, case=case), implementation.label, reference, hypothesis, plant, dtype,
                               floors[dtype], replays)  # fmt: skip
                if one is not None:
                    found.append(one)
            on_plant()
    return {"plants": [vars(plant) for plant in found], "unseen": unseen, "cut": said(entry.case, case)}


def look(
    entry: Entry,
    label: str,
    reference: Implementation,
    hypothesis: Hypothesis,
    plant: Callable[[], Trainer | None],
    dtype: str,
    floor: Floor,
    replays: Replays,
) -> Planted | None:
    """Record what ``plant`` gives, judge it and explain it; None where it gives None."""
    case, trainer = entry.case, plant()
    if trainer is None:
        return None
    run = gather(record(trainer, case, case.epochs))
    path = replays.path((), case.epochs)
    assert path is not None
    judgement = judge(run, path, floor, params=_free(case, dtype))
    if judgement.verdict is not Verdict.FAIL:
        return _planted(hypothesis, case, label, dtype, judgement, "", (), False)
    trainer = plant()
    assert trainer is not None
    explanation = explain(
        entry, trainer, reference, run, judgement, dtype, floor, replays=replays, seconds=SECONDS
    ).diagnosis
    found = explanation.explanations
    named = found[0].names if found else ()
    tied = named != (hypothesis.name,) and any(replay.names == (hypothesis.name,) for replay in found)
    return _planted(hypothesis, case, label, dtype, judgement, explanation.location.phase, named, tied)


def _planted(
    hypothesis: Hypothesis,
    case: Case,
    label: str,
    dtype: str,
    judgement: Judgement,
    phase: str,
    named: tuple[str, ...],
    tied: bool,
) -> Planted:
    caught = judgement.verdict is Verdict.FAIL
    name = " and ".join(named) or (NO_ONE if caught else "")
    epoch = judgement.epoch if caught else None
    return Planted(hypothesis.name, case.name, label, dtype, caught, hypothesis.phase, phase, name, epoch, tied)


def _free(case: Case, dtype: str) -> bool:
    return dtype == "float64" or case.float32_parameters == "free"


def _visible(hypothesis: Hypothesis, replays: Replays, case: Case, dtype: str, floors: Mapping[str, Floor]) -> bool:
    """Whether the mistake's own path, in float64, leaves the tolerance of the dtype by more than a noise floor."""
    if dtype == "float64":
        return True
    right, wrong = replays.path((), case.epochs), replays.path((hypothesis.name,), case.epochs)
    if right is None or wrong is None or hypothesis.plant(replays.reference, case, dtype, "cpu") is None:
        return False
    with np.errstate(all="ignore"):
        judgement = judge(wrong, right, floors[dtype], params=_free(case, dtype))
    return judgement.ratio is None or not judgement.ratio <= 1 + 1 / FACTOR


def floors_of(suite: Suite, entry: Entry, case: Case, build: Build) -> dict[str, Floor]:
    """The noise floors of a cut case: the beginning of those kept with the suite, where they are of the same run."""
    whole = replace(entry.case, metrics=())
    length = min(whole.epochs, whole.floor_epochs or whole.epochs)
    kept = None
    if suite.floors is not None and case.schedule == whole.schedule and case.epochs <= length:
        kept = load(suite.floors / f"{entry.folder}.safetensors", fingerprint(entry.case, length, exact=False))
    if kept is None:
        return measure(build, case, case.epochs)
    snapshots = -(-case.epochs // case.every) + 1
    return {dtype: floor.until(case.epochs, snapshots) for dtype, floor in kept.items()}


def said(whole: Case, case: Case) -> str:
    """How a case was cut, in words; empty where it was not."""
    parts = [f"{case.epochs} of {whole.epochs} epochs"] if case.epochs < whole.epochs else []
    if case.schedule != whole.schedule:
        parts.append(f"portions of {PORTION} instead of {getattr(whole.schedule, 'size', 0)}")
    return ", ".join(parts)


def _figures_plant(
    entry: Entry, implementation: Implementation, hypothesis: Hypothesis, known: Sequence[Hypothesis], floor: Floor
) -> Planted:
    """A mistake in the printed figures alone: planted in the whole case, seen where its figures miss the published.

    Which it is, the figures say by themselves: the mistake whose replay prints the same.
    """
    case = entry.case

    def printed(build: Callable[[Build, Case, str, str], Trainer | None]) -> tuple[Trajectory, tuple[Figure, ...]]:
        trainer = build(implementation.build, case, "float64", "cpu")
        assert trainer is not None
        run = gather(record(trainer, case, case.epochs))
        return run, tuple(figures(case, run, "float64", None))

    right, honest = printed(lambda build, *rest: build(*rest))
    wrong, mistaken = printed(hypothesis.plant)
    missed = [b.epoch for a, b in zip(honest, mistaken, strict=True) if a.ours != b.ours and b.verdict != a.verdict]
    others = [other for other in known if other.figures_only]
    others = [other for other in others if other.plant(implementation.build, case, "float64", "cpu") is not None]
    same = [other.name for other in others if [f.ours for f in printed(other.plant)[1]] == [f.ours for f in mistaken]]
    trainer = hypothesis.plant(implementation.build, case, "float64", "cpu")
    assert trainer is not None
    named = hypothesis.name if hypothesis.name in same else (same[0] if same else NO_ONE)
    return Planted(
        hypothesis.name,
        case.name,
        implementation.label,
        "float64",
        bool(missed),
        hypothesis.phase,
        _figures_phase(trainer, right, wrong, case),
        named,
        min(missed) if missed else None,
        len(same) > 1 and hypothesis.name in same,
    )


def _figures_phase(trainer: Trainer, right: Trajectory, wrong: Trajectory, case: Case) -> str:
    """``prediction`` where the figures are wrong at a state that is named, ``state`` where only after training."""
    data, state = case.data(), trainer.export()
    for place in range(len(right.epochs)):
        trainer.load(replace(state, params={name: values[place] for name, values in right.params.items()}))
        for metric in case.metrics:
            x, y = data.split(metric.split)
            if metric.score is None:
                continue
            value = metric.score(trainer.predict(x), y)
            if value == wrong.metrics[metric.name][place] != right.metrics[metric.name][place]:
                return "prediction"
    return "state"


def clean(suite: Suite, entry: Entry, implementation: Implementation, seeds: int, on_run: Callable[[], None]) -> Any:
    """Right runs of one implementation with other seeds and weights, each judged by a noise floor of its own."""
    reference = suite.implementation(entry, suite.reference).build
    found = []
    for seed in range(seeds):
        case = varied(cut(entry.case, CLEAN_UPDATES), seed)
        path = gather(record(reference(case, "float64", "cpu"), case, case.epochs))
        floors = measure(reference, case, case.epochs)
        for dtype in DTYPES:
            if implementation.label == suite.reference:
                # The same sums in another order, which the floor has not seen: its own seeds end before RUNS.
                trainer, evaluated = stirred(implementation.build, case, dtype, RUNS + 1 + seed)
            else:
                trainer, evaluated = implementation.build(case, dtype, "cpu"), case
            run = gather(record(trainer, evaluated, case.epochs))
            judgement = judge(run, path, floors[dtype], params=_free(case, dtype))
            found.append(
                {
                    "case": case.name,
                    "implementation": implementation.label,
                    "dtype": dtype,
                    "seed": seed,
                    "verdict": judgement.verdict,
                    "ratio": judgement.ratio,
                    "reason": judgement.reason,
                }
            )
            on_run()
    return found


def varied(case: Case, seed: int) -> Case:
    """The case with other initial parameters and, where its batch order has a seed, another of these."""
    generator = np.random.RandomState(1000 + seed)
    # As wide as they were; those that are all zero or alone get the width of a narrow layer's.
    initial: Params = {name: generator.normal(p.mean(), p.std() or 0.1, p.shape) for name, p in case.initial().items()}
    schedule: Any = case.schedule
    if hasattr(schedule, "seed"):
        schedule = replace(schedule, seed=1000 + seed)
    return replace(case, initial=lambda: initial, schedule=schedule)


def smallest(suite: Suite, entry: Entry, on_run: Callable[[], None]) -> dict[str, Any]:
    """By how little, relatively, a learning rate must be off for the reference's run to fail, by dtype."""
    case, build = cut(entry.case), suite.implementation(entry, suite.reference).build
    path = gather(record(build(case, "float64", "cpu"), case, case.epochs))
    floors = floors_of(suite, entry, case, build)

    def seen(exponent: float, dtype: str) -> bool:
        rate = case.optimizer.learning_rate * (1 + 10.0**exponent)
        other = replace(case, optimizer=replace(case.optimizer, learning_rate=rate))
        run = gather(record(build(other, dtype, "cpu"), other, case.epochs))
        on_run()
        return judge(run, path, floors[dtype], params=_free(case, dtype)).verdict is Verdict.FAIL

    found = {dtype: bisect(partial(seen, dtype=dtype)) for dtype in DTYPES}
    return {"smallest": found, "cut": said(entry.case, case)}


def bisect(seen: Callable[[float], bool]) -> float | None:
    """The smallest power of ten that is seen, to within ``STEP`` of its exponent; None where even the largest is not.

    >>> round(bisect(lambda exponent: exponent > -3), 4)
    0.0011
    """
    low, high = DECADES
    if not seen(high):
        return None
    while high - low > STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return float(10.0**high)


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
