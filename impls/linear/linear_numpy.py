"""Linear regression in NumPy, the bias as the weight of a column of ones, derivatives by hand."""

import numpy as np

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, Array]:
    rows = np.hstack([np.ones((len(x), 1), x.dtype), x])  # (n, features) -> (n, 1 + features)
    theta = np.vstack([params["dense/bias"], params["dense/kernel"]])  # (1 + features, 1)
    return rows @ theta, rows


def backward(params: Params, rows: Array, d_prediction: Array) -> Params:
    d_theta = rows.T @ d_prediction  # (1 + features, 1)
    return {"dense/kernel": d_theta[1:], "dense/bias": d_theta[0]}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
