"""Activation functions and their derivatives in NumPy, written out."""

import numpy as np

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def relu(x: Array) -> tuple[Array, Array]:
    # np.maximum keeps NaN. At 0 the derivative is 0, as in every framework.
    return np.maximum(x, 0), (x > 0).astype(x.dtype)


# Below, e = exp(-|x|) cannot overflow, and no derivative is a difference of two numbers near 1.


def sigmoid(x: Array) -> tuple[Array, Array]:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e), e / ((1 + e) * (1 + e))


def tanh(x: Array) -> tuple[Array, Array]:
    e = np.exp(-np.abs(x))
    sech = 2 * e / (1 + e * e)
    return np.copysign(-np.expm1(-np.abs(x)) * (1 + e) / (1 + e * e), x), sech * sech


FUNCTIONS = {"relu": relu, "sigmoid": sigmoid, "tanh": tanh}

Cache = dict[str, tuple[Array, Array]]


def forward(params: Params, x: Array) -> tuple[Array, Cache]:
    cache = {name: function(x + params[f"{name}/shift"]) for name, function in FUNCTIONS.items()}
    columns = [params[f"{name}/scale"] * value for name, (value, _) in cache.items()]
    return np.stack(columns, -1), cache  # (n, points) -> (n, points, 3)


def backward(params: Params, cache: Cache, d_prediction: Array) -> Params:
    gradients = {}
    for column, (name, (value, derivative)) in enumerate(cache.items()):
        d = d_prediction[..., column]  # (n, points)
        gradients[f"{name}/shift"] = (d * params[f"{name}/scale"] * derivative).sum(0)
        gradients[f"{name}/scale"] = (d * value).sum(0)
    return gradients


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
