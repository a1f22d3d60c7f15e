"""TensorFlow's activation functions."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Departure, Way, calling

SLOPE = Departure("slope in float32", "The slope is an attribute of the operation, a float32.", size=2**-24)
GELU = Departure(
    "constant in float32",
    "The root of 2 is cast to the dtype of x by way of float32: 4e-9 off.",
    size=2**-24,
)
TF = "tensorflow.compat.v1"
WAYS = (
    *(calling(name, f"{TF}.nn.{name}") for name in ("relu", "relu6", "sigmoid", "tanh", "softplus", "softsign")),
    *(calling(name, f"{TF}.nn.{name}") for name in ("softmax", "log_softmax", "selu", "silu")),
    calling("log_sigmoid", f"{TF}.math.log_sigmoid"),
    calling("gelu", "tensorflow.nn.gelu", departures=(GELU,)),
    calling("gelu_tanh", "tensorflow.nn.gelu", fixed={"approximate": True}, departures=(GELU,)),
    calling("leaky_relu", f"{TF}.nn.leaky_relu", {"negative_slope": "alpha"}, departures=(SLOPE,)),
    Way(
        "elu",
        (f"{TF}.nn.elu",),
        lambda x, alpha: {"output": tf.nn.elu(x)},
        cannot={"an alpha other than 1": lambda asked: asked.configuration["alpha"] != 1},
    ),
)
