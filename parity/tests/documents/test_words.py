"""What the documents say of each case, typed once more: hyper-parameters, sizes, counts, draws and ways.

Numbers that no document gives are the suite's own choice and stand under ``CHOSEN``, so that neither kind drifts.
"""

from __future__ import annotations

import itertools
import math
import random
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fixtures import mnist, text
from parity.running.cells import Options
from parity.spec import (
    Adam,
    Case,
    CyclicRow,
    FullBatch,
    Loss,
    Optimizer,
    RandomRow,
    RandomRows,
    Schedule,
    Sgd,
    Shuffled,
)
from parity.suite import load_suite
from parity.typing import Array, Params

SUITE = load_suite("impls")
ZEROS, NORMAL = "zeros", "normal"
ALL_ROWS = FullBatch()


@dataclass(frozen=True)
class Said:
    """A case in its document's words; ``batches`` are the sizes of an epoch's, in order.

    ``initial`` is how its weights begin: ``zeros``, ``normal``, or torch's own scheme for layers, which gives each
    tensor a bound by its name. Shapes are the suite's: kernels (in, out).
    """

    optimizer: Optimizer
    loss: Loss
    epochs: int
    rows: tuple[int, ...]
    held_out: int
    batches: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    initial: str | dict[str, float]
    schedule: Schedule = ALL_ROWS
    metrics: tuple[tuple[str, str], ...] = ()


def dense(inputs: int, outputs: int, layer: str = "dense") -> dict[str, tuple[int, ...]]:
    return {f"{layer}/kernel": (inputs, outputs), f"{layer}/bias": (outputs,)}


def scheme(layers: dict[str, int]) -> dict[str, float]:
    """torch's own: uniform between ±1/√inputs, weights and biases alike."""
    return {f"{layer}/{role}": 1 / math.sqrt(inputs) for layer, inputs in layers.items() for role in ("kernel", "bias")}


IRIS = dense(2, 1)
PERCEPTRON = dense(784, 32, "dense1") | dense(32, 32, "dense2") | dense(32, 32, "dense3") | dense(32, 10, "dense4")
SQUARED, CROSS = "squared_error", "binary_crossentropy"

SAID = {
    "iris-logistic": Said(
        Sgd(0.1),
        Loss(CROSS, "sum"),
        10,
        (75, 2),
        25,
        (75,),
        IRIS,
        ZEROS,
        metrics=(("train_accuracy", "train"), ("train_cost", "train"), ("test_accuracy", "test")),
    ),
    "iris-logistic-minibatch": Said(
        Sgd(0.05),
        Loss(CROSS, "sum"),
        15,
        (75, 2),
        25,
        7 * (10,),
        IRIS,
        ZEROS,
        Shuffled(batch_size=10, seed=123, reseed=True, keep_last=False),
        (("train_accuracy", "train"), ("valid_accuracy", "test")),
    ),
    "mnist-softmax": Said(
        Sgd(0.1),
        Loss("crossentropy", "mean"),
        10,
        (5120, 784),  # chosen: the post trains on all of MNIST
        1024,
        20 * (256,),
        dense(784, 10),
        ZEROS,
        Shuffled(batch_size=256, seed=123),
        (("train_accuracy", "train"), ("test_accuracy", "test")),
    ),
    "char-gru": Said(
        Adam(0.005, beta1=0.9, beta2=0.999, epsilon=1e-8),
        Loss("crossentropy", "mean"),
        100,  # chosen: the post trains 20,000 iterations
        (8227,),
        0,
        (200,),
        {
            "embedding/table": (100, 100),
            "gru/input_kernel": (100, 300),
            "gru/recurrent_kernel": (100, 300),
            "gru/input_bias": (300,),
            "gru/recurrent_bias": (300,),
            "gru/initial_state": (1, 100),
            **dense(100, 100),
        },
        {
            "embedding/table": math.inf,  # normal
            "gru/input_kernel": 0.1,
            "gru/recurrent_kernel": 0.1,
            "gru/input_bias": 0.1,
            "gru/recurrent_bias": 0.1,
            "gru/initial_state": 0.0,
            "dense/kernel": 0.1,
            "dense/bias": 0.1,
        },
        text.Portions(size=200, seed=123, discard=2),
    ),
    "mlp-regression": Said(
        Sgd(1e-3, weight_decay=0.5),
        Loss(SQUARED, "mean"),
        250,
        (64, 10),
        0,
        (64,),
        dense(10, 100, "dense1") | dense(100, 1, "dense2"),
        NORMAL,
    ),
    "mnist-mlp": Said(
        Sgd(1e-2, momentum=0.9, weight_decay=0.1),
        Loss("nll", "mean"),
        10,
        (5120, 784),
        1024,
        10 * (512,),
        PERCEPTRON,
        scheme({"dense1": 784, "dense2": 32, "dense3": 32, "dense4": 32}),
        Shuffled(batch_size=512, seed=1),  # a seed that is chosen: the tutorial sets none
        (("train_accuracy", "train"), ("test_accuracy", "test")),
    ),
    "linear-regression": Said(
        Sgd(0.0001), Loss(SQUARED, "sum"), 500, (100, 3), 0, (100,), dense(3, 1), scheme({"dense": 3})
    ),
    "linear-gd": Said(Sgd(0.0001), Loss(SQUARED, "mean"), 1000, (1000, 3), 0, (1000,), dense(3, 1), ZEROS),
    "synthetic-logistic": Said(
        Sgd(0.0001),
        Loss(CROSS, "mean"),
        100,
        (7000, 5),
        3000,
        (7000,),
        dense(5, 1),
        scheme({"dense": 5}),
        metrics=(("accuracy", "test"),),
    ),
    "sine-cubic": Said(
        Sgd(1e-6),
        Loss(SQUARED, "sum"),
        2000,
        (2000, 1),
        0,
        (2000,),
        {f"polynomial/{name}": (1,) for name in "abcd"},
        NORMAL,
    ),
    "sine-legendre": Said(
        Sgd(5e-6),
        Loss(SQUARED, "sum"),
        2000,
        (2000, 1),
        0,
        (2000,),
        {f"legendre/{name}": (1,) for name in "abcd"},
        {f"legendre/{name}": bound for name, bound in zip("abcd", (0.0, 1.0, 0.0, 0.3), strict=True)},
    ),
    "activations": Said(
        Sgd(1.0),
        Loss("total", "sum"),
        1,
        (1, 1024),
        0,
        (1,),
        {f"{name}/{role}": (1024,) for name in ("relu", "sigmoid", "tanh") for role in ("shift", "scale")},
        {f"{n}/{r}": bound for n in ("relu", "sigmoid", "tanh") for r, bound in (("shift", 0.0), ("scale", 1.0))},
    ),
}
CHOSEN = {
    "linear-sgd-randomized": Said(
        Sgd(0.01), Loss(SQUARED, "mean"), 10, (100, 3), 0, 100 * (1,), dense(3, 1), ZEROS, RandomRow(seed=21)
    ),
    "linear-sgd-cyclic": Said(
        Sgd(0.01), Loss(SQUARED, "mean"), 10, (100, 3), 0, 100 * (1,), dense(3, 1), ZEROS, CyclicRow()
    ),
    "linear-minibatch": Said(
        Sgd(0.1), Loss(SQUARED, "mean"), 10, (100, 3), 0, 10 * (10,), dense(3, 1), ZEROS, RandomRows(10, seed=22)
    ),
    "dogecoin-logistic": Said(
        Sgd(0.1),
        Loss(CROSS, "mean"),
        10,
        (90_697, 8),
        38_871,
        (*(88 * (1024,)), 585),
        dense(8, 1),
        ZEROS,
        Shuffled(batch_size=1024, seed=123),
        (("test_accuracy", "test"),),
    ),
}
EVERY = SAID | CHOSEN
WAYS = {
    "iris-logistic": ("torch-manual", "torch-autograd", "torch-optim"),
    "iris-logistic-minibatch": ("tf1-session",),
    "synthetic-logistic": ("torch-optim",),
    "sine-cubic": ("numpy", "torch-manual", "torch-autograd"),
    "sine-legendre": ("torch",),
    "linear-regression": ("torch-optim",),
    "linear-gd": ("numpy",),
    "mlp-regression": ("numpy",),
    "mnist-softmax": ("torch-optim", "torch-loader"),
    "mnist-mlp": ("torch-optim", "torch-loader"),
    "char-gru": ("torch-stepwise",),
}
"""The ways in which a document writes its model, each an implementation of its own."""

cases = pytest.mark.parametrize("name", EVERY)


def case_of(name: str) -> Case:
    return SUITE.entry(name).case


def epochs(case: Case, count: int) -> list[tuple[Array, ...]]:
    return list(itertools.islice(case.schedule.epochs(len(case.data().x)), count))


def test_the_suite_has_the_documents_cases_and_says_of_others_that_they_are_beyond_them() -> None:
    others = {name: entry.case for name, entry in SUITE.entries.items() if not entry.case.publication.source}
    assert set(SUITE.entries) - set(others) == set(EVERY)
    assert all(case.display.note.startswith("beyond the documents") for case in others.values())
    assert SUITE.frameworks == ["numpy", "torch", "tf1", "keras", "jax", "flax"]
    for name, ways in WAYS.items():
        assert set(ways) <= set(SUITE.entry(name).implementations)


@cases
def test_hyper_parameters_and_lengths(name: str) -> None:
    case, said = case_of(name), EVERY[name]
    assert type(case.optimizer) is type(said.optimizer)
    assert (case.optimizer, case.loss, case.epochs) == (said.optimizer, said.loss, said.epochs)
    assert case.schedule == said.schedule
    assert tuple((metric.name, metric.split) for metric in case.metrics) == said.metrics


@cases
def test_rows_and_batches(name: str) -> None:
    case, said = case_of(name), EVERY[name]
    data = case.data()
    assert data.x.shape == said.rows
    assert len(data.y) == said.rows[0]
    assert (0 if data.x_test is None else len(data.x_test)) == said.held_out
    for batches in epochs(case, 2):
        assert tuple(len(rows) for rows in batches) == said.batches


@cases
def test_initial_parameters(name: str) -> None:
    initial, said = case_of(name).initial(), EVERY[name]
    assert {tensor: value.shape for tensor, value in initial.items()} == said.shapes
    if isinstance(said.initial, dict):
        for tensor, bound in said.initial.items():
            assert_within(initial[tensor], bound)
    elif said.initial == ZEROS:
        assert not any(value.any() for value in initial.values())
    else:
        assert_normal(initial)


def assert_within(value: Array, bound: float) -> None:
    """All between ±bound, and as near to it as so many uniform draws come; a single one may be anywhere."""
    largest = np.abs(value).max()
    if math.isinf(bound):
        assert 3 < largest < 6
    elif value.size > 10 and 0 < bound < 1:
        assert bound * (1 - 10 / value.size) < largest <= bound
    elif value.size > 10 or bound in (0.0, 0.3, 1.0):
        assert largest == bound
    else:
        assert largest <= bound


def assert_normal(initial: Params) -> None:
    drawn = np.concatenate([value.ravel() for value in initial.values()])
    assert np.abs(drawn).max() < 5
    if len(drawn) > 100:
        assert abs(drawn.mean()) < 4 / math.sqrt(len(drawn))
        assert abs(drawn.std() - 1) < 4 / math.sqrt(2 * len(drawn))


def test_iris_batches_are_those_of_a_generator_made_anew_each_epoch() -> None:
    order = np.arange(75)
    np.random.RandomState(123).shuffle(order)
    for batches in epochs(case_of("iris-logistic-minibatch"), 3):
        assert np.array_equal(np.concatenate(batches), order[:70])


@pytest.mark.parametrize("name", ["mnist-softmax", "mnist-mlp", "dogecoin-logistic"])
def test_shuffled_epochs_hold_every_row_once_in_another_order(name: str) -> None:
    first, second = (np.concatenate(batches) for batches in epochs(case_of(name), 2))
    assert np.array_equal(np.sort(first), np.arange(len(first)))
    assert np.array_equal(np.sort(second), np.arange(len(first)))
    assert not np.array_equal(first, second)


def test_the_rules_of_stochastic_gradient_descent() -> None:
    cyclic = epochs(case_of("linear-sgd-cyclic"), 2)
    assert all(np.array_equal(np.concatenate(batches), np.arange(100)) for batches in cyclic)
    randomized = np.concatenate([np.concatenate(batches) for batches in epochs(case_of("linear-sgd-randomized"), 10)])
    counts = np.bincount(randomized, minlength=100)
    assert len(counts) == 100
    # Of 1,000 draws each row has 10 on average, by Poisson's law with a deviation of √10.
    assert 0 < counts.min() < 10 < counts.max() < 10 + 5 * math.sqrt(10)
    for batches in epochs(case_of("linear-minibatch"), 10):
        assert all(len(set(rows.tolist())) == 10 for rows in batches)


def test_portions_of_text_are_drawn_by_python() -> None:
    case = case_of("char-gru")
    rows, draw = len(case.data().x), random.Random(123)
    starts = [draw.randint(0, rows - 200) for _ in range(7)]
    assert [int(batch[0]) for (batch,) in epochs(case, 5)] == starts[2:]
    assert case.display.alphabet == string.printable
    assert np.array_equal(case.data().x[1:], case.data().y[:-1])


@pytest.mark.parametrize("name", ["linear-regression", "linear-gd", "linear-sgd-cyclic"])
def test_targets_lie_on_the_plane_up_to_a_millionth(name: str) -> None:
    data = case_of(name).data()
    noise = (data.y[:, 0] - (1 * data.x[:, 0] + 2 * data.x[:, 1] + 4 * data.x[:, 2] + 3)) * 1_000_000
    assert_normal({"noise": noise, "rows": data.x})


def test_labels_are_the_larger_of_the_models_and_a_coin() -> None:
    case = case_of("synthetic-logistic")
    data, initial = case.data(), case.initial()
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])[:, 0]
    above = (x @ initial["dense/kernel"] + initial["dense/bias"])[:, 0] > 0
    assert np.all(y[above] == 1)
    # A coin of a bias that is uniform on [0, 1] falls on one half of its sides.
    below = y[~above]
    assert abs(below.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(below))
    assert_normal({"rows": x})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mean", "deviation"), [("mnist-softmax", 0.0, 1.0), ("mnist-mlp", 0.1307, 0.3081)])
def test_pixels_are_scaled_as_the_documents_have_it(name: str, mean: float, deviation: float) -> None:
    data = case_of(name).data()
    for x in (data.x, data.x_test):
        pixels = (x * deviation + mean) * 255
        assert np.abs(pixels - np.round(pixels)).max() < 1e-9
        assert (np.round(pixels).min(), np.round(pixels).max()) == (0, 255)
    assert data.y[:5].tolist() == [5, 0, 4, 1, 9]


def test_points_of_the_sine_and_of_the_activations() -> None:
    for name in ("sine-cubic", "sine-legendre"):
        data = case_of(name).data()
        assert np.array_equal(data.x[:, 0], np.linspace(-math.pi, math.pi, 2000))
        assert np.array_equal(data.y, np.sin(data.x))
    assert np.array_equal(case_of("activations").data().x[0], np.linspace(-4, 4, num=1024))


def test_the_documented_scale_is_one_word_away() -> None:
    full = {name: entry.case.variants["full"] for name, entry in SUITE.entries.items() if "full" in entry.case.variants}
    assert set(full) == {"mnist-softmax", "mnist-mlp", "char-gru", "sine-cubic", "linear-regression"}
    assert all(set(entry.case.variants) <= {"full"} for entry in SUITE.entries.values())
    assert (full["sine-cubic"].epochs, case_of("sine-cubic").epochs) == (20_000, 2000)
    assert (full["char-gru"].epochs, case_of("char-gru").epochs) == (20_000, 100)
    assert full["char-gru"].data is text.novel
    assert (full["mnist-softmax"].data, full["mnist-mlp"].data) == (mnist.scaled_full, mnist.normalized_full)
    assert len(full["linear-regression"].data().x) == 1000
    # The word alone asks for all of them.
    asked = Options(SUITE, Path("runs"), variant="full").entries()
    assert [entry.folder for entry in asked] == [f"{name}@full" for name in SUITE.entries if name in full]
