"""Losses: predictions and targets of a few rows, with weights, smoothing and rows that are ignored."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import objectives as nn
from parity.nn.activations import softmax
from parity.tests.nn.conformance import Array, Arrays, Asked, Function

ROWS, CLASSES = 5, 3
IGNORED = -100
"""Not a class: what torch ignores where nothing else is said."""
SIZES = st.sampled_from([1.0, 30.0])
"""Logits of the second make a softmax, and a sigmoid, as sure as float64 can say, and surer."""
REDUCTIONS = st.sampled_from(["none", "sum", "mean"])


@st.composite
def seeded(draw: Any, make: Any, **words: Any) -> Asked:
    """Arrays made of a generator and the configuration."""
    configuration = {word: draw(values) for word, values in words.items()}
    size = configuration.pop("size", 1.0)
    return Asked(configuration, make(np.random.default_rng(draw(st.integers(0, 999))), size, configuration))


def pair(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    return {"prediction": random.normal(0, size, (ROWS, CLASSES)), "target": random.normal(0, size, (ROWS, CLASSES))}


def signs(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    return {"prediction": random.normal(0, 1, (ROWS, 2)), "target": random.choice([-1.0, 1.0], (ROWS, 2))}


def answers(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    return {"logits": random.normal(0, size, (ROWS, 2)), "targets": random.choice([0.0, 0.25, 1.0], (ROWS, 2))}


def chances(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    targets = random.choice([0.0, 0.25, 1.0], (ROWS, 2))
    if size == 1:
        return {"probabilities": random.uniform(0.01, 0.99, (ROWS, 2)), "targets": targets}
    return {"certain": random.choice([0.0, 1e-60, 1e-9, 1.0], (ROWS, 2)), "targets": targets}


@wraps(nn.binary_cross_entropy)
def binary_cross_entropy(
    targets: Array, probabilities: Array | None = None, certain: Array | None = None, **settings: float
) -> Array:
    """Of probabilities, or of such as are 0 or 1, or nearly, where no difference of the loss gives its derivative."""
    with np.errstate(invalid="ignore"):
        return nn.binary_cross_entropy(certain if probabilities is None else probabilities, targets, **settings)


def classes(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    labels = random.integers(0, CLASSES, ROWS)
    if configuration["ignored"] is not None:
        labels[random.integers(0, ROWS)] = configuration["ignored"]
    arrays: Arrays = {"logits": random.normal(0, size, (ROWS, CLASSES)), "labels": labels}
    if configuration.pop("weighted"):
        arrays["class_weights"] = random.uniform(0.5, 2, CLASSES)
    return arrays


def scores(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    return {"scores": random.normal(-1, 1, (ROWS, CLASSES)), "labels": random.integers(0, CLASSES, ROWS)}


def log_classes(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    arrays = classes(random, size, configuration)
    arrays["log_probabilities"] = np.log(softmax(arrays.pop("logits")))
    return arrays


def soft(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    targets = softmax(random.normal(0, 2, (ROWS, CLASSES)))
    return {"logits": random.normal(0, size, (ROWS, CLASSES)), "targets": targets}


def distributions(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    predictions, targets = (softmax(random.normal(0, 1, (ROWS, CLASSES))) for _ in range(2))
    if size > 1:
        targets[0] = [0, 1, 0]
    return {"predictions": predictions, "targets": targets}


def vectors(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    x, y = random.normal(0, 1, (2, ROWS, 4))
    if size > 1:
        x[0] *= 0.01
    return {"x": x, "y": y}


def losses(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    arrays: Arrays = {"losses": random.uniform(0, 2, ROWS)}
    if configuration.pop("weighted"):
        arrays["weights"] = random.uniform(0.5, 2, ROWS)
        arrays["weights"][random.integers(0, ROWS)] = 0
    return arrays


def sequences(random: np.random.Generator, size: float, configuration: Any) -> Arrays:
    labels = random.integers(1, 4, (3, 3))
    labels[0, 1] = labels[0, 0]  # equal neighbours need a blank between them
    return {
        "logits": random.normal(0, 1, (3, 8, 4)),
        "labels": labels,
        "logit_lengths": random.integers(6, 9, 3),
        "label_lengths": random.integers(1, 4, 3),
    }


def cross_entropy_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    return {"logits": nn.cross_entropy_backward(d_results["output"], **arrays, **configuration)}


IGNORES = {"ignored": st.sampled_from([None, IGNORED]), "weighted": st.booleans(), "reduction": REDUCTIONS}
FUNCTIONS = (
    Function(
        nn.reduced,
        seeded(
            losses,
            weighted=st.booleans(),
            reduction=REDUCTIONS,
            denominator=st.sampled_from(["rows", "nonzero", "weights"]),
        ),
        trained=("losses",),
    ),
    Function(binary_cross_entropy, seeded(chances, size=SIZES), trained=("probabilities",)),
    Function(
        nn.binary_cross_entropy_with_logits,
        seeded(
            answers,
            size=SIZES,
            positive_weight=st.sampled_from([1.0, 1.0, 2.5]),
            smoothing=st.sampled_from([0.0, 0.0, 0.1]),
        ),
        trained=("logits",),
    ),
    Function(
        nn.cross_entropy,
        seeded(classes, size=SIZES, smoothing=st.sampled_from([0.0, 0.1]), **IGNORES),
        trained=("logits",),
        backward=cross_entropy_backward,
    ),
    Function(nn.negative_log_likelihood, seeded(log_classes, **IGNORES), trained=("log_probabilities",)),
    Function(
        nn.soft_cross_entropy,
        seeded(soft, size=SIZES, smoothing=st.sampled_from([0.0, 0.0, 0.1])),
        trained=("logits",),
    ),
    Function(nn.squared_error, seeded(pair), trained=("prediction",)),
    Function(nn.absolute_error, seeded(pair), trained=("prediction",)),
    Function(nn.huber, seeded(pair, delta=st.sampled_from([1.0, 0.5, 2.0])), trained=("prediction",)),
    Function(nn.smooth_l1, seeded(pair, beta=st.sampled_from([1.0, 0.5, 2.0])), trained=("prediction",)),
    Function(nn.log_cosh, seeded(pair, size=SIZES), trained=("prediction",)),
    Function(nn.kl_divergence, seeded(distributions, size=SIZES), trained=("predictions",)),
    Function(nn.hinge, seeded(signs, squared=st.booleans()), trained=("prediction",)),
    Function(nn.multiclass_hinge, seeded(scores), trained=("scores",)),
    Function(
        nn.cosine_similarity, seeded(vectors, size=SIZES, epsilon=st.sampled_from([1e-8, 0.1])), trained=("x", "y")
    ),
    Function(nn.ctc, seeded(sequences), trained=("logits",)),
)
