"""Keras's activation functions, on TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Departure, Way, calling
from parity.tests.nn.ways.in_keras import applied


def prelu(x: Any, negative_slope: Any) -> dict[str, Any]:
    axes = len(x.shape) - len(negative_slope.shape)  # all but the batch's are shared, or all but the channels' as well
    layer = layers.PReLU(shared_axes=list(range(1, axes)), dtype=x.dtype)
    shape = (*(1 for _ in range(1, axes)), *negative_slope.shape)
    return {"output": applied(layer, x, tf.reshape(negative_slope, shape))[0]}


SLOPE = Departure(
    "slope in float32",
    "The slope is an attribute of TensorFlow's operation, a float32.",
    size=2**-24,
)
GELU = Departure(
    "constant in float32",
    "TensorFlow casts the root of 2 to the dtype of x by way of float32: 4e-9 off.",
    size=2**-24,
)
OF = "keras.activations"
SAME = ("relu", "sigmoid", "log_sigmoid", "tanh", "softmax", "log_softmax", "silu", "mish", "softplus", "softsign")
ALIKE = ("selu", "elu", "celu", "squareplus", "relu6", "hard_sigmoid", "hard_silu", "hard_tanh", "hard_shrink")
MORE = ("soft_shrink", "tanh_shrink", "sparse_plus", "sparse_sigmoid", "glu")
WAYS = (
    *(calling(name, f"{OF}.{name}") for name in (*SAME, *ALIKE, *MORE)),
    calling("gelu", f"{OF}.gelu", departures=(GELU,)),
    calling("gelu_tanh", f"{OF}.gelu", fixed={"approximate": True}, departures=(GELU,)),
    calling("leaky_relu", f"{OF}.leaky_relu", departures=(SLOPE,)),
    Way("prelu", ("keras.layers.PReLU",), prelu),
)
