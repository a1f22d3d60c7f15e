"""Keras's dropout, from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Arrays, Asked, Way


def dropout(x: Any, mask: Any, *, rate: float, training: bool) -> dict[str, Any]:
    return {"output": layers.Dropout(rate, seed=0, dtype=x.dtype)(x, training=training)}


def mask(asked: Asked) -> Arrays:
    """What is kept of ones is kept of all."""
    ones = tf.ones(asked.arrays["x"].shape, tf.float64)
    return {"mask": np.asarray(dropout(ones, None, **asked.configuration)["output"]) != 0}


WAYS = (Way("dropout", ("keras.layers.Dropout",), dropout, draws=mask),)
