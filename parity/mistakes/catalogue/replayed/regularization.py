"""Mistakes in dropout. What was dropped is known by the zeros that it left."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, becomes, fitted
from parity.nn.layers import Call
from parity.typing import Array


def dropped(call: Call, seen: Array) -> tuple[Array, float] | None:
    """Where values were kept, and by what they were multiplied; None if nothing was dropped at random.

    What a function cuts off, as ReLU does, lies beyond all that it keeps.
    """
    kept = seen != 0
    size, lost = float(np.sum(call.x[kept] ** 2)), call.x[~kept]
    if not size or not np.any(lost):
        return None
    if lost.max() < call.x[kept].min() or np.abs(lost).max() < np.abs(call.x[kept]).min():
        return None
    return kept, float(np.sum(call.x[kept] * seen[kept])) / size


def left_on(call: Call, seen: Array) -> Iterator[Made]:
    found = dropped(call, seen)
    if found is not None and found[1] > 1 + 1e-6:
        kept, factor = found
        yield from fitted(1 - 1 / factor, None, "rate", lambda rate: np.where(kept, call.x / (1 - rate), 0))


def not_rescaled(call: Call, seen: Array) -> Iterator[Made]:
    found = dropped(call, seen)
    if found is not None:
        yield Made(np.where(found[0], call.x, 0))


def keep_probability(call: Call, seen: Array) -> Iterator[Made]:
    found, right = dropped(call, seen), call.settings["rate"]
    if found is not None and 0 < right < 1 and right != 0.5:
        yield Made(np.where(found[0], call.x / right, 0))


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="dropout-left-on",
        kinds=("identity",),
        sentence="Dropout is on where it should be off.",
        reference="Academic-Hammer/SciTSR#16; pytorch/pytorch#26338",
        wrong=left_on,
    ),
    LayerMistake(
        name="dropout-left-off",
        kinds=("dropout",),
        sentence="Dropout is off where it should be on, as after an evaluation that nobody ended.",
        reference="google-research/vision_transformer#19; shubhamagarwal92/mmd#14",
        wrong=becomes("identity"),
    ),
    LayerMistake(
        name="dropout-not-rescaled",
        kinds=("identity", "dropout"),
        sentence="Dropout does not divide what it keeps by the share that is kept.",
        reference="kbreininger/tutorial-dlframework#3",
        wrong=not_rescaled,
    ),
    LayerMistake(
        name="keep-probability-for-dropout-rate",
        kinds=("dropout",),
        sentence="The probability to keep a value is taken for the rate at which values are dropped, or the reverse.",
        reference="aymericdamien/TensorFlow-Examples#205; titu1994/Inception-v4#5",
        wrong=keep_probability,
    ),
)
