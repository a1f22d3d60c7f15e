"""The catalogue: each mistake says what it is, where it can be planted, and what it makes of a right step."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from impls.char_gru import mistakes
from parity.judging.witness import within_rounding
from parity.mistakes.catalogue import CATALOGUE, mistakes_for
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing
from parity.mistakes.planting import one_by_one
from parity.mistakes.stepwise import Stepwise
from parity.nn.layers import FUNCTIONS
from parity.recording.steps import Phase, step_of
from parity.spec import Adam, Case, CyclicRow, Sgd
from parity.tests import toy
from parity.tests.mistakes.planted import EVERY, PLANTED, SUITE, plantable, planted, reference
from parity.trainer import Trainer


def test_every_mistake_says_what_it_is_and_where_it_is_seen_to_be_made() -> None:
    assert len(CATALOGUE) >= 45
    for hypothesis in EVERY.values():
        assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", hypothesis.name)
        assert hypothesis.phase in set(Phase) - {Phase.UNRECORDED}
        assert re.fullmatch(r"[A-Za-z][^\n]+[.]", hypothesis.sentence)
        assert re.search(r"[\w.-]+/[\w.-]+#\d+|documentation|guide", hypothesis.reference)


def test_every_mistake_in_a_layer_says_what_it_is_and_where_it_is_seen_to_be_made() -> None:
    for mistake in REPLAYED:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mistake.name)
        assert re.fullmatch(r"[A-Za-z][^\n]+[.]", mistake.sentence)
        assert re.search(r"[\w.-]+/[\w.-]+#\d+|documentation", mistake.reference), mistake.name
        assert set(mistake.kinds) <= FUNCTIONS.keys()
    names = [*EVERY, *(mistake.name for mistake in REPLAYED)]
    assert len(set(names)) == len(names)


def test_no_two_mistakes_share_a_name() -> None:
    everyones = [hypothesis for entry in SUITE.entries.values() for hypothesis in mistakes_for(entry)]
    assert len({hypothesis.name for hypothesis in everyones}) == len(set(map(id, everyones)))


def test_a_model_whose_mistake_has_a_name_of_the_catalogue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "MISTAKES", (CATALOGUE[0],))
    with pytest.raises(ValueError, match=CATALOGUE[0].name):
        mistakes_for(SUITE.entry("char-gru"))


def test_every_mistake_can_be_planted_in_a_shipped_case() -> None:
    assert sorted(plantable()) == PLANTED


# That a mistake cannot be planted is one answer, that it would change nothing another.


NOTHING = {
    ("log-without-clamp", "iris-logistic"): "no probability of the first",
    ("not-reshuffled", "linear-regression"): "the batches of 3 epochs have the same rows",
    ("mean-for-sum", "linear-regression"): "the mean over one value is its sum",
    ("adam-epsilon-1e-7", "mlp-regression"): "the optimizer is the same",
    ("kernel-transposed", "iris-logistic"): "the parameters that the layers work with are the same",
    ("leaky-relu", "iris-logistic"): "prediction, loss and gradients are the same",
    ("weight-decay-through-the-gradient", "mnist-mlp"): "the decay goes through the gradient already",
}
CANNOT = {
    ("adam-epsilon-1e-7", "iris-logistic", "float64"): "iris-logistic gives no occasion for it",
    ("last-batch-dropped", "linear-regression", "float64"): "linear-regression gives no occasion for it",
    ("float32-layers", "iris-logistic", "float32"): "a float32 run keeps nothing in more than float32",
}


@pytest.mark.parametrize(("name", "case_name"), NOTHING)
def test_a_mistake_that_would_change_nothing_says_so(name: str, case_name: str) -> None:
    entry = SUITE.entry(case_name)
    case = entry.case
    if name == "mean-for-sum":  # one row an update
        case = replace(case, schedule=CyclicRow(), loss=replace(case.loss, reduction="sum"))
    if name == "adam-epsilon-1e-7":
        case = replace(case, optimizer=Adam(0.01, epsilon=1e-7))
    if name == "weight-decay-through-the-gradient":
        case = replace(case, optimizer=Sgd(0.01, momentum=0.9, weight_decay=0.1))
    found = EVERY[name].plant(reference(entry), case, "float64", "cpu")
    assert isinstance(found, ChangesNothing)
    assert found.why.startswith(NOTHING[name, case_name])


@pytest.mark.parametrize(("name", "case_name", "dtype"), CANNOT)
def test_a_mistake_that_cannot_be_planted_says_why(name: str, case_name: str, dtype: str) -> None:
    entry = SUITE.entry(case_name)
    assert EVERY[name].applies(entry.case) == (dtype == "float32")
    found = EVERY[name].plant(reference(entry), entry.case, dtype, "cpu")
    assert found == CannotBePlanted(CANNOT[name, case_name, dtype])


def test_what_no_framework_s_words_can_say_cannot_be_planted() -> None:
    """In NumPy's pieces it would change nothing: a model without ReLU. In those of a stranger it cannot be made."""
    entry = SUITE.entry("iris-logistic")

    def foreign(case: Case, dtype: str, device: str) -> Trainer:
        return Stepwise(reference(entry)(case, dtype, device), case, dtype)

    assert isinstance(EVERY["leaky-relu"].plant(reference(entry), entry.case, "float64", "cpu"), ChangesNothing)
    found = EVERY["leaky-relu"].plant(foreign, entry.case, "float64", "cpu")
    both = "it is made in the pieces of a NumPy model; it is made in the pieces of a PyTorch model"
    assert found == CannotBePlanted(both)


# A mistake's local function makes of a right step what its plant makes of a right implementation.


@pytest.mark.parametrize("name", [m.name for m in CATALOGUE if m.local and m.local.phase is Phase.LOSS])
def test_a_mistake_in_the_loss_is_its_own_local_function(name: str) -> None:
    mistake = EVERY[name]
    build, case = toy.build, replace(toy.MOMENTUM, optimizer=Sgd(0.1, momentum=0.9, weight_decay=0.1))
    if name == "mean-for-sum":
        case = replace(case, loss=replace(case.loss, reduction="sum"))
    if name == "mean-over-classes":
        entry = SUITE.entry("mnist-softmax")
        build, case = reference(entry), entry.case
    wrong, data = planted(mistake, case, build), case.data()
    assert wrong is not None
    assert mistake.local is not None
    rows = next(one_by_one(case.schedule, len(data.x)))
    right = build(case, "float64", "cpu")
    state = right.export()
    made, honest = (step_of(one, state, data.x[rows], data.y[rows], rows) for one in (wrong, right))
    # What the loss's gradient for the prediction is tells that it is a squared error.
    back = 2 * (honest.prediction - data.y[rows]) / honest.prediction.size if name == "half-squared-error" else None
    if back is not None:
        assert list(mistake.local.wrong(honest, None, case.optimizer)) == []
        layer = {"layer": honest.prediction}
        cubed = replace(honest, activations=layer, activation_gradients={"layer": back**3})
        assert list(mistake.local.wrong(cubed, None, case.optimizer)) == []
        honest = replace(honest, activations=layer, activation_gradients={"layer": back})
    got = {"loss": made.loss, **made.gradients}
    wanted = ({"loss": one.loss, **one.gradients} for one in mistake.local.wrong(honest, None, case.optimizer))
    assert any(all(check.agrees for check in within_rounding(got, one, "float64")) for one in wanted)


def test_gradients_that_are_not_zeroed_are_added_to_those_of_the_step_before() -> None:
    local = EVERY["gradient-not-zeroed"].local
    assert local is not None
    case, data = toy.MOMENTUM, toy.data()
    trainer, order = toy.build(case, "float64", "cpu"), one_by_one(case.schedule, toy.ROWS)
    steps = [
        step_of(trainer, trainer.export(), data.x[rows], data.y[rows], rows) for rows in (next(order), next(order))
    ]
    (wrong,) = local.wrong(steps[1], steps[0], case.optimizer)
    for name, g in wrong.gradients.items():
        np.testing.assert_array_equal(g, steps[0].gradients[name] + steps[1].gradients[name])
    assert float(wrong.loss) == float(steps[1].loss)
    assert list(local.wrong(steps[0], None, case.optimizer)) == []


def test_a_penalty_that_no_optimizer_has_is_in_no_loss() -> None:
    mistake = EVERY["weight-decay-in-the-reported-loss"].local
    assert mistake is not None
    case, data = toy.MOMENTUM, toy.data()
    state = toy.build(case, "float64", "cpu").export()
    step = step_of(toy.build(case, "float64", "cpu"), state, data.x, data.y, np.arange(toy.ROWS))
    assert len(mistake.wrong(step, None, Sgd(0.1, weight_decay=0.1))) == 4
    for optimizer in (Sgd(0.1), None, Adam(0.1)):
        assert list(mistake.wrong(step, None, optimizer)) == []
