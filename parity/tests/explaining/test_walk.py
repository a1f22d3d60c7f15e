"""Where two runs part: one planted fault for each phase, and what the difference looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.dtypes import unit
from parity.explaining.location import Location
from parity.explaining.pattern import pattern
from parity.explaining.walk import locate
from parity.judging.witness import Check, Expected, Witness, held
from parity.mistakes.planting import in_order
from parity.mistakes.stepwise import Stepwise
from parity.recording.steps import ASKED, Phase
from parity.spec import Case, Dataset
from parity.suite import load_suite
from parity.tests import toy
from parity.tolerance import RUNS
from parity.trainer import State, Trainer, verbs
from parity.typing import Array, Params

CASE = toy.MOMENTUM


def placed(trainer: Trainer, case: Case = CASE, start: int = 0, until: int = 2, dtype: str = "float64") -> Location:
    return locate(trainer, Witness(toy.build, case, dtype), toy.build(case, "float64", "cpu"), start, until)


def mistaken(**parts: Any) -> Trainer:
    return Stepwise(toy.build(CASE, "float64", "cpu"), CASE, "float64", **parts)


def scaled(factor: float) -> Callable[..., tuple[float, Params]]:
    def evaluate(gradients: Any, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        return loss, {name: g * factor for name, g in found.items()}

    return evaluate


def louder(gradients: Any, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    loss, found = gradients(x, y)
    return loss * 2, found


def faster(rule: Any, name: str, p: Array, g: Array, state: State) -> Array:
    slot = f"momentum/{name}"
    b = state.slots[slot] = rule.momentum * state.slots[slot] + g
    return p - 3 * rule.learning_rate * b


def remembered(rule: Any, name: str, p: Array, g: Array, state: State) -> Array:
    """What one step leaves the next: a slot that no shared state has."""
    slot = f"momentum/{name}"
    left = state.slots.get(f"left/{name}", 0)
    state.slots[f"left/{name}"] = g
    b = state.slots[slot] = rule.momentum * state.slots[slot] + g + left
    return p - rule.learning_rate * b


def backwards(schedule: Any, rows: int) -> Any:
    return (next(schedule.epochs(rows))[2 - step % 3] for step in range(100))


FAULTS = {
    "prediction": toy.build_transposed(CASE, "float64", "cpu"),
    "loss": mistaken(evaluate=louder),
    "gradient": mistaken(evaluate=scaled(1 + 1e-9)),
    "batch": in_order(backwards)(toy.build, CASE, "float64", "cpu"),
    "update": mistaken(rule=faster),
    "state": mistaken(rule=remembered),
}


@pytest.mark.parametrize("phase", FAULTS)
def test_a_fault_is_found_in_its_phase(phase: str) -> None:
    found = placed(FAULTS[phase])
    assert found.phase == phase
    assert (found.epoch, found.batch) == (1, 2 if phase == "state" else 0)
    before = ASKED[: ASKED.index(phase)] if phase in ASKED else ASKED
    assert list(found.agreed) == list(before)
    assert max(found.agreed.values(), default=0) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_implementation_does_not_part(dtype: str) -> None:
    found = placed(toy.build(CASE, dtype, "cpu"), dtype=dtype)
    assert (found.phase, found.check) == ("state", None)
    assert max(found.agreed.values()) <= 1


def test_the_walk_begins_where_it_is_told() -> None:
    def late(rule: Any, name: str, p: Array, g: Array, state: State) -> Array:
        step = faster if state.step > 10 else where_it_is_right
        return step(rule, name, p, g, state)

    def where_it_is_right(rule: Any, name: str, p: Array, g: Array, state: State) -> Array:
        b = state.slots[f"momentum/{name}"] = rule.momentum * state.slots[f"momentum/{name}"] + g
        return p - rule.learning_rate * b

    found = placed(mistaken(rule=late), start=2, until=5)
    assert (found.phase, found.epoch, found.batch) == ("update", 4, 1)


def test_what_zeros_hide_is_seen_after_an_update() -> None:
    nought = {name: np.zeros_like(p) for name, p in CASE.initial().items()}
    case = replace(CASE, initial=lambda: nought)
    found = placed(toy.build_transposed(case, "float64", "cpu"), case)
    assert found.phase == "prediction"
    assert "zero" in found.note


# An epoch in one call, whose steps agree one by one.


def louder_together(dtype: str, units: float) -> Trainer:
    """The loss of the second of several batches in one call is off by so many roundings."""
    trainer = toy.build(CASE, dtype, "cpu")

    def train(segments: Any, inputs: Any = ()) -> Any:
        trained = trainer.train(segments, inputs)
        trained.losses[:, 1:2] *= trained.losses.dtype.type(1 + units * unit(dtype))
        return trained

    return replace(verbs(trainer), train=train)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loss_in_an_epoch_is_held_to_the_noise_floor_of_that_epoch(dtype: str) -> None:
    """1024 roundings were within a tolerance of 2048 that nobody had measured."""
    found = placed(louder_together(dtype, 1024), dtype=dtype)
    assert (found.phase, found.epoch, found.batch) == ("state", 1, 1)
    assert "together, in one call, they do not" in found.note
    assert placed(louder_together(dtype, 1), dtype=dtype).check is None


def test_a_loss_that_cancels_is_no_mistake_of_an_epoch() -> None:
    """Where the model is right already, its loss is rounding alone, and no multiple of itself is a tolerance."""
    right = toy.initial()
    x = toy.data().x
    fitted = Dataset(x, x @ right["dense/kernel"] + right["dense/bias"])
    case = replace(CASE, data=lambda: fitted)
    found = placed(toy.build(case, "float32", "cpu"), case, dtype="float32")
    assert found.check is None, found.place


def test_the_reference_is_stirred_once_for_each_update_and_once_for_each_epoch() -> None:
    evaluated: list[str] = []

    def counted(case: Case, dtype: str, device: str) -> Trainer:
        trainer = toy.build(case, dtype, device)

        def gradients(x: Array, y: Array) -> tuple[float, Params]:
            evaluated.append("gradients")
            return trainer.gradients(x, y)

        def train(segments: Any, inputs: Any = ()) -> Any:
            evaluated.append("an update" if len(segments[0]) == 1 else "an epoch")
            return trainer.train(segments, inputs)

        return replace(verbs(trainer), gradients=gradients, train=train) if dtype == "float32" else trainer

    witness = Witness(counted, CASE, "float32")
    locate(toy.build(CASE, "float32", "cpu"), witness, toy.build(CASE, "float64", "cpu"), 0, 1)
    # Three updates are an epoch, which a stirred trainer makes one by one.
    assert evaluated.count("gradients") == 3 * RUNS
    assert evaluated.count("an update") == (3 + 3) * RUNS
    assert "an epoch" not in evaluated


# What the difference looks like.


def location(got: Array, wanted: Array, name: str = "dense/kernel", others: tuple[str, ...] = ()) -> Location:
    checks = [
        Check(tensor=each, share=1e9, floors=1e10, worst=None, got=got, wanted=wanted) for each in (name, *others)
    ]
    params = {name: np.linspace(1, 2, got.size).reshape(got.shape) ** 3}
    return Location(phase=Phase.GRADIENT, epoch=1, batch=0, parts=tuple(checks), params=params)


VALUES = np.random.RandomState(0).normal(size=(3, 3))
GATES = np.random.RandomState(1).normal(size=(2, 6))
ONE_GATE = GATES + np.array([0, 0, 1, 2, 0, 0])


@pytest.mark.parametrize(
    ("got", "wanted", "words"),
    [
        (VALUES * 0.25, VALUES, "0.25 times the reference, everywhere"),
        (VALUES * (1 + 1e-6), VALUES, "(1 + 1e-06) times the reference, everywhere"),
        (VALUES * 0, VALUES, "zero, everywhere"),
        (VALUES.T, VALUES, "the reference transposed"),
        (VALUES[[2, 0, 1]], VALUES, "the reference's values in another order"),
        (np.roll(GATES, 2, 1), GATES, "the reference's values, along axis 1 in the order 4:6, 0:4"),
        (GATES[:, [5, 4, 3, 2, 1, 0]], GATES, "the reference's values in another order"),
        (np.where(VALUES > 1, np.nan, VALUES), VALUES, "not finite"),
        (np.tile(VALUES[:1], (3, 1)), VALUES, "the same value all along axis 0, as if broadcast"),
        (np.tile(VALUES[:, :1], (1, 3)), VALUES, "the same value all along axis 1, as if broadcast"),
        (ONE_GATE, GATES, "only 2:4 along axis 1 of dense/kernel"),
        (ONE_GATE.T, GATES.T, "only 2:4 along axis 0 of dense/kernel"),
    ],
)
def test_a_pattern_is_put_in_words(got: Array, wanted: Array, words: str) -> None:
    assert words in pattern(location(got, wanted))


@pytest.mark.parametrize("tensor", ["gru/kernel", "momentum/gru/kernel"])
def test_blocks_have_the_names_that_the_case_gives_them(tensor: str) -> None:
    blocks = {"gru/kernel": ("r", "z", "n")}
    turned = location(np.roll(GATES, 2, 1), GATES, tensor)
    assert pattern(turned, blocks) == "the reference's blocks r, z, n in the order n, r, z"
    assert pattern(location(ONE_GATE, GATES, tensor), blocks) == f"only the block z of {tensor}"
    two = GATES + np.array([0, 0, 1, 2, 0, 3])
    assert "block" not in pattern(location(two, GATES, tensor), blocks)
    assert pattern(turned, {"dense/kernel": ("a", "b", "c")}).endswith("in the order 4:6, 0:4")


def test_the_blocks_of_a_case_are_those_of_its_own_tensors() -> None:
    for entry in load_suite("impls").entries.values():
        initial = entry.case.initial() if entry.case.blocks else {}
        for name, names in entry.case.blocks.items():
            assert initial[name].shape[-1] % len(names) == 0


def test_a_place_is_put_in_words() -> None:
    assert location(VALUES, VALUES + 1).place == "epoch 1, batch 0, gradient of dense/kernel"
    loss = location(VALUES, VALUES + 1, "loss")
    assert replace(loss, phase=Phase.LOSS).place == "epoch 1, batch 0, loss"
    assert replace(loss, phase=Phase.BATCH).place == "epoch 1, batch 0, batch"
    assert replace(loss, phase=Phase.UNRECORDED, batch=2).place == "epoch 1, batch 2, loss"
    assert replace(location(VALUES, VALUES), phase=Phase.UNRECORDED).place == "epoch 1, dense/kernel"
    assert replace(loss, phase=Phase.STATE, parts=()).place == "epoch 1, batch 0, state"


def test_a_share_of_the_parameter_is_recognized() -> None:
    place = location(VALUES, VALUES + 1)
    (value,) = place.params.values()
    check = replace(place.parts[0], got=VALUES + 0.5 * value, wanted=VALUES)
    assert pattern(replace(place, parts=(check,))) == "off by 0.5 times the parameter, everywhere in dense/kernel"


def test_only_biases_part() -> None:
    generator = np.random.RandomState(2)
    found = location(generator.normal(size=3), generator.normal(size=3), "dense/bias", ("hidden/bias",))
    assert pattern(found) == "only biases"


@pytest.mark.parametrize("size", [1e-7, 1e-8, 1e-10])
def test_values_slightly_off_in_their_places_are_no_pattern(size: float) -> None:
    values = VALUES * (1 + size * np.random.RandomState(4).normal(size=VALUES.shape))
    assert pattern(location(values, VALUES)) == ""


def test_a_few_values_are_counted() -> None:
    values = np.arange(1, 401.0).reshape(20, 20)
    other = values.copy()
    other[3, 4] += 1
    assert pattern(location(other, values)) == "1 of the 400 values of dense/kernel"


def test_integers_are_held_as_the_numbers_they_are() -> None:
    expected = Expected({"prediction": np.array([1, 2])}, {"prediction": 0.0})
    (same,), (other,) = (held({"prediction": np.array([1, last])}, expected) for last in (2, 3))
    assert same.agrees
    assert not other.agrees


def test_what_looks_like_nothing_is_not_put_in_words() -> None:
    generator = np.random.RandomState(3)
    assert pattern(location(generator.normal(size=(3, 4)), generator.normal(size=(3, 4)))) == ""
