"""The perceptron with one hidden layer in NumPy, derivatives by hand, the biases folded in as first rows."""

import numpy as np

from parity import nn
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def with_ones(x: Array) -> Array:
    return np.hstack([np.ones((len(x), 1), x.dtype), x])  # (n, k) -> (n, 1 + k)


def folded(params: Params, layer: str) -> Array:
    return np.vstack([params[f"{layer}/bias"], params[f"{layer}/kernel"]])  # (1 + in, out)


def forward(params: Params, x: Array) -> tuple[Array, tuple[Array, Array]]:
    x_1 = with_ones(x)
    a_1 = with_ones(nn.relu(x_1 @ folded(params, "dense1")))  # (n, 1 + features) -> (n, 1 + hidden)
    return a_1 @ folded(params, "dense2"), (x_1, a_1)  # (n, 1)


def backward(params: Params, cache: tuple[Array, Array], d_prediction: Array) -> Params:
    x_1, a_1 = cache
    d_w2 = a_1.T @ d_prediction
    d_a = d_prediction @ params["dense2/kernel"].T  # (n, hidden): the column of ones needs no gradient
    d_w1 = x_1.T @ nn.relu_backward(d_a, a_1[:, 1:])
    return {
        "dense1/kernel": d_w1[1:],
        "dense1/bias": d_w1[0],
        "dense2/kernel": d_w2[1:],
        "dense2/bias": d_w2[0],
    }


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
