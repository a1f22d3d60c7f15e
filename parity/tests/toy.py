"""A model small enough to look through: linear with a square kernel, whose transpose has the same shape."""

from __future__ import annotations

from functools import partial

import numpy as np

from parity.spec import Adam, AdamW, Case, Dataset, Loss, Optimizer, Publication, Sgd, Shuffled
from parity.trainers.numpy_trainer import NumpyTrainer
from parity.typing import Array, Params

SIZE, ROWS = 3, 24


def data() -> Dataset:
    generator = np.random.RandomState(5)
    # The second column is small, so that its gradients are, too: there Adam's epsilon counts in float32 as well.
    x = generator.normal(size=(ROWS, SIZE)) * [1.0, 1e-4, 1.0]
    return Dataset(x, generator.normal(size=(ROWS, SIZE)))


def initial() -> Params:
    generator = np.random.RandomState(6)
    return {"dense/kernel": generator.normal(size=(SIZE, SIZE)), "dense/bias": generator.normal(size=SIZE)}


def case(optimizer: Optimizer) -> Case:
    """Three batches an epoch, six epochs."""
    return Case(
        name=f"toy-{type(optimizer).__name__}".lower(),
        data=data,
        initial=initial,
        loss=Loss("squared_error", "mean"),
        optimizer=optimizer,
        schedule=Shuffled(batch_size=ROWS // 3, seed=1),
        epochs=6,
        publication=Publication("made for the harness's own tests"),
    )


MOMENTUM = case(Sgd(learning_rate=0.1, momentum=0.9))
ADAM = case(Adam(learning_rate=0.1))
ADAMW = case(AdamW(learning_rate=0.1, weight_decay=0.1))


def forward(params: Params, x: Array, *, transposed: bool = False) -> tuple[Array, Array]:
    kernel = params["dense/kernel"]
    return x @ (kernel.T if transposed else kernel) + params["dense/bias"], x  # (n, 3) -> (n, 3)


def backward(params: Params, x: Array, d_prediction: Array, *, transposed: bool = False) -> Params:
    d_kernel = x.T @ d_prediction
    return {"dense/kernel": d_kernel.T if transposed else d_kernel, "dense/bias": d_prediction.sum(0)}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)


def build_transposed(case: Case, dtype: str, device: str) -> NumpyTrainer:
    """The same, taking its kernel for (out, in)."""
    return NumpyTrainer(case, dtype, partial(forward, transposed=True), partial(backward, transposed=True))
