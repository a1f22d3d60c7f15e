"""Softmax regression in NumPy, derivatives by hand."""

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, Array]:
    logits = x @ params["dense/kernel"] + params["dense/bias"]  # (n, pixels) -> (n, classes)
    return logits, x


def backward(params: Params, cache: Array, d_logits: Array) -> Params:
    x = cache
    return {"dense/kernel": x.T @ d_logits, "dense/bias": d_logits.sum(0)}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
