"""Logistic regression in NumPy, derivatives by hand."""

import numpy as np

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, tuple[Array, Array]]:
    z = x @ params["dense/kernel"] + params["dense/bias"]  # (n, features) -> (n, 1)
    # exp(-|z|) cannot overflow; for z < 0 the same value is e / (1 + e).
    e = np.exp(-np.abs(z))
    p = np.where(z >= 0, 1, e) / (1 + e)
    return p, (x, p)


def backward(params: Params, cache: tuple[Array, Array], d_p: Array) -> Params:
    x, p = cache
    d_z = d_p * p * (1 - p)  # (n, 1)
    return {"dense/kernel": x.T @ d_z, "dense/bias": d_z.sum(0)}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
