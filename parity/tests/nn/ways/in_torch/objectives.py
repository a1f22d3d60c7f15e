"""torch's losses, most of which take the mean over all elements where nothing else is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.objectives import IGNORED


def reduced(losses: Any, weights: Any = None, *, reduction: str, denominator: str) -> dict[str, Any]:
    """Of losses that are the prediction itself: the absolute error of 0, where none is negative."""
    return {"output": functional.l1_loss(losses, torch.zeros_like(losses), reduction=reduction)}


def binary_cross_entropy(targets: Any, probabilities: Any = None, certain: Any = None) -> dict[str, Any]:
    given = certain if probabilities is None else probabilities
    return {"output": functional.binary_cross_entropy(given, targets, reduction="none")}


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, positive_weight: float, smoothing: float
) -> dict[str, Any]:
    weight = torch.tensor(positive_weight, dtype=logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")
    return {"output": loss}


def cross_entropy(
    logits: Any, labels: Any, class_weights: Any = None, *, smoothing: float, ignored: int | None, reduction: str
) -> dict[str, Any]:
    loss = functional.cross_entropy(
        logits,
        labels,
        class_weights,
        ignore_index=IGNORED if ignored is None else ignored,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    return {"output": loss}


def negative_log_likelihood(
    log_probabilities: Any, labels: Any, class_weights: Any = None, *, ignored: int | None, reduction: str
) -> dict[str, Any]:
    index = IGNORED if ignored is None else ignored
    loss = functional.nll_loss(log_probabilities, labels, class_weights, ignore_index=index, reduction=reduction)
    return {"output": loss}


def soft_cross_entropy(logits: Any, targets: Any, *, smoothing: float) -> dict[str, Any]:
    return {"output": functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)}


def elementwise(function: Any) -> Any:
    def call(prediction: Any, target: Any, **settings: Any) -> dict[str, Any]:
        return {"output": function(prediction, target, reduction="none", **settings)}

    return call


def kl_divergence(predictions: Any, targets: Any) -> dict[str, Any]:
    return {"output": functional.kl_div(predictions.log(), targets, reduction="none").sum(-1)}


def cosine_similarity(x: Any, y: Any, *, epsilon: float) -> dict[str, Any]:
    return {"output": functional.cosine_similarity(x, y, dim=-1, eps=epsilon)}


def ctc(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any) -> dict[str, Any]:
    steps_first = functional.log_softmax(logits, -1).movedim(1, 0)
    return {"output": functional.ctc_loss(steps_first, labels, logit_lengths, label_lengths, reduction="none")}


BASE = "torch.nn."
CLASSES = {"weight": "class_weights", "ignore_index": "ignored", "label_smoothing": "smoothing"}
WAYS = (
    Way(
        "reduced",
        (BASE + "L1Loss",),
        reduced,
        {
            "weights": lambda asked: "weights" in asked.arrays,
            "another denominator than rows": lambda asked: asked.configuration["denominator"] != "rows",
        },
    ),
    Way(
        "binary_cross_entropy",
        (BASE + "BCELoss",),
        binary_cross_entropy,
        departures=(
            Departure(
                "logarithms of -100 at least",
                "Both logarithms are cut at -100, and the gradient divides by p (1 - p) of 1e-12 at least.",
                like={"least_log": -100.0},
                when=lambda asked: "certain" in asked.arrays,
            ),
        ),
    ),
    Way(
        "binary_cross_entropy_with_logits",
        (BASE + "BCEWithLogitsLoss",),
        binary_cross_entropy_with_logits,
        {"smoothing": lambda asked: asked.configuration["smoothing"] != 0},
        words={"pos_weight": "positive_weight"},
    ),
    Way("cross_entropy", (BASE + "CrossEntropyLoss",), cross_entropy, words=CLASSES),
    Way("negative_log_likelihood", (BASE + "NLLLoss",), negative_log_likelihood, words=CLASSES),
    Way("soft_cross_entropy", (BASE + "CrossEntropyLoss",), soft_cross_entropy, words=CLASSES),
    Way("squared_error", (BASE + "MSELoss",), elementwise(functional.mse_loss)),
    Way("absolute_error", (BASE + "L1Loss",), elementwise(functional.l1_loss)),
    Way("huber", (BASE + "HuberLoss",), elementwise(functional.huber_loss)),
    Way("smooth_l1", (BASE + "SmoothL1Loss",), elementwise(functional.smooth_l1_loss)),
    Way("kl_divergence", (BASE + "KLDivLoss",), kl_divergence),
    Way(
        "cosine_similarity",
        (BASE + "CosineSimilarity",),
        cosine_similarity,
        departures=(
            Departure(
                "a gradient through epsilon",
                "Where epsilon is what divides, the gradient is still that of a division by the length.",
                size=1.0,  # the gradient has a part along the vector that it should not have, no larger than the rest
                results=("gradient of x",),
                when=lambda asked: bool(
                    (np.linalg.norm(asked.arrays["x"], axis=-1) < asked.configuration["epsilon"]).any()
                ),
            ),
        ),
    ),
    Way("ctc", (BASE + "CTCLoss",), ctc),
)
