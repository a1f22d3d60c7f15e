"""Keras's losses. Targets come first; each is the mean over the last axis, which here is one element long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import losses

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way

REDUCTIONS = {"none": None, "sum": "sum", "mean": "sum_over_batch_size"}


def elementwise(loss: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A loss of each element: an axis of one is added, over which Keras then takes the mean."""

    def call(prediction: Any, target: Any, **settings: Any) -> dict[str, Any]:
        return {"output": loss(target[..., None], prediction[..., None], **settings)}

    return call


class Given(losses.Loss):
    """The losses are the prediction itself."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def reduced(losses: Any, weights: Any = None, *, reduction: str, denominator: str) -> dict[str, Any]:
    named = REDUCTIONS[reduction]
    if reduction == "mean" and denominator == "weights":
        named = "mean_with_sample_weight"
    return {"output": Given(reduction=named, dtype="float64")(losses, losses, sample_weight=weights)}


def binary_cross_entropy(targets: Any, probabilities: Any = None, certain: Any = None) -> dict[str, Any]:
    given = certain if probabilities is None else probabilities
    return {"output": losses.binary_crossentropy(targets[..., None], given[..., None])}


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, positive_weight: float, smoothing: float
) -> dict[str, Any]:
    return {
        "output": losses.binary_crossentropy(
            targets[..., None], logits[..., None], from_logits=True, label_smoothing=smoothing
        )
    }


def weights_of(labels: Any, class_weights: Any, ignored: int | None) -> Any:
    """What ``fit`` makes of ``class_weight``: a weight for each row."""
    if class_weights is None:
        return None
    return tf.gather(class_weights, labels if ignored is None else tf.where(labels == ignored, 0, labels))


def sparse(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    loss = losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=ignored, reduction=REDUCTIONS[reduction], dtype="float64"
    )
    return {"output": loss(labels, logits, sample_weight=weights_of(labels, class_weights, ignored))}


def one_hot(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    loss = losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=REDUCTIONS[reduction], dtype="float64"
    )
    targets = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return {"output": loss(targets, logits, sample_weight=weights_of(labels, class_weights, ignored))}


def soft_cross_entropy(logits: Any, targets: Any, *, smoothing: float) -> dict[str, Any]:
    loss = losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=smoothing)
    return {"output": loss}


def kl_divergence(predictions: Any, targets: Any) -> dict[str, Any]:
    return {"output": losses.kl_divergence(targets, predictions)}


def hinge(prediction: Any, target: Any, *, squared: bool) -> dict[str, Any]:
    return elementwise(losses.squared_hinge if squared else losses.hinge)(prediction, target)


def multiclass_hinge(scores: Any, labels: Any) -> dict[str, Any]:
    return {"output": losses.categorical_hinge(tf.one_hot(labels, scores.shape[-1], dtype=scores.dtype), scores)}


def cosine_similarity(x: Any, y: Any, *, epsilon: float) -> dict[str, Any]:
    return {"output": -losses.cosine_similarity(x, y)}


def ctc(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any) -> dict[str, Any]:
    return {"output": keras.ops.ctc_loss(labels, logits, label_lengths, logit_lengths)}


ROWS_WEIGHTED = Departure(
    "rows are weighted as a whole",
    "There are weights of rows alone, which a row's smoothed loss is multiplied by: no class has its own.",
    like={"rows_weighted": True},
    when=lambda asked: "class_weights" in asked.arrays,
)
COUNTED = Departure(
    "a mean of rows",
    "The mean is over the rows that are not ignored; their weights are not added up.",
    like={"denominator": "counted"},
    when=lambda asked: "class_weights" in asked.arrays,
)
BASE = "keras.losses."
WAYS = (
    Way(
        "reduced",
        (BASE + "Loss",),
        reduced,
        {
            "rows whose weight is not 0 as denominator": lambda asked: (
                asked.configuration["reduction"] == "mean" and asked.configuration["denominator"] == "nonzero"
            )
        },
    ),
    Way(
        "binary_cross_entropy",
        (BASE + "binary_crossentropy",),
        binary_cross_entropy,
        departures=(
            Departure(
                "probabilities clipped by 1e-7",
                "Probabilities are kept between epsilon() and 1 - epsilon(), which is 1e-7.",
                like={"clip": 1e-7},
                when=lambda asked: "certain" in asked.arrays,
            ),
        ),
    ),
    Way(
        "binary_cross_entropy_with_logits",
        (BASE + "binary_crossentropy",),
        binary_cross_entropy_with_logits,
        {"a weight of what is there": lambda asked: asked.configuration["positive_weight"] != 1},
        words={"label_smoothing": "smoothing"},
    ),
    Way(
        "cross_entropy",
        (BASE + "SparseCategoricalCrossentropy",),
        sparse,
        {"smoothing": lambda asked: asked.configuration["smoothing"] != 0},
        (COUNTED,),
        {"ignore_class": "ignored"},
    ),
    Way(
        "cross_entropy",
        (BASE + "CategoricalCrossentropy",),
        one_hot,
        {"rows that are ignored": lambda asked: asked.configuration["ignored"] is not None},
        (COUNTED, ROWS_WEIGHTED),
        {"label_smoothing": "smoothing"},
    ),
    Way(
        "soft_cross_entropy",
        (BASE + "categorical_crossentropy",),
        soft_cross_entropy,
        words={"label_smoothing": "smoothing"},
    ),
    Way("squared_error", (BASE + "mean_squared_error",), elementwise(losses.mean_squared_error)),
    Way("absolute_error", (BASE + "mean_absolute_error",), elementwise(losses.mean_absolute_error)),
    Way("huber", (BASE + "huber",), elementwise(losses.huber)),
    Way(
        "log_cosh",
        (BASE + "log_cosh",),
        elementwise(losses.log_cosh),
        departures=(
            Departure(
                "log 2 in float32",
                "The logarithm of 2 that is taken off is a float32.",
                size=unit("float32"),
                results=("output",),
            ),
        ),
    ),
    Way(
        "kl_divergence",
        (BASE + "kl_divergence",),
        kl_divergence,
        departures=(
            Departure(
                "1e-7 at least",
                "Predictions and targets are kept between epsilon(), which is 1e-7, and 1: a class that is not there "
                "adds "
                "its share.",
                like={"clip": 1e-7},
            ),
        ),
    ),
    Way("hinge", (BASE + "hinge", BASE + "squared_hinge"), hinge),
    Way(
        "multiclass_hinge",
        (BASE + "categorical_hinge",),
        multiclass_hinge,
        departures=(
            Departure(
                "zero competes",
                "The score of a row's own class is set to 0 where the largest of the others is looked for, and 0 may "
                "be it.",
                like={"zero_competes": True},
            ),
        ),
    ),
    Way(
        "cosine_similarity",
        (BASE + "cosine_similarity",),
        cosine_similarity,
        {"another epsilon": lambda asked: asked.configuration["epsilon"] > 1e-6},
    ),
    Way("ctc", (BASE + "CTC",), ctc, dtype="float32"),
)
