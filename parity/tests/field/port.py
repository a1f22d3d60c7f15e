"""A loop as somebody might port it: a perceptron in NumPy, with one thing that may be done otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.explaining.folders import explain_folders
from parity.judging.floors.known import NOTHING
from parity.recorder import Recorder
from parity.spec import Optimizer
from parity.typing import Array, Params

ROWS, BATCH, INPUTS, WIDTH, OUTPUTS = 96, 12, 5, 6, 4
UPDATES = 16
Step = Callable[[int, Params, Params], Params]
"""``(update, params, gradients)`` to the new parameters; updates count from 1."""


def weights(seed: int = 3) -> Params:
    generator = np.random.default_rng(seed)
    shapes = {"hidden/kernel": (INPUTS, WIDTH), "hidden/bias": (WIDTH,), "output/kernel": (WIDTH, OUTPUTS)}
    return {name: generator.normal(0, 0.5, shape) for name, shape in (shapes | {"output/bias": (OUTPUTS,)}).items()}


def loss_and_gradients(params: Params, x: Array, y: Array) -> tuple[float, Array, Params]:
    """A squared error, averaged over all outputs."""
    hidden = np.tanh(x @ params["hidden/kernel"] + params["hidden/bias"])
    prediction = hidden @ params["output/kernel"] + params["output/bias"]
    back = 2 * (prediction - y) / y.size
    through = (back @ params["output/kernel"].T) * (1 - hidden**2)
    gradients = {
        "hidden/kernel": x.T @ through,
        "hidden/bias": through.sum(0),
        "output/kernel": hidden.T @ back,
        "output/bias": back.sum(0),
    }
    return float(np.mean((prediction - y) ** 2)), prediction, gradients


def run(
    folder: Path,
    dtype: str = "float64",
    *,
    step: Step,
    said: Optimizer | None = None,
    change: Callable[[float, Params], tuple[float, Params]] = lambda loss, gradients: (loss, gradients),
    slots: Callable[[int], Mapping[str, Params]] | None = None,
    unclipped: bool = False,
    rates: Callable[[int], float] | None = None,
) -> Path:
    """Record the loop. ``change`` makes loss and gradients what the optimizer gets; ``step`` makes the update."""
    generator, kind = np.random.default_rng(1), np.dtype(dtype).type
    x, y = generator.normal(size=(ROWS, INPUTS)).astype(kind), generator.normal(size=(ROWS, OUTPUTS)).astype(kind)
    params = {name: value.astype(kind) for name, value in weights().items()}
    order = np.random.default_rng(2)
    with Recorder(folder, dtype, deep=UPDATES, optimizer=said) as recording:
        recording.snapshot(params)
        for update in range(1, UPDATES + 5):
            rows = order.permutation(ROWS)[:BATCH]
            loss, prediction, raw = loss_and_gradients(params, x[rows], y[rows])
            loss, gradients = change(loss, raw)
            gradients = {name: g.astype(kind) for name, g in gradients.items()}
            more: dict[str, Any] = {"slots": slots(update)} if slots else {}
            more |= {"unclipped": raw} if unclipped else {}
            more |= {"learning_rate": rates(update)} if rates else {}
            recording.step(loss, rows=rows, prediction=prediction, gradients=gradients, params=params, **more)
            params = {name: value.astype(kind) for name, value in step(update, params, gradients).items()}
            recording.snapshot(params)
    return folder


def sgd(
    rate: float | Callable[[int], float] = 0.1, momentum: float = 0.0, decay: Mapping[str, float] | float = 0.0
) -> Step:
    """Stochastic gradient descent; the decay may be of each tensor."""
    velocity: Params = {}

    def step(update: int, params: Params, gradients: Params) -> Params:
        now = rate(update) if callable(rate) else rate
        made = {}
        for name, p in params.items():
            d = gradients[name] + (decay if isinstance(decay, float) else decay.get(name, 0.0)) * p
            velocity[name] = momentum * velocity.get(name, 0) + d
            made[name] = p - now * velocity[name]
        return made

    return step


def adamw(
    rate: float | Callable[[int], float] = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    decay: Mapping[str, float] | float = 0.0,
) -> Step:
    """AdamW; the decay may be of each tensor."""
    first: Params = {}
    second: Params = {}

    def step(update: int, params: Params, gradients: Params) -> Params:
        now = rate(update) if callable(rate) else rate
        made = {}
        for name, p in params.items():
            g = gradients[name].astype(np.float64)
            first[name] = beta1 * first.get(name, 0) + (1 - beta1) * g
            second[name] = beta2 * second.get(name, 0) + (1 - beta2) * g * g
            m, v = first[name] / (1 - beta1**update), second[name] / (1 - beta2**update)
            mine = decay if isinstance(decay, float) else decay.get(name, 0.0)
            made[name] = p - now * mine * p - now * m / (np.sqrt(v) + epsilon)
        return made

    return step


def norm(gradients: Params) -> float:
    return math.hypot(*(float(np.linalg.norm(g)) for g in gradients.values()))


def explained(a: Path, b: Path) -> dict[str, Any]:
    """Explain two recordings, which must differ."""
    _, found = explain_folders(NOTHING, a, b, (), None, lambda entry, second: {})
    assert found is not None
    return found
