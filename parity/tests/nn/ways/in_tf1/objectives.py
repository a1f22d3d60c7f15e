"""TensorFlow's losses: functions of ``tf.nn``, and those of ``tf.losses``, which all compute in float32."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Departure, Way

REDUCTION = tf.losses.Reduction
MEANS = {
    "rows": REDUCTION.SUM_OVER_BATCH_SIZE,
    "nonzero": REDUCTION.SUM_BY_NONZERO_WEIGHTS,
    "weights": REDUCTION.MEAN,
}
REDUCTIONS = {"none": REDUCTION.NONE, "sum": REDUCTION.SUM, "mean": REDUCTION.SUM_BY_NONZERO_WEIGHTS}


def reduced(losses: Any, weights: Any = None, *, reduction: str, denominator: str) -> dict[str, Any]:
    kind = MEANS[denominator] if reduction == "mean" else REDUCTIONS[reduction]
    return {"output": tf.losses.compute_weighted_loss(losses, 1.0 if weights is None else weights, reduction=kind)}


def binary_cross_entropy(targets: Any, probabilities: Any = None, certain: Any = None) -> dict[str, Any]:
    given = certain if probabilities is None else probabilities
    return {"output": tf.losses.log_loss(targets, given, reduction=REDUCTION.NONE)}


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, positive_weight: float, smoothing: float
) -> dict[str, Any]:
    if positive_weight == 1:
        return {"output": tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)}
    return {"output": tf.nn.weighted_cross_entropy_with_logits(targets, logits, positive_weight)}


def cross_entropy(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    counts = tf.ones_like(labels, tf.bool) if ignored is None else tf.not_equal(labels, ignored)
    own = tf.where(counts, labels, tf.zeros_like(labels))
    weights = tf.cast(counts, logits.dtype)
    if class_weights is not None:
        weights *= tf.gather(class_weights, own)
    targets = tf.one_hot(own, logits.shape[-1], dtype=logits.dtype)
    kind = REDUCTIONS[reduction]
    loss = tf.losses.softmax_cross_entropy(targets, logits, weights, label_smoothing=smoothing, reduction=kind)
    return {"output": loss}


def sparse(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    return {"output": tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)}


def soft_cross_entropy(logits: Any, targets: Any, *, smoothing: float) -> dict[str, Any]:
    return {"output": tf.nn.softmax_cross_entropy_with_logits_v2(targets, logits)}


def squared_error(prediction: Any, target: Any) -> dict[str, Any]:
    return {"output": tf.losses.mean_squared_error(target, prediction, reduction=REDUCTION.NONE)}


def absolute_error(prediction: Any, target: Any) -> dict[str, Any]:
    return {"output": tf.losses.absolute_difference(target, prediction, reduction=REDUCTION.NONE)}


def huber(prediction: Any, target: Any, *, delta: float) -> dict[str, Any]:
    return {"output": tf.losses.huber_loss(target, prediction, delta=delta, reduction=REDUCTION.NONE)}


def hinge(prediction: Any, target: Any, *, squared: bool) -> dict[str, Any]:
    return {"output": tf.losses.hinge_loss((target + 1) / 2, prediction, reduction=REDUCTION.NONE)}


def ctc(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any) -> dict[str, Any]:
    loss = tf.nn.ctc_loss_v2(
        tf.cast(labels, tf.int32), logits, label_lengths, logit_lengths, logits_time_major=False, blank_index=0
    )
    return {"output": loss}


SMOOTHING = {"smoothing": lambda asked: asked.configuration["smoothing"] != 0}
BASE = "tensorflow.compat.v1."
WAYS = (
    Way("reduced", (BASE + "losses.compute_weighted_loss",), reduced, dtype="float32"),
    Way(
        "binary_cross_entropy",
        (BASE + "losses.log_loss",),
        binary_cross_entropy,
        departures=(
            Departure(
                "1e-7 added",
                "1e-7 is added to each number before its logarithm is taken.",
                like={"epsilon": 1e-7},
            ),
        ),
        dtype="float32",
    ),
    Way(
        "binary_cross_entropy_with_logits",
        (BASE + "nn.sigmoid_cross_entropy_with_logits", BASE + "nn.weighted_cross_entropy_with_logits"),
        binary_cross_entropy_with_logits,
        SMOOTHING,
    ),
    Way(
        "cross_entropy",
        (BASE + "losses.softmax_cross_entropy",),
        cross_entropy,
        departures=(
            Departure(
                "a mean of rows",
                "The mean is over the rows whose weight is not 0; their weights are not added up.",
                like={"denominator": "counted"},
                when=lambda asked: "class_weights" in asked.arrays,
            ),
            Departure(
                "rows are weighted as a whole",
                "There are weights of rows alone, which a row's smoothed loss is multiplied by: no class has its own.",
                like={"rows_weighted": True},
                when=lambda asked: "class_weights" in asked.arrays,
            ),
        ),
        words={"label_smoothing": "smoothing"},
        dtype="float32",
    ),
    Way(
        "cross_entropy",
        (BASE + "nn.sparse_softmax_cross_entropy_with_logits",),
        sparse,
        {
            **SMOOTHING,
            "weights of classes": lambda asked: "class_weights" in asked.arrays,
            "rows that are ignored": lambda asked: asked.configuration["ignored"] is not None,
            "a sum or a mean": lambda asked: asked.configuration["reduction"] != "none",
        },
    ),
    Way("soft_cross_entropy", (BASE + "nn.softmax_cross_entropy_with_logits_v2",), soft_cross_entropy, SMOOTHING),
    Way("squared_error", (BASE + "losses.mean_squared_error",), squared_error, dtype="float32"),
    Way("absolute_error", (BASE + "losses.absolute_difference",), absolute_error, dtype="float32"),
    Way("huber", (BASE + "losses.huber_loss",), huber, dtype="float32"),
    Way(
        "hinge",
        (BASE + "losses.hinge_loss",),
        hinge,
        {"a square": lambda asked: asked.configuration["squared"]},
        dtype="float32",
    ),
    Way("ctc", (BASE + "nn.ctc_loss_v2",), ctc, dtype="float32"),
)
