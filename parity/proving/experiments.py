"""The experiments of ``parity prove``, as a worker does them: mistakes planted, right runs left alone, small changes.

Cases are cut to their first epochs, texts to shorter portions; a beginning has the beginning of the noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from parity.dtypes import DTYPES
from parity.explaining.explain import explain
from parity.explaining.replay import Replays
from parity.judging.floors.floor import Floor, load
from parity.judging.floors.noise import measure, stirred
from parity.judging.policy import asserts_parameters
from parity.judging.published import Figure, figures
from parity.judging.verdict import Judgement, Verdict, judge
from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Mistake, Plant, Unplanted
from parity.mistakes.planting import batches
from parity.running.keys import mark
from parity.schedules import altered
from parity.spec import Case
from parity.suite import Entry, Implementation, Suite
from parity.tolerance import FACTOR, RUNS
from parity.trainer import Build, Trainer, record
from parity.trajectory import Trajectory, gather
from parity.typing import Array

UPDATES, WORK = 120, 1e8
"""A case is cut to so many updates, or so many products of rows and parameters, but never below two snapshots."""
PORTION, PORTIONS = 40, 20
"""A text is cut to so many portions of so many characters."""
SECONDS = 600.0
"""No replay begins so long after a run's explanation has begun."""
DECADES = (-17.0, 0.0)
STEP = 0.1
"""Between which powers of ten, and how finely, the smallest visible change is looked for."""
NO_ONE = "unexplained"
CLEAN_UPDATES, CLEAN_WORK = 40, 1e7
"""How far a right run is followed."""


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


def cut(case: Case, updates: int = UPDATES, work: float = WORK) -> Case:
    """The case's first epochs, without metrics: see ``UPDATES``."""
    case = replace(case, metrics=())
    if hasattr(case.schedule, "size"):
        case, updates = replace(case, schedule=altered(case.schedule, size=PORTION)), PORTIONS
    wanted = min(updates // batches(case), int(work / work_of(case)))
    whole = max(2, wanted // case.every) * case.every
    return replace(case, epochs=min(case.epochs, whole))


def work_of(case: Case) -> float:
    """Rows times parameters of an epoch; each place of a row counts as a row: a step of a sequence, a pixel."""
    data = case.data()
    places = max(map(_places, (data.x, data.y)))
    rows = places * sum(map(len, next(case.schedule.epochs(len(data.x)))))
    return float(rows * sum(p.size for p in case.initial().values()))


def _places(x: Array) -> int:
    return x[:1].size if x.dtype.kind in "iu" else math.prod(x.shape[1:-1])


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
    hypotheses = mistakes_for(entry)
    replays = Replays(reference.build, case, hypotheses)
    found: list[Planted] = []
    unseen: list[str] = []
    unplanted: list[tuple[str, Unplanted]] = []
    for number, hypothesis in enumerate(hypothesis for hypothesis in hypotheses if hypothesis.name in names):
        for dtype in DTYPES[::-1] if number % 3 == 0 or not alternate else DTYPES[-1:]:
            if hypothesis.figures_only:
                if dtype == "float64":
                    found.append(_figures_plant(entry, implementation, hypothesis, hypotheses, floors["float64"]))
            elif isinstance(visible := _visible(hypothesis, replays, case, dtype, floors), Unplanted):
                unplanted.append((hypothesis.name, visible))
            elif not visible:
                unseen.append(hypothesis.name)
            else:
                plant = partial(hypothesis.plant, implementation.build, case, dtype, "cpu")
                with np.errstate(all="ignore"):
                    one = look(replace(entry, case=case), implementation.label, reference, hypothesis, plant, dtype,
                               floors[dtype], replays)  # fmt: skip
                if isinstance(one, Planted):
                    found.append(one)
                else:
                    unplanted.append((hypothesis.name, one))
            on_plant()
    return {
        "plants": [vars(plant) for plant in found],
        "unseen": unseen,
        "impossible": [name for name, why in unplanted if isinstance(why, CannotBePlanted)],
        "without_effect": [name for name, why in unplanted if isinstance(why, ChangesNothing)],
        "cut": said(entry.case, case),
    }


def look(
    entry: Entry,
    label: str,
    reference: Implementation,
    hypothesis: Mistake,
    plant: Callable[[], Trainer | Unplanted],
    dtype: str,
    floor: Floor,
    replays: Replays,
) -> Planted | Unplanted:
    """Record what ``plant`` gives, judge it and explain it; or why there is nothing to record."""
    case, trainer = entry.case, plant()
    if isinstance(trainer, Unplanted):
        return trainer
    run = gather(record(trainer, case, case.epochs))
    judgement = judge(run, replays.right(case.epochs), floor, params=asserts_parameters(case, dtype))
    if judgement.verdict is not Verdict.FAIL:
        return _planted(hypothesis, case, label, dtype, judgement, "", (), False)
    trainer = plant()
    assert not isinstance(trainer, Unplanted)
    assert judgement.epoch is not None
    explanation = explain(
        entry,
        trainer,
        reference,
        run,
        failed=judgement.epoch,
        dtype=dtype,
        floor=floor,
        replays=replays,
        seconds=SECONDS,
    ).diagnosis
    found = explanation.explanations
    named = found[0].names if found else ()
    tied = named != (hypothesis.name,) and any(replay.names == (hypothesis.name,) for replay in found)
    return _planted(hypothesis, case, label, dtype, judgement, explanation.location.phase, named, tied)


def _planted(
    hypothesis: Mistake,
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


def _visible(
    hypothesis: Mistake, replays: Replays, case: Case, dtype: str, floors: Mapping[str, Floor]
) -> bool | Unplanted:
    """Whether the mistake's own path, in float64, leaves the tolerance of the dtype by more than a noise floor.

    Or why a run of the dtype cannot have it.
    """
    if dtype == "float64":
        return True
    if (why := replays.unplanted((hypothesis.name,), dtype)) is not None:
        return why
    right, wrong = replays.right(case.epochs), replays.path((hypothesis.name,), case.epochs)
    if isinstance(wrong, Unplanted):
        return wrong
    with np.errstate(all="ignore"):
        judgement = judge(wrong, right, floors[dtype], params=asserts_parameters(case, dtype))
    return judgement.ratio is None or not judgement.ratio <= 1 + 1 / FACTOR


def floors_of(suite: Suite, entry: Entry, case: Case, build: Build) -> dict[str, Floor]:
    """The noise floors of a cut case: the beginning of those kept with the suite, where they are of the same run."""
    whole = replace(entry.case, metrics=())
    length = whole.floor_length(whole.epochs)
    kept = None
    if suite.floors is not None and case.schedule == whole.schedule and case.epochs <= length:
        kept = load(suite.floors / f"{entry.folder}.safetensors", mark(suite, entry, length))
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
    entry: Entry, implementation: Implementation, hypothesis: Mistake, known: Sequence[Mistake], floor: Floor
) -> Planted:
    """A mistake in the printed figures alone: planted in the whole case, seen where its figures miss the published.

    Which it is, the figures say by themselves: the mistake whose replay prints the same.
    """
    case = entry.case

    def printed(plant: Plant) -> tuple[Trajectory, tuple[Figure, ...]]:
        trainer = plant(implementation.build, case, "float64", "cpu")
        assert not isinstance(trainer, Unplanted)
        run = gather(record(trainer, case, case.epochs))
        return run, tuple(figures(case, run, "float64", None))

    right, honest = printed(lambda build, *rest: build(*rest))
    wrong, mistaken = printed(hypothesis.plant)
    missed = [b.epoch for a, b in zip(honest, mistaken, strict=True) if a.ours != b.ours and b.verdict != a.verdict]
    others = [other for other in known if other.figures_only]
    others = [
        other
        for other in others
        if not isinstance(other.plant(implementation.build, case, "float64", "cpu"), Unplanted)
    ]
    same = [other.name for other in others if [f.ours for f in printed(other.plant)[1]] == [f.ours for f in mistaken]]
    trainer = hypothesis.plant(implementation.build, case, "float64", "cpu")
    assert not isinstance(trainer, Unplanted)
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
            value = metric.score(trainer.predict(x)[None], y)[0]
            if value == wrong.metrics[metric.name][place] != right.metrics[metric.name][place]:
                return "prediction"
    return "state"


def clean(suite: Suite, entry: Entry, implementation: Implementation, seeds: int, on_run: Callable[[], None]) -> Any:
    """Right runs of one implementation with other seeds and weights, each judged by a noise floor of its own."""
    reference = suite.implementation(entry, suite.reference).build
    found = []
    for seed in range(seeds):
        case = cut(entry.case, CLEAN_UPDATES).seeded(seed)
        path = gather(record(reference(case, "float64", "cpu"), case, case.epochs))
        floors = measure(reference, case, case.epochs)
        for dtype in DTYPES:
            if implementation.label == suite.reference:
                # The same sums in another order, which the floor has not seen: its own seeds end before RUNS.
                trainer, evaluated = stirred(implementation.build, case, dtype, RUNS + 1 + seed)
            else:
                trainer, evaluated = implementation.build(case, dtype, "cpu"), case
            run = gather(record(trainer, evaluated, case.epochs))
            judgement = judge(run, path, floors[dtype], params=asserts_parameters(case, dtype))
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
        return judge(run, path, floors[dtype], params=asserts_parameters(case, dtype)).verdict is Verdict.FAIL

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
