"""A mistaken implementation is a trainer like any other, and the gradients of a mistaken loss are its own."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from impls.char_gru import char_gru_numpy, mistakes
from parity.judging.verdict import Verdict, judge
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.catalogue.precision import half_product, tensor_float
from parity.mistakes.planting import off_initial, one_by_one
from parity.mistakes.stepwise import Stepwise
from parity.spec import Case
from parity.tests.mistakes.planted import (
    EVERY,
    PLANTED,
    SUITE,
    assert_same,
    follow,
    path,
    plantable,
    planted,
    reference,
    short,
)
from parity.tests.trainers.test_reference import LONG, ROWS, assert_derivative
from parity.trainer import Trainer, verbs
from parity.typing import Params


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistaken_trainer_keeps_the_contract(name: str) -> None:
    hypothesis, entry = plantable()[name]
    case = short(entry.case)
    # What a mistake adds must not widen a float32 run; some exist in float64 alone.
    dtype = "float64" if planted(hypothesis, case, reference(entry), "float32") is None else "float32"
    trainer, other = (planted(hypothesis, case, reference(entry), dtype) for _ in range(2))
    assert trainer is not None
    assert other is not None
    data = case.data()
    order = case.schedule.epochs(len(data.x))
    first, second = next(order)[:3], next(order)[:3]
    trainer.train([first])
    state = trainer.export()
    x, y = data.x[first[0]], data.y[first[0]]
    trainer.load(state)
    prediction, (loss, gradients) = trainer.predict(x), trainer.gradients(x, y)
    assert prediction.dtype == dtype
    assert np.ndim(loss) == 0
    assert set(gradients) == set(case.trained(case.initial()))
    assert_same(trainer.export(), state)
    losses, params, _ = trainer.train([second])
    assert losses.shape == (1, len(second))
    for array in (losses, *state.slots.values(), *gradients.values(), *trainer.export().params.values()):
        assert array.dtype == dtype
    other.load(state)
    again = other.train([second])
    np.testing.assert_array_equal(losses, again.losses)
    for parameter, values in params.items():
        np.testing.assert_array_equal(values, again.params[parameter])
    assert_same(trainer.export(), other.export())
    trainer.export().params[parameter][...] = 7
    assert_same(trainer.export(), other.export())


@pytest.mark.parametrize("case_name", ["iris-logistic-minibatch", "mlp-regression", "char-gru"])
def test_taken_apart_without_a_mistake_a_run_keeps_its_path(case_name: str) -> None:
    entry = SUITE.entry(case_name)
    run, floor = path(case_name)
    apart = Stepwise(reference(entry)(entry.case, "float64", "cpu"), entry.case, "float64")
    assert judge(follow(apart, entry.case), run, floor).verdict is Verdict.PASS


# The mistake is the one that its name says and no other: a mistaken loss has the derivatives that belong to it.

INCONSISTENT = {
    "float32-layers": "its values are rounded",
    "half-precision-accumulation": "its values are rounded",
    "tf32-products": "its values are rounded",
    "tanh-for-sigmoid": "its loss is the logarithm of negative numbers",
    "weight-decay-in-the-reported-loss": "the penalty is in the loss alone",
}
CONSISTENT = [name for name in PLANTED if EVERY[name].phase in ("prediction", "loss") and name not in INCONSISTENT]


@pytest.mark.parametrize("name", [name for name in CONSISTENT if not EVERY[name].figures_only])
def test_a_mistaken_model_has_its_own_gradients(name: str) -> None:
    hypothesis, cheapest = plantable()[name]
    # In a model with several layers each parameter must get its own gradient.
    others = ("mlp-regression", "mnist-mlp") if hypothesis in CATALOGUE else ()
    for entry in {cheapest, *map(SUITE.entry, others)}:
        trainer = planted(hypothesis, entry.case, reference(entry), "longdouble")
        assert trainer is not None or entry is not cheapest
        if trainer is not None:
            data, here = entry.case.data(), off_initial(entry.case)
            x, y = data.x[:ROWS], data.y[:ROWS]
            check_gradients(partial(said, trainer, x, y), here, name)


def said(trainer: Trainer, x: np.ndarray, y: np.ndarray, params: Params) -> tuple[float, Params]:
    trainer.load(replace(trainer.export(), params=params))
    return trainer.gradients(x, y)


def check_gradients(ask: Any, here: Params, name: str) -> None:
    here = {parameter: value.astype(LONG) for parameter, value in here.items()}
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    loss, gradients = ask(here)
    # Of buffers nothing has a gradient.
    trained = {p: value for p, value in here.items() if p in gradients}
    directions = {p: generator.choice([-1.0, 1.0], value.shape) / np.sqrt(value.size) for p, value in trained.items()}
    scale = np.sqrt(sum((g * g).sum() for g in gradients.values()))

    def moved(h: float) -> np.longdouble:
        return LONG(ask(here | {p: value + LONG(h) * directions[p] for p, value in trained.items()})[0])

    along = sum((gradients[p] * directions[p]).sum() for p in trained)
    assert_derivative(along, moved, abs(LONG(loss)) + ROWS**2, scale)


def test_the_gru_that_mistakes_are_made_in_is_the_model_s() -> None:
    entry = SUITE.entry("char-gru")
    trainer = char_gru_numpy.build(entry.case, "float64", "cpu")
    x = entry.case.data().x[:ROWS]
    logits, _ = mistakes.forward(trainer.state.params, x)
    np.testing.assert_allclose(logits, trainer.predict(x), rtol=0, atol=64 * np.finfo(np.float64).eps)


def test_a_learned_initial_state_has_its_own_gradient() -> None:
    hypothesis, entry = plantable()["gru-initial-state-learned"]
    trainer = planted(hypothesis, entry.case, reference(entry), "longdouble")
    assert trainer is not None
    data = entry.case.data()
    check_gradients(partial(said, trainer, data.x[:ROWS], data.y[:ROWS]), off_initial(entry.case), hypothesis.name)


def test_tf32_keeps_ten_bits() -> None:
    assert tensor_float(np.array([1 + 2**-10, 1 + 2**-12, -3 - 2**-12, 0.0])).tolist() == [1 + 2**-10, 1, -3, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_half_precision_sum_stands_still(dtype: str) -> None:
    ones = np.concatenate([np.full(2, 2048), np.ones(1000)]).astype(dtype)[None]
    # From 2048 on halves are 2 apart, from 4096 on 4: what a block adds is rounded to that.
    total = half_product(ones, np.ones((1002, 1), dtype))
    assert (total.dtype, total.shape) == (dtype, (1, 1))
    assert total[0, 0] % 4 == 0
    np.testing.assert_array_equal(half_product(ones[:, 2:3], np.full((1, 1), 1 + 2**-12, dtype)), [[1]])


@pytest.mark.parametrize("seed", [None, 124])
def test_a_batch_order_that_is_the_same_is_no_mistake(seed: int | None) -> None:
    entry = SUITE.entry("iris-logistic-minibatch")
    schedule = entry.case.schedule if seed is None else replace(entry.case.schedule, seed=seed)
    case = replace(entry.case, schedule=schedule)
    assert planted(EVERY["not-reshuffled"], case, reference(entry)) is None
    assert planted(EVERY["epoch-off-by-one"], case, reference(entry)) is None
    rows: list[list[int]] = []

    def noting(case: Case, dtype: str, device: str) -> Trainer:
        trainer = reference(entry)(case, dtype, device)

        def train(segments: Any, inputs: Any = ()) -> Any:
            rows.extend(batch.tolist() for segment in segments for batch in segment)
            return trainer.train(segments, inputs)

        return replace(verbs(trainer), train=train)

    late = planted(EVERY["one-batch-late"], case, noting)
    assert late is not None
    order = one_by_one(schedule, 75)
    late.train([tuple(next(order) for _ in range(3))])
    order = one_by_one(schedule, 75)
    first, second = next(order).tolist(), next(order).tolist()
    assert rows == [first, first, second]
