"""Each mistake leaves the reference's path, and is seen in its own phase."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from parity.explaining.diagnose import diagnose
from parity.explaining.replay import Replays
from parity.explaining.walk import locate
from parity.judging.floors.noise import measure
from parity.judging.published import figures
from parity.judging.verdict import Verdict, judge
from parity.judging.witness import Expected, Witness
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.catalogue.updates import decoupled_decay
from parity.mistakes.stepwise import Stepwise
from parity.recording.steps import ASKED, Phase
from parity.spec import Case
from parity.suite import Entry
from parity.tests import toy
from parity.tests.mistakes.planted import (
    EPOCHS,
    EVERY,
    PLANTED,
    SUITE,
    UNCLAMPED,
    follow,
    judged,
    path,
    plantable,
    planted,
    reference,
    short,
)
from parity.trainer import State, Trainer


def some(names: Iterable[str]) -> list[Any]:
    """All of them as parameters, every sixth in every run of the tests."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (k % 6 != 1)) for k, name in enumerate(names)]


@pytest.mark.parametrize("name", some(name for name in PLANTED if not EVERY[name].figures_only))
def test_a_mistake_leaves_the_path(name: str) -> None:
    assert judged(name).verdict is Verdict.FAIL


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].figures_only])
def test_a_mistake_in_the_figures_alone_is_seen_by_the_published_ones(name: str) -> None:
    assert judged(name).verdict is Verdict.PASS
    hypothesis, entry = plantable()[name]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    right, floor = path(entry.case.name, whole=True)
    wrong = follow(trainer, entry.case, whole=True)
    assert {figure.verdict for figure in figures(entry.case, right, "float64", floor)} == {Verdict.PASS}
    assert Verdict.FAIL in {figure.verdict for figure in figures(entry.case, wrong, "float64", floor)}


def test_the_published_costs_are_no_means() -> None:
    hypothesis, entry = plantable()["average-cost-a-mean"]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    found = figures(entry.case, follow(trainer, entry.case, whole=True), "float64", None)
    wrong = {figure.quantity for figure in found if figure.verdict is Verdict.FAIL}
    assert wrong == {"AvgCost"}


@pytest.mark.parametrize("name", UNCLAMPED)
def test_logarithms_without_a_clamp_end_in_nan_where_a_probability_is_certain(name: str) -> None:
    entry = SUITE.entry("iris-logistic")
    steep = {"dense/kernel": np.array([[-300.0], [300.0]]), "dense/bias": np.zeros(1)}
    case = replace(entry.case, initial=lambda: steep)
    mistake = EVERY[name]
    assert planted(mistake, entry.case, reference(entry)) is None
    trainer = planted(mistake, case, reference(entry))
    assert trainer is not None
    honest = follow(reference(entry)(case, "float64", "cpu"), case)
    assert np.isfinite(honest.loss).all()
    run = follow(trainer, case)
    assert not np.isfinite(run.loss).all()
    for parameter, values in run.params.items():
        assert np.array_equal(values[:], honest.params[parameter][:]) == name.endswith("beside-its-gradient")


DECAYED = replace(toy.MOMENTUM, optimizer=replace(toy.MOMENTUM.optimizer, weight_decay=0.1))


def decoupled(case: Case, dtype: str, device: str) -> Trainer:
    """A toy whose decay is beside its momentum, as a user's own may be."""
    return Stepwise(toy.build(case, dtype, device), case, dtype, rule=decoupled_decay)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decay_through_the_gradient_is_a_mistake_where_decay_is_decoupled(dtype: str) -> None:
    mistake = EVERY["weight-decay-through-the-gradient"]
    assert planted(mistake, DECAYED, toy.build, dtype) is None
    assert planted(mistake, toy.MOMENTUM, decoupled, dtype) is None
    trainer = planted(mistake, DECAYED, decoupled, dtype)
    assert trainer is not None
    run, floor = follow(trainer, DECAYED), measure(decoupled, DECAYED, EPOCHS)[dtype]
    replays = Replays(decoupled, DECAYED, CATALOGUE)
    assert judge(run, replays.right(EPOCHS), floor).verdict is Verdict.FAIL
    trainer.load(decoupled(DECAYED, dtype, "cpu").export())
    place = locate(trainer, Witness(decoupled, DECAYED, dtype), decoupled(DECAYED, "float64", "cpu"), 0, 1)
    assert place.phase == mistake.phase
    # In float32 another that makes the update by itself is tied with it.
    assert (mistake.name,) in [replay.names for replay in diagnose(run, place, replays, floor, dtype).explanations]


class Remembering(Witness):
    """Every mistake meets the reference in the same states: what it says there is asked once."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(reference(entry), short(entry.case), "float64")
        self.known: dict[tuple[int, bytes], dict[Phase, Expected]] = {}

    def step(self, state: State, rows: np.ndarray, asked: Collection[Phase] = ASKED) -> dict[Phase, Expected]:
        key = state.step, rows.tobytes()
        if key not in self.known:
            self.known[key] = super().step(state, rows)
        return self.known[key]


@cache
def witness(case_name: str) -> Witness:
    return Remembering(SUITE.entry(case_name))


EARLY = {"warm-up-missing"}
"""What the first epoch alone shows: after it the learning rate is the right one."""


@pytest.mark.parametrize("name", some(name for name in PLANTED if not EVERY[name].figures_only))
def test_a_mistake_is_seen_in_its_phase(name: str) -> None:
    hypothesis, entry = plantable()[name]
    case = short(entry.case)
    trainer = planted(hypothesis, case, reference(entry))
    assert trainer is not None
    start = case.epochs - 1 if EVERY[name].at_the_end else 0 if name in EARLY else 1
    found = locate(trainer, witness(case.name), reference(entry)(case, "float64", "cpu"), start, start + 2)
    assert found.phase == hypothesis.phase, (found.epoch, found.batch, found.check)
