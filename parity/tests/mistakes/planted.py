"""Every mistake of the catalogue in the cheapest of the documents' cases, and the paths of what has it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from parity.judging.floors.floor import Floor, load
from parity.judging.verdict import Judgement, judge
from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.mistake import Mistake, Unplanted
from parity.running.keys import mark
from parity.spec import Case
from parity.suite import Entry, load_suite
from parity.trainer import Build, State, Trainer, record
from parity.trajectory import Trajectory, gather

SUITE = load_suite("impls")
CHEAPEST = (
    "iris-logistic",
    "iris-logistic-minibatch",
    "linear-minibatch",
    "linear-regression",
    "mlp-regression",
    "char-gru",
    "mnist-softmax",
    "mnist-mlp",
    "dogecoin-logistic",
    "gpt",
    "lstm",
    "resnet",
)
EPOCHS = 3
"""So many of the first epochs are followed, or up to the first snapshot."""
UNCLAMPED = ("log-without-clamp", "log-without-clamp-beside-its-gradient")
NOWHERE = {*UNCLAMPED}
"""No shipped case has a probability that rounds to 0 or 1."""


def reference(entry: Entry) -> Build:
    return entry.implementations["numpy"].build


@cache
def plantable() -> dict[str, tuple[Mistake, Entry]]:
    """Every mistake with the cheapest case that it can be planted in."""
    found: dict[str, tuple[Mistake, Entry]] = {}
    for name in CHEAPEST:
        entry = SUITE.entry(name)
        for hypothesis in mistakes_for(entry):
            if hypothesis.name not in found and planted(hypothesis, entry.case, reference(entry)) is not None:
                found[hypothesis.name] = hypothesis, entry
    return found


def planted(hypothesis: Mistake, case: Case, build: Build, dtype: str = "float64") -> Trainer | None:
    """The mistaken trainer, None where there is none, for whatever reason."""
    trainer = hypothesis.plant(build, case, dtype, "cpu")
    return None if isinstance(trainer, Unplanted) else trainer


EVERY = {hypothesis.name: hypothesis for entry in SUITE.entries.values() for hypothesis in mistakes_for(entry)}
PLANTED = sorted(set(EVERY) - NOWHERE)


# Each leaves the reference's path.


@cache
def path(case_name: str, whole: bool = False) -> tuple[Trajectory, Floor]:
    entry = SUITE.entry(case_name)
    assert SUITE.floors is not None
    kept = load(SUITE.floors / f"{entry.folder}.safetensors", mark(SUITE, entry, entry.case.epochs))
    assert kept is not None, f"the noise floor of {case_name} is of another case"
    run = follow(reference(entry)(entry.case, "float64", "cpu"), entry.case, whole)
    return run, kept["float64"].until(len(run.loss), len(run.epochs))


def follow(trainer: Trainer, case: Case, whole: bool = False) -> Trajectory:
    """The run's beginning, or the whole of it with its metrics."""
    epochs = case.epochs if whole else min(case.epochs, max(EPOCHS, case.every))
    return gather(record(trainer, case if whole else replace(case, metrics=()), epochs))


def judged(name: str) -> Judgement:
    hypothesis, entry = plantable()[name]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    run, floor = path(entry.case.name, EVERY[name].at_the_end)
    return judge(follow(trainer, entry.case, EVERY[name].at_the_end), run, floor)


# Each is seen in its own phase, from a state of which not all is zero.


def short(case: Case) -> Case:
    """The same on shorter portions and smaller batches, which what is wrong with a step does not depend on."""
    sizes = {"char-gru": {"size": 20}, "mnist-mlp": {"batch_size": 64}, "mnist-softmax": {"batch_size": 64}}
    return replace(case, schedule=replace(case.schedule, **sizes[case.name])) if case.name in sizes else case


def assert_same(a: State, b: State) -> None:
    assert a.step == b.step
    for mine, yours in ((a.params, b.params), (a.slots, b.slots)):
        assert set(mine) == set(yours)
        for name, value in mine.items():
            np.testing.assert_array_equal(value, yours[name])
