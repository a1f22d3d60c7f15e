"""Training in NumPy, written out: the reference that every other implementation is held against.

A model file gives two pure functions. ``forward(params, x)`` returns the prediction and a cache for the backward
pass. ``backward(params, cache, d_prediction)`` returns the gradient of every parameter that has one. They take their
nonlinearities from ``parity.nn``, as ``nn.relu``, so that a mistake in one can be replayed in every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.dtypes import NARROW, carrier
from parity.nn.losses import LOSSES, Loss
from parity.nn.narrow import narrowed
from parity.nn.updates import UPDATES, clipped, rule_at, slot_names
from parity.spec import Case
from parity.trainer import State, Trained
from parity.trainers.batches import all_rows
from parity.typing import Array, Batches, Params

Forward = Callable[..., tuple[Array, Any]]
"""``(params, x)`` to the prediction and whatever the backward pass needs; ``(params, x, training)`` in a case with
buffers, where a prediction reads them and training takes the statistics of the batch."""
Backward = Callable[[Params, Any, Array], Params]
"""``(params, cache, d_prediction)`` to the gradient of each parameter that has one, and to each buffer as the forward
pass of training leaves it."""


class NumpyTrainer:
    """The five verbs in NumPy, in any of its floating dtypes; the reference itself is checked in longdouble.

    Narrow dtypes are computed in float32 and rounded after every operation: see ``parity.nn.Narrow``. ``forward``,
    ``backward`` and ``loss`` may be replaced. ``loss`` gives the loss of each row and the derivatives.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16, bfloat16 or longdouble.
        forward: ``(params, x)`` to the prediction (batch, ...) and whatever ``backward`` needs; with ``training`` as a
            third argument if the case has buffers.
        backward: ``(params, cache, d_prediction)`` to the gradient of each parameter that has one; ``d_prediction`` is
            the derivative of the batch's loss by the prediction. It gives each buffer as it is after the update, too.
    """

    def __init__(self, case: Case, dtype: str, forward: Forward, backward: Backward) -> None:
        self.case, self.forward, self.backward = case, forward, backward
        self.dtype_name, self.dtype = dtype, carrier(dtype)
        self.loss: Loss = LOSSES[case.loss.kind]
        data = case.data()
        self.x, self.y = self._cast(data.x), self._cast(data.y)
        params = {name: self._cast(value) for name, value in case.initial().items()}
        slots = {
            f"{slot}/{name}": np.zeros_like(p)
            for slot in slot_names(case.optimizer)
            for name, p in case.trained(params).items()
        }
        self.state = State(params, slots)

    def predict(self, x: Array) -> Array:
        return self._predict(self._cast(x))

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = self._loss_and_gradients(self._cast(x), self._cast(y))
        gradients = {name: np.zeros_like(p) for name, p in self.state.params.items()} | found
        return self.dtype.type(loss), {
            name: np.asarray(g, self.dtype) for name, g in self.case.trained(gradients).items()
        }

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        losses = np.empty((len(segments), len(segments[0])), self.dtype)
        snapshots = {name: np.empty((len(segments), *p.shape), self.dtype) for name, p in self.state.params.items()}
        whole = all_rows(segments, len(self.x))
        asked = [(self._cast(x), list[Array]()) for x in inputs]
        for s, segment in enumerate(segments):
            for b, rows in enumerate(segment):
                x, y = (self.x, self.y) if whole else (self.x[rows], self.y[rows])
                losses[s, b], gradients = self._loss_and_gradients(x, y)
                self._update(gradients)
            for name, p in self.state.params.items():
                snapshots[name][s] = p
            for x, said in asked:
                said.append(self._predict(x))
        return Trained(losses, snapshots, tuple(np.stack(said) for _, said in asked))

    def export(self) -> State:
        params, slots = (
            {name: np.array(value, self.dtype, order="C") for name, value in kept.items()}
            for kept in (self.state.params, self.state.slots)
        )
        return State(params, slots, self.state.step)

    def load(self, state: State) -> None:
        slots = state.slots_at(1.0)
        self.state = State(
            {name: self._cast(state.params[name]) for name in self.state.params},
            {name: self._cast(slots[name]) for name in self.state.slots},
            state.step,
        )

    def _cast(self, values: Array) -> Array:
        """Copy floats in the run's dtype; return integers as they are."""
        if values.dtype.kind != "f":
            return values
        if self.dtype_name in NARROW:
            return narrowed(np.array(values), self.dtype_name)
        return values.astype(self.dtype)

    def _predict(self, x: Array) -> Array:
        return np.asarray(self._forward(x, training=False)[0], self.dtype)

    def _forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        if self.case.buffers:
            return self.forward(self.state.params, x, training)
        return self.forward(self.state.params, x)

    def _loss_and_gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        """The loss of one batch; the gradient of every parameter that has one, and the new value of every buffer."""
        prediction, cache = self._forward(x, training=True)
        losses, derivative = self.loss(prediction, y)
        if self.case.loss.reduction == "sum":
            return losses.sum(), self.backward(self.state.params, cache, derivative)
        return losses.mean(), self.backward(self.state.params, cache, derivative / losses.size)

    def _update(self, found: Params) -> None:
        # A parameter without a gradient is left alone, as torch leaves one whose gradient is None.
        self.state.step += 1
        update = UPDATES[type(self.case.optimizer)]
        for name in self.case.buffers:
            self.state.params[name] = np.asarray(found[name], self.dtype)
        for name, g in clipped(self.case.optimizer, self.case.trained(found)).items():
            rule = rule_at(self.case.optimizer, name, self.state.step)
            self.state.params[name] = update(rule, name, self.state.params[name], g, self.state)
