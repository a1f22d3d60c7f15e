"""The NumPy reference does not certify itself: finite differences, a longdouble run, the papers' own formulas.

Central differences (f(p + h) - f(p - h)) / 2h in longdouble are off by h²/6 · f''' and by the rounding of f, some
units of ε · (Σ |terms of f|) / h. The first is measured, not assumed: the same difference with twice the step is
off by four times as much, so that a third of their distance is the error of the smaller. The step h = ε^(1/3)
makes both about ε^(2/3), 2e-13 where longdouble has 64 bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import get_args, get_type_hints

import numpy as np
import pytest

from parity.judging.floors.floor import load
from parity.judging.floors.noise import checked, measure
from parity.judging.verdict import Verdict, judge
from parity.nn.losses import LOSSES
from parity.nn.updates import adam, sgd
from parity.running.keys import mark
from parity.spec import Adam, AdamW, Case, Loss, Sgd
from parity.suite import Entry, load_suite
from parity.tests import toy
from parity.trainer import State, Trainer, record
from parity.trainers.numpy_trainer import NumpyTrainer
from parity.trajectory import gather
from parity.typing import Array, Params

LONG = np.longdouble
EPSILON = np.finfo(LONG).eps
STEP = float(np.cbrt(EPSILON))
ROUNDINGS = 64
"""Roundings that one evaluation of a loss may pile up, in units of ε times the magnitude of its terms."""
SUITE = load_suite("impls")
ENTRIES = [entry for entry in SUITE.entries.values() if "numpy" in entry.implementations]
ROWS = 12
EPOCHS = 2
"""Every case is followed for so many epochs here; 'parity run' follows its float64 cell to the end."""


def central(f: Callable[[float], np.longdouble], magnitude: np.longdouble, h: float = STEP) -> tuple[Array, Array]:
    """The derivative of f at 0, and how far that may be from the truth. ``magnitude``: that of the terms of f."""
    near = (f(h) - f(-h)) / (2 * LONG(h))
    far = (f(2 * h) - f(-2 * h)) / (4 * LONG(h))
    rounding = ROUNDINGS * EPSILON * magnitude / h
    # Twice the estimate: the next term of the series is smaller by h² and has its room here.
    return near, 2 * abs(far - near) / 3 + rounding


def assert_derivative(
    derivative: np.floating, f: Callable[[float], np.longdouble], magnitude: np.longdouble, scale: np.longdouble
) -> None:
    wanted, error = central(f, magnitude)
    assert abs(derivative - wanted) <= error
    # An error bound as wide as the derivative itself would let anything through.
    assert error <= 1e-6 * scale


def points(kind: str) -> tuple[Array, Array]:
    """Predictions and targets that a loss takes, some of them near the ends of its range."""
    generator = np.random.default_rng(7)
    if kind == "binary_crossentropy":
        p = np.concatenate([[0.001, 0.999, 0.5, 0.5], generator.uniform(0.01, 0.99, 8)])
        return p.astype(LONG)[:, None], np.array([0, 0, 0, 1] + 8 * [1])[:, None].astype(LONG)
    z = generator.normal(size=(12, 4)) * 3
    if kind == "crossentropy":
        z[0] = [60, 0, 0, -60]  # where the plain softmax underflows in float32
    if kind in ("crossentropy", "nll"):
        return z.astype(LONG), generator.integers(0, 4, 12)
    return z.astype(LONG), generator.normal(size=z.shape).astype(LONG)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_has_the_derivative_that_it_says(kind: str) -> None:
    prediction, y = points(kind)
    losses, derivative = LOSSES[kind](prediction, y)
    assert (losses.dtype, derivative.dtype, derivative.shape) == (LONG, LONG, prediction.shape)
    for place in np.ndindex(prediction.shape):
        # Near 0 and 1 a logarithm bends within a step of its own size.
        room = min(prediction[place], 1 - prediction[place]) if kind == "binary_crossentropy" else LONG(1)

        def moved(h: float, place: tuple[int, ...] = place, room: np.longdouble = room) -> np.longdouble:
            other = prediction.copy()
            other[place] += h * room
            return LOSSES[kind](other, y)[0].reshape(len(y), -1)[place[0]].sum()

        magnitude = np.abs(losses.reshape(len(y), -1)[place[0]]).sum() + np.abs(prediction[place[0]]).sum()
        slope = max(abs(derivative[place]), LONG(1)) * room
        assert_derivative(derivative[place] * room, moved, magnitude, slope)


def test_every_kind_of_loss_has_a_reference() -> None:
    assert set(get_args(get_type_hints(Loss)["kind"])) == set(LOSSES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_crossentropy_of_certainty_is_finite(dtype: str) -> None:
    """Torch's clamps: a logarithm is at least -100, p (1 - p) at least 1e-12."""
    p, y = np.array([0, 0, 1, 1], dtype), np.array([0, 1, 0, 1], dtype)
    loss, derivative = LOSSES["binary_crossentropy"](p, y)
    np.testing.assert_array_equal(loss, np.array([0, 100, 100, 0], dtype))
    steepest = 1 / np.dtype(dtype).type(1e-12)
    np.testing.assert_array_equal(derivative, np.array([0, -steepest, steepest, 0], dtype))


def directions(entry: Entry, params: Params) -> Iterator[tuple[str, Array]]:
    """For each parameter some single elements, and all of its elements at once with random signs."""
    for name, value in params.items():
        generator = np.random.default_rng(zlib.crc32(f"{entry.case.name}/{name}".encode()))
        for place in generator.choice(value.size, min(3, value.size), replace=False):
            one = np.zeros(value.size)
            one[place] = 1
            yield name, one.reshape(value.shape)
        yield name, generator.choice([-1.0, 1.0], value.shape) / np.sqrt(value.size)


@pytest.mark.parametrize("updates", [0, 5])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.case.name)
def test_gradients_against_finite_differences(entry: Entry, updates: int) -> None:
    case, build = entry.case, entry.implementations["numpy"].build
    data = case.data()
    batches = (batch for epoch in case.schedule.epochs(len(data.x)) for batch in epoch)
    walker = build(case, "float64", "cpu")
    for batch in islice(batches, updates):
        walker.train([(batch,)])
    trainer = build(case, "longdouble", "cpu")
    trainer.load(walker.export())
    state = trainer.export()
    x, y = data.x[:ROWS], data.y[:ROWS]
    loss, gradients = trainer.gradients(x, y)
    assert set(gradients) == set(case.trained(state.params))
    assert set(state.params) == set(case.initial())

    def loss_at(params: Params) -> np.longdouble:
        trainer.load(State(params, state.slots, state.step))
        if case.buffers:  # training predicts otherwise than ``predict``
            return LONG(trainer.gradients(x, y)[0])
        losses = LOSSES[case.loss.kind](trainer.predict(x), y.astype(LONG) if y.dtype.kind == "f" else y)[0]
        return LONG(losses.sum() if case.loss.reduction == "sum" else losses.mean())

    assert loss_at(state.params) == loss
    magnitude = abs(LONG(loss)) + (len(x) if case.loss.reduction == "sum" else 1)
    scale = np.sqrt(sum((g * g).sum() for g in gradients.values()))
    for name, direction in directions(entry, case.trained(state.params)):

        def moved(h: float, name: str = name, direction: Array = direction) -> np.longdouble:
            return loss_at({**state.params, name: state.params[name] + LONG(h) * direction})

        assert_derivative((gradients[name] * direction).sum(), moved, magnitude, scale)


@pytest.mark.parametrize(
    "entry",
    # The perceptron on images, in longdouble, takes as long as all others together.
    [
        pytest.param(entry, id=entry.case.name, marks=[pytest.mark.slow] * (entry.case.name == "mnist-mlp"))
        for entry in ENTRIES
    ],
)
def test_a_float64_run_follows_the_longdouble_run(entry: Entry) -> None:
    case, build = replace(entry.case, metrics=()), entry.implementations["numpy"].build
    epochs = min(case.epochs, max(EPOCHS, case.every))
    wide, _ = checked(build, case, longdouble=True)
    exact = gather(record(wide, case, epochs))
    length = case.floor_length(case.epochs)
    assert SUITE.floors is not None
    kept = load(SUITE.floors / f"{entry.folder}.safetensors", mark(SUITE, entry, length))
    assert kept is not None, "no committed noise floor is of this case: run 'parity floor'"
    floor = kept["float64"].until(epochs, len(exact.epochs))
    judgement = judge(gather(record(build(case, "float64", "cpu"), case, epochs)), exact, floor)
    assert judgement.verdict is Verdict.PASS, judgement.reason


# The optimizers, as the papers have them: sums over all gradients so far instead of running averages.

STEPS = 40
RULES = [Sgd(0.1), Sgd(0.1, momentum=0.9), Sgd(0.1, weight_decay=0.1), Sgd(0.01, momentum=0.9, weight_decay=0.1)]
ADAMS = [
    Adam(0.005),
    Adam(0.1, beta1=0.8, beta2=0.95, epsilon=1e-3),
    Adam(0.1, beta1=0.0),
    AdamW(0.005),
    AdamW(0.1, weight_decay=0.5),
]


def gradient_sequence(dtype: type) -> Array:
    g = np.random.default_rng(3).normal(size=(STEPS, 5))
    g[:, 1] *= 1e-8  # near Adam's epsilon
    g[::2, 2] = 0
    return g.astype(dtype)


def walk(rule: Sgd | Adam, dtype: type) -> Array:
    """The parameters after every step of ``numpy_trainer``'s update, (STEPS, 5)."""
    p = np.linspace(-1, 1, 5).astype(dtype)
    slots = {f"{slot}/p": np.zeros(5, dtype) for slot in ("momentum", "first_moment", "second_moment")}
    state = State({"p": p}, slots)
    path = []
    for g in gradient_sequence(dtype):
        state.step += 1
        p = adam(rule, "p", p, g, state) if isinstance(rule, Adam) else sgd(rule, "p", p, g, state)
        path.append(p)
    return np.array(path)


def sgd_by_its_sums(rule: Sgd) -> Array:
    """p_t = p_{t-1} - η Σ_{i ≤ t} μ^{t-i} (g_i + λ p_{i-1}): Polyak's momentum, and the gradient of an L2 penalty."""
    g, p = gradient_sequence(LONG), [np.linspace(-1, 1, 5).astype(LONG)]
    d: list[Array] = []
    for t in range(STEPS):
        d.append(g[t] + LONG(rule.weight_decay) * p[t])
        past = range(t + 1) if rule.momentum else [t]
        p.append(p[t] - LONG(rule.learning_rate) * sum(LONG(rule.momentum) ** (t - i) * d[i] for i in past))
    return np.array(p[1:])


def adam_by_its_sums(rule: Adam) -> Array:
    """Kingma & Ba (2015), section 3: m_t = (1 - β₁) Σ β₁^{t-i} g_i, v_t likewise, both over 1 - β^t; then the step.

    Loshchilov & Hutter (2019), algorithm 2: the decay is beside that, times the rate, and in no moment.
    """
    decay = LONG(rule.learning_rate) * LONG(rule.weight_decay if isinstance(rule, AdamW) else 0)
    g, p = gradient_sequence(LONG), [np.linspace(-1, 1, 5).astype(LONG)]
    b1, b2 = LONG(rule.beta1), LONG(rule.beta2)
    for t in range(1, STEPS + 1):
        m = (1 - b1) * sum(b1 ** (t - i) * g[i - 1] for i in range(1, t + 1)) / (1 - b1**t)
        v = (1 - b2) * sum(b2 ** (t - i) * g[i - 1] ** 2 for i in range(1, t + 1)) / (1 - b2**t)
        p.append((1 - decay) * p[-1] - LONG(rule.learning_rate) * m / (np.sqrt(v) + LONG(rule.epsilon)))
    return np.array(p[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, LONG])
@pytest.mark.parametrize("rule", [*RULES, *ADAMS], ids=repr)
def test_an_optimizer_takes_the_steps_of_its_paper(rule: Sgd | Adam, dtype: type) -> None:
    wanted = adam_by_its_sums(rule) if isinstance(rule, Adam) else sgd_by_its_sums(rule)
    unit = np.finfo(dtype).eps / 2
    # Gradients are rounded to the dtype as the run's own are.
    step = LONG(rule.learning_rate)
    if isinstance(rule, Adam):
        # A step is at most about one learning rate. Bias corrections are Python floats, off by a double's rounding
        # of beta^t over what is left of 1 - beta^t.
        correction = np.finfo(np.float64).eps / (1 - rule.beta2)
        error = step * (16 * unit + correction)
    else:
        # A buffer is at most the largest d times 1 / (1 - momentum), rounded at each of the steps that it remembers.
        memory = 1 / (1 - rule.momentum)
        error = step * memory * memory * 16 * unit * (np.abs(gradient_sequence(LONG)).max() + rule.weight_decay)
    room = np.arange(1, STEPS + 1)[:, None] * (error + unit * np.abs(wanted).max())
    assert (np.abs(walk(rule, dtype) - wanted) <= room).all()


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    """As torch leaves one whose gradient is None: no decay, no momentum, whatever the others do."""
    case = toy.case(Sgd(0.1, momentum=0.9, weight_decay=0.5))

    def backward(params: Params, x: Array, d_prediction: Array) -> Params:
        return {"dense/kernel": x.T @ d_prediction}

    trainer: Trainer = NumpyTrainer(case, "float64", toy.forward, backward)
    before = trainer.export()
    trainer.train([next(case.schedule.epochs(toy.ROWS))])
    after = trainer.export()
    assert np.array_equal(before.params["dense/bias"], after.params["dense/bias"])
    assert not np.array_equal(before.params["dense/kernel"], after.params["dense/kernel"])
    assert not trainer.gradients(case.data().x, case.data().y)[1]["dense/bias"].any()


def test_a_mistake_in_a_gradient_is_seen_by_finite_differences() -> None:
    """The check can fail: a share of 1e-9 of the gradient is more than its error bound."""
    trainer = toy.build(toy.MOMENTUM, "longdouble", "cpu")
    data, state = toy.data(), trainer.export()
    loss, gradients = trainer.gradients(data.x, data.y)

    def moved(h: float) -> np.longdouble:
        kernel = state.params["dense/kernel"].copy()
        kernel[0, 0] += h
        trainer.load(State({**state.params, "dense/kernel": kernel}, state.slots, state.step))
        return LONG(trainer.gradients(data.x, data.y)[0])

    right = gradients["dense/kernel"][0, 0]
    assert_derivative(right, moved, LONG(loss), abs(right))
    with pytest.raises(AssertionError):
        assert_derivative(right * (1 + LONG(1e-9)), moved, LONG(loss), abs(right))


@pytest.mark.parametrize("case", [toy.MOMENTUM, toy.ADAM, toy.ADAMW], ids=lambda case: case.name)
def test_every_optimizer_follows_its_longdouble_run(case: Case) -> None:
    wide, _ = checked(toy.build, case, longdouble=True)
    exact = gather(record(wide, case, case.epochs))
    floor = measure(toy.build, case, case.epochs)["float64"]
    judgement = judge(gather(record(toy.build(case, "float64", "cpu"), case, case.epochs)), exact, floor)
    assert judgement.verdict is Verdict.PASS, judgement.reason
