"""Logistic regression in NumPy, derivatives by hand."""

from parity import nn
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, tuple[Array, Array]]:
    z = x @ params["dense/kernel"] + params["dense/bias"]  # (n, features) -> (n, 1)
    p = nn.sigmoid(z)
    return p, (x, p)


def backward(params: Params, cache: tuple[Array, Array], d_p: Array) -> Params:
    x, p = cache
    d_z = nn.sigmoid_backward(d_p, p)  # (n, 1)
    return {"dense/kernel": x.T @ d_z, "dense/bias": d_z.sum(0)}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
