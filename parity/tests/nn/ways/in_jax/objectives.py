"""optax's losses, each that of an element or of a row: whoever calls one takes the mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from parity.tests.nn.conformance import Way


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, positive_weight: float, smoothing: float
) -> dict[str, Any]:
    return {"output": optax.sigmoid_binary_cross_entropy(logits, targets)}


def cross_entropy(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {"output": {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]}


def soft_cross_entropy(logits: Any, targets: Any, *, smoothing: float) -> dict[str, Any]:
    return {"output": optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))}


def elementwise(loss: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    return lambda prediction, target, **settings: {"output": loss(prediction, target, **settings)}


def kl_divergence(predictions: Any, targets: Any) -> dict[str, Any]:
    return {"output": optax.kl_divergence(jnp.log(predictions), targets)}


def hinge(prediction: Any, target: Any, *, squared: bool) -> dict[str, Any]:
    return {"output": optax.hinge_loss(prediction, target)}


def multiclass_hinge(scores: Any, labels: Any) -> dict[str, Any]:
    return {"output": optax.losses.multiclass_hinge_loss(scores, labels)}


def cosine_similarity(x: Any, y: Any, *, epsilon: float) -> dict[str, Any]:
    return {"output": optax.cosine_similarity(x, y, epsilon=epsilon**2)}


CTC = jax.jit(optax.ctc_loss)
"""Its loop would be compiled for every call."""


def ctc(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any) -> dict[str, Any]:
    beyond, none = (
        (jnp.arange(array.shape[1]) >= lengths[:, None]).astype(logits.dtype)
        for array, lengths in ((logits, logit_lengths), (labels, label_lengths))
    )
    return {"output": CTC(logits, beyond, labels, none)}


WAYS = (
    Way(
        "binary_cross_entropy_with_logits",
        ("optax.sigmoid_binary_cross_entropy",),
        binary_cross_entropy_with_logits,
        {
            "a weight of what is there": lambda asked: asked.configuration["positive_weight"] != 1,
            "smoothing": lambda asked: asked.configuration["smoothing"] != 0,
        },
    ),
    Way(
        "cross_entropy",
        ("optax.softmax_cross_entropy_with_integer_labels",),
        cross_entropy,
        {
            "smoothing": lambda asked: asked.configuration["smoothing"] != 0,
            "weights of classes": lambda asked: "class_weights" in asked.arrays,
            "rows that are ignored": lambda asked: asked.configuration["ignored"] is not None,
        },
    ),
    Way("soft_cross_entropy", ("optax.softmax_cross_entropy",), soft_cross_entropy),
    Way("squared_error", ("optax.squared_error",), elementwise(optax.squared_error)),
    Way("huber", ("optax.huber_loss",), elementwise(optax.huber_loss)),
    Way("log_cosh", ("optax.log_cosh",), elementwise(optax.log_cosh)),
    Way("kl_divergence", ("optax.kl_divergence",), kl_divergence),
    Way("hinge", ("optax.hinge_loss",), hinge, {"a square": lambda asked: asked.configuration["squared"]}),
    Way("multiclass_hinge", ("optax.losses.multiclass_hinge_loss",), multiclass_hinge),
    Way("cosine_similarity", ("optax.cosine_similarity",), cosine_similarity),
    Way("ctc", ("optax.ctc_loss",), ctc, words={"blank_id": "blank"}),
)
