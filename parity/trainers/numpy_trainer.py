"""Training in NumPy, written out: the reference that every other implementation is held against.

A model file gives two pure functions. ``forward(params, x)`` returns the prediction and whatever its backward
pass needs; ``backward(params, cache, d_prediction)`` returns the gradient of every parameter that has one. They take
their nonlinearities from here, as ``nn.relu``, so that a mistake in one can be replayed in every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.dtypes import NARROW, carrier, rounded, smallest
from parity.spec import Adam, AdamW, Array, Batches, Case, Optimizer, Params, Sgd
from parity.trainer import State, Trained, all_rows

Forward = Callable[[Params, Array], tuple[Array, Any]]
Backward = Callable[[Params, Any, Array], Params]
Loss = Callable[[Array, Array], tuple[Array, Array]]
"""``(prediction, y)`` to the loss of each row and the derivatives of their sum."""


def relu(x: Array) -> Array:
    """max(x, 0); NaN passes."""
    return np.maximum(x, 0)


def relu_backward(d_output: Array, output: Array) -> Array:
    """The derivative by the input: 0 where the output is exactly 0, as every framework's relu has it."""
    return d_output * (output > 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). As exp(-|x|) cannot overflow, the value for x < 0 is taken as e / (1 + e)."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(d_output: Array, output: Array) -> Array:
    """The derivative by the input."""
    return d_output * output * (1 - output)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log Σ exp(x) along ``axis``, which cannot overflow."""
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_backward(d_output: Array, output: Array, axis: int = -1) -> Array:
    """The derivative by the input."""
    return d_output - np.exp(output) * d_output.sum(axis, keepdims=True)


def binary_crossentropy(p: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, as torch's BCELoss has them: logs clamped at -100, p (1 - p) at 1e-12.

    The clamps matter where float32 rounds a probability to 0 or 1: without them the gradient is NaN.
    """
    with np.errstate(divide="ignore"):
        loss = -(y * np.maximum(np.log(p), -100) + (1 - y) * np.maximum(np.log1p(-p), -100))
    # In float16 the clamp would be 0, and 0 / 0 the derivative of a row that is right beyond doubt.
    least = max(1e-12, smallest(p.narrow if isinstance(p, Narrow) else p.dtype.name))
    return loss, (p - y) / np.maximum(p * (1 - p), least)


def crossentropy(logits: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, from logits ``(n, classes)`` and integer classes ``(n,)``.

    Softmax and logarithm are one step: the logarithm of a softmax that underflowed would be infinite.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(-1, keepdims=True)
    rows = np.arange(len(y))
    derivative = exponential / total
    derivative[rows, y] -= 1
    return np.log(total[:, 0]) - shifted[rows, y], derivative


def nll(log_probabilities: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, from log-probabilities ``(n, classes)`` and integer classes ``(n,)``."""
    rows = np.arange(len(y))
    derivative = np.zeros_like(log_probabilities)
    derivative[rows, y] = -1
    return -log_probabilities[rows, y], derivative


def squared_error(prediction: Array, y: Array) -> tuple[Array, Array]:
    """Squared error, not halved, and its derivative."""
    error = prediction - y
    return error * error, 2 * error


def total(prediction: Array, y: Array) -> tuple[Array, Array]:
    """The predictions themselves, whose sum differentiates each output by its own input."""
    return prediction, np.ones_like(prediction)


LOSSES = {
    "binary_crossentropy": binary_crossentropy,
    "crossentropy": crossentropy,
    "nll": nll,
    "squared_error": squared_error,
    "total": total,
}


def sgd(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    """The parameter after one step; see ``parity.spec.Sgd``."""
    if rule.weight_decay:
        g = g + rule.weight_decay * p
    if rule.momentum:
        slot = f"momentum/{name}"
        g = state.slots[slot] = rule.momentum * state.slots[slot] + g
    return p - rule.learning_rate * g


def adam(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """The parameter after one step; see ``parity.spec.Adam``. ``state.step`` counts this step already."""
    first, second = f"first_moment/{name}", f"second_moment/{name}"
    m = state.slots[first] = rule.beta1 * state.slots[first] + (1 - rule.beta1) * g
    v = state.slots[second] = rule.beta2 * state.slots[second] + (1 - rule.beta2) * (g * g)
    m_scale = rule.learning_rate / (1 - rule.beta1**state.step)
    v_scale = (1 - rule.beta2**state.step) ** 0.5
    return decayed(rule, p) - m_scale * (m / (np.sqrt(v) / v_scale + rule.epsilon))


def decayed(rule: Adam, p: Array) -> Array:
    """The parameter that Adam's step is taken from."""
    return p - rule.learning_rate * rule.weight_decay * p if isinstance(rule, AdamW) else p


UPDATES: dict[type, Callable[..., Array]] = {Sgd: sgd, Adam: adam, AdamW: adam}


def slot_names(optimizer: Optimizer) -> tuple[str, ...]:
    """The slots that an optimizer keeps for each parameter, by canonical name."""
    if isinstance(optimizer, Adam):
        return ("first_moment", "second_moment")
    return ("momentum",) if optimizer.momentum else ()


class Narrow(np.ndarray):
    """A float32 array every one of whose results is rounded to a narrow dtype, as processors have it.

    They add up in float32 and keep what comes of an operation in two bytes. Sums and matrix products are one
    operation each. What is computed from such an array is one.
    """

    narrow: str

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
        plain = [_plain(value) for value in inputs]
        if out:
            kwargs["out"] = tuple(_plain(value) for value in out)
        result = getattr(ufunc, method)(*plain, **kwargs)
        for written in inputs[:1] if method == "at" else out:
            _plain(written)[...] = rounded(_plain(written), self.narrow)
        if method == "at":
            return None
        if out:
            return out[0] if len(out) == 1 else out
        return _narrow(result, self.narrow) if _is_float(result) else result


class Float16(Narrow):
    narrow = "float16"


class Bfloat16(Narrow):
    narrow = "bfloat16"


_NARROW = {kind.narrow: kind for kind in (Float16, Bfloat16)}


def _narrow(values: Any, dtype: str) -> Narrow:
    return rounded(np.asarray(values), dtype).astype(np.float32, copy=False).view(_NARROW[dtype])


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value


def _is_float(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "f"


class NumpyTrainer:
    """The five verbs in NumPy, in any floating dtype that it has: longdouble checks the reference itself.

    The narrow ones are worked out in float32 and rounded after every operation; see ``Narrow``.
    ``forward``, ``backward`` and ``loss``, the losses of a batch's rows and their derivative, may be replaced.
    """

    def __init__(self, case: Case, dtype: str, forward: Forward, backward: Backward) -> None:
        self.case, self.name, self.dtype, self.forward, self.backward = case, dtype, carrier(dtype), forward, backward
        self.loss: Loss = LOSSES[case.loss.kind]
        data = case.data()
        self.x, self.y = self._cast(data.x), self._cast(data.y)
        params = {name: self._cast(value) for name, value in case.initial().items()}
        slots = {
            f"{slot}/{name}": np.zeros_like(p) for slot in slot_names(case.optimizer) for name, p in params.items()
        }
        self.state = State(params, slots)

    def predict(self, x: Array) -> Array:
        return self._predict(self._cast(x))

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, gradients = self._loss_and_gradients(self._cast(x), self._cast(y))
        missing = {name: np.zeros_like(p) for name, p in self.state.params.items() if name not in gradients}
        return self.dtype.type(loss), {name: np.asarray(g, self.dtype) for name, g in (gradients | missing).items()}

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
        """A copy in the run's dtype of floats; integers as they are."""
        if values.dtype.kind != "f":
            return values
        if self.name in NARROW:
            return _narrow(np.array(values), self.name)
        return values.astype(self.dtype)

    def _predict(self, x: Array) -> Array:
        return np.asarray(self.forward(self.state.params, x)[0], self.dtype)

    def _loss_and_gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        prediction, cache = self.forward(self.state.params, x)
        losses, derivative = self.loss(prediction, y)
        if self.case.loss.reduction == "sum":
            return losses.sum(), self.backward(self.state.params, cache, derivative)
        return losses.mean(), self.backward(self.state.params, cache, derivative / losses.size)

    def _update(self, gradients: Params) -> None:
        # A parameter without a gradient is left alone, as torch leaves one whose gradient is None.
        self.state.step += 1
        update = UPDATES[type(self.case.optimizer)]
        for name, g in gradients.items():
            self.state.params[name] = update(self.case.optimizer, name, self.state.params[name], g, self.state)
