"""A small network trained in NumPy and recorded deeply, in two ways that differ by the order of their sums alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parity.recorder import Recorder
from parity.tolerance import stir
from parity.typing import Array, Params

ROWS, BATCHES, INPUTS, HIDDEN, OUTPUTS = 64, 4, 6, 8, 3


@dataclass(frozen=True)
class Loop:
    """A training loop. ``other`` adds its sums up in another order, as another framework does."""

    dtype: str = "float32"
    other: bool = False
    axis: int = 0
    """Over what the hidden layer is normalized: 0 the batch, 1 the features. Over the batch, ``hidden/bias`` before it
    has no gradient but rounding."""
    epsilon: float = 1e-5
    rule: str = "sgd"
    rate: float = 2.0**-5
    adam_epsilon: float = 1e-8
    decay: float = 0.0
    clip: float = 0.0
    added: float = 0.0
    """Beside the norm of the gradients, where they are clipped."""
    unbiased: bool = False
    momentum: float = 0.0
    """The share of a batch in the running mean of the norm over the batch; without it none is kept."""
    epochs: int = 5
    deep: int = 20
    seed: int = 0
    stirred: int | None = None
    dropped: bool = False
    """The last batch of each epoch is left out."""
    without: str = ""
    """A parameter that is not recorded."""
    faster_from: int = 10**6
    """The update from which on the rate is doubled."""
    whole: bool = False
    """Whether gradients are recorded before they are clipped, too."""
    size: float = 1.0
    """Of the inputs. Where they are small, what is summed in ``hidden/bias``'s gradient is large beside the others."""
    layers: bool = False
    """Whether the hidden layer's output and its gradient are recorded."""
    late: bool = False
    """Whether the state is handed over after the forward pass, which has moved the running statistics by then."""
    bias_times: float = 1.0
    """By what the gradient of ``hidden/bias`` is multiplied."""

    def with_(self, **changes: Any) -> Loop:
        return replace(self, **changes)

    def record(self, folder: Path) -> Path:
        draw = np.random.RandomState(self.seed)
        x, y = draw.normal(size=(ROWS, INPUTS)), draw.normal(size=(ROWS, OUTPUTS))
        begun = {
            "hidden/kernel": draw.normal(size=(INPUTS, HIDDEN)) / np.sqrt(INPUTS),
            "hidden/bias": 0.1 * draw.normal(size=HIDDEN),
            "norm/scale": 1 + 0.1 * draw.normal(size=HIDDEN),
            "output/kernel": draw.normal(size=(HIDDEN, OUTPUTS)) / np.sqrt(HIDDEN),
            "output/bias": 0.1 * draw.normal(size=OUTPUTS),
        }
        params = {name: value.astype(self.dtype) for name, value in begun.items()}
        if self.stirred is not None:
            generator = np.random.default_rng(self.stirred)
            params = {name: stir(value, generator, self.dtype) for name, value in params.items()}
        x, y = (self.size * x).astype(self.dtype), y.astype(self.dtype)
        self._train(folder, x, y, params)
        return folder

    def _train(self, folder: Path, x: Array, y: Array, params: Params) -> None:
        real = np.dtype(self.dtype).type
        variance, mean = np.ones(HIDDEN, self.dtype), np.zeros(HIDDEN, self.dtype)
        moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in params.items()}
        update = 0

        def state() -> Params:
            every = params | ({"norm/variance": variance} if self.axis == 0 else {})
            every |= {"norm/mean": mean} if self.momentum else {}
            return {name: value for name, value in every.items() if name != self.without}

        with Recorder(folder, self.dtype, deep=self.deep) as run:
            run.snapshot(state())
            for epoch in range(self.epochs):
                order = np.random.RandomState(epoch).permutation(ROWS)
                batches = np.split(order, BATCHES)[: BATCHES - self.dropped]
                for rows in batches:
                    seen = self._forward_and_back(params, x[rows], y[rows])
                    loss, prediction, gradients, spread, inside = seen
                    gradients["hidden/bias"] = gradients["hidden/bias"] * real(self.bias_times)
                    taken = spread * real(len(rows) / (len(rows) - 1)) if self.unbiased else spread
                    share = real(self.momentum)
                    moved = (
                        mean + share * (self._mean(inside["hidden"], 0)[0] - mean),
                        real(0.9) * variance + real(0.1) * taken,
                    )
                    if self.late:
                        mean, variance = moved
                    before = gradients if self.whole else None
                    if self.clip:
                        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
                        factor = real(min(1.0, self.clip / (norm + self.added)))
                        gradients = {name: g * factor for name, g in gradients.items()}
                    run.step(
                        loss,
                        rows=rows,
                        prediction=prediction,
                        gradients={name: g for name, g in gradients.items() if name != self.without},
                        params=state(),
                        unclipped=before,
                        activations={"hidden": inside["hidden"]} if self.layers else None,
                        activation_gradients={"hidden": inside["gradient"]} if self.layers else None,
                    )
                    update += 1
                    mean, variance = moved
                    factor = real(2 if update > self.faster_from else 1)
                    for name, g in gradients.items():
                        params[name] = params[name] - factor * self._way(params[name], g, moments, name, update)
                run.snapshot(state())

    def _way(self, value: Array, g: Array, moments: dict[str, tuple[Array, Array]], name: str, update: int) -> Array:
        real = np.dtype(self.dtype).type
        rate = real(self.rate)
        if self.rule == "sgd":
            return rate * g
        first, second = moments[name]
        first, second = real(0.9) * first + real(0.1) * g, real(0.999) * second + real(0.001) * g * g
        moments[name] = first, second
        # One of the two corrects the rate, as some frameworks do, and the other the moments.
        one, two = real(1) - real(0.9) ** real(update), real(1) - real(0.999) ** real(update)
        if not self.other:
            one, two = real(1 - 0.9**update), real(1 - 0.999**update)
        way = rate * (first / one) / (np.sqrt(second / two) + real(self.adam_epsilon))
        return way + rate * real(self.decay) * value if self.decay else way

    def _matmul(self, a: Array, b: Array) -> Array:
        return np.ascontiguousarray(a[:, ::-1]) @ np.ascontiguousarray(b[::-1]) if self.other else a @ b

    def _mean(self, values: Array, axis: int) -> Array:
        turned = np.flip(values, axis) if self.other else values
        total = np.add.accumulate(turned, axis, dtype=self.dtype).take([-1], axis)
        return total / np.dtype(self.dtype).type(values.shape[axis])

    def _forward_and_back(self, p: Params, x: Array, y: Array) -> tuple[Array, Array, Params, Array, Params]:
        real = np.dtype(self.dtype).type
        z = self._matmul(x, p["hidden/kernel"]) + p["hidden/bias"]
        centred = z - self._mean(z, self.axis)
        spread = self._mean(centred * centred, self.axis)
        deviation = np.sqrt(spread + real(self.epsilon))
        normal = centred / deviation
        active = np.maximum(normal * p["norm/scale"], 0)
        prediction = self._matmul(active, p["output/kernel"]) + p["output/bias"]
        error = prediction - y
        loss = self._mean((error * error).reshape(-1, 1), 0)
        back = real(2 / error.size) * error
        d_active = self._matmul(back, p["output/kernel"].T) * (active > 0)
        d_normal = d_active * p["norm/scale"]
        even, along = self._mean(d_normal, self.axis), self._mean(d_normal * normal, self.axis)
        d_z = (d_normal - even - normal * along) / deviation
        gradients = {
            "hidden/kernel": self._matmul(x.T, d_z),
            "hidden/bias": self._mean(d_z, 0)[0] * real(len(x)),
            "norm/scale": (d_active * normal).sum(0),
            "output/kernel": self._matmul(active.T, back),
            "output/bias": back.sum(0),
        }
        spread = spread.reshape(-1)[:HIDDEN] if self.axis == 0 else spread
        return loss, prediction, gradients, spread, {"hidden": z, "gradient": d_z}
