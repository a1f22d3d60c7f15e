"""Plant mistakes in the pieces of a NumPy model: its loss, its output, its functions, its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from parity import nn
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Plant, Unplanted
from parity.mistakes.planting import ROWS, off_initial, replaced
from parity.spec import Case
from parity.trainer import Build, Trainer
from parity.trainers.numpy_trainer import NumpyTrainer
from parity.typing import Array, Params


def on_pieces(change: Callable[[NumpyTrainer], None]) -> Plant:
    """Replace a piece of the NumPy implementation, if that changes its prediction, loss or gradients."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        trainer = build(case, dtype, device)
        if not isinstance(trainer, NumpyTrainer):
            return CannotBePlanted("it is made in the pieces of a NumPy model")
        before = _answers(trainer, case)
        change(trainer)
        after = _answers(trainer, case)
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))
        return ChangesNothing("prediction, loss and gradients are the same") if same else trainer

    return plant


@np.errstate(all="ignore")
def _answers(trainer: NumpyTrainer, case: Case) -> list[Array]:
    """Ask for prediction, loss and gradients on some rows, off the initial parameters; the trainer stays as it is."""
    kept, data = trainer.export(), case.data()
    x, y = data.x[:ROWS], data.y[:ROWS]
    trainer.load(replace(kept, params=off_initial(case)))
    loss, gradients = trainer.gradients(x, y)
    answers = [trainer.predict(x), np.asarray(loss), *gradients.values()]
    trainer.load(kept)
    return answers


def with_loss(loss: Callable[[nn.Loss], nn.Loss]) -> Plant:
    """Put ``loss(its own loss)`` in the place of the NumPy implementation's loss."""

    def change(trainer: NumpyTrainer) -> None:
        trainer.loss = loss(trainer.loss)

    return on_pieces(change)


def after_output(function: Callable[[Array], Array], derivative: Callable[[Array, Array], Array]) -> Plant:
    """Put ``function`` after the last layer of the NumPy implementation.

    ``derivative(d_output, output)`` is the loss's derivative by the function's input.
    """

    def change(trainer: NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def mistaken_forward(params: Params, x: Array, *training: bool) -> tuple[Array, Any]:
            prediction, cache = forward(params, x, *training)
            output = function(prediction)
            return output, (cache, output)

        def mistaken_backward(params: Params, cache: Any, d_output: Array) -> Params:
            inner, output = cache
            return backward(params, inner, derivative(d_output, output))

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return on_pieces(change)


def with_functions(module: ModuleType, **functions: Callable[..., Any]) -> Plant:
    """Put other functions in the place of a module's own while the NumPy implementation runs."""

    def change(trainer: NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def mistaken_forward(params: Params, x: Array, *training: bool) -> tuple[Array, Any]:
            with replaced(module, functions):
                return forward(params, x, *training)

        def mistaken_backward(params: Params, cache: Any, d_prediction: Array) -> Params:
            with replaced(module, functions):
                return backward(params, cache, d_prediction)

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return on_pieces(change)


def with_products(product: Callable[[Array, Array], Array]) -> Plant:
    """Let ``product`` make every matrix product of the NumPy implementation."""

    class Factor(np.ndarray):
        """An array whose matrix products ``product`` makes; every result of a computation with it is one, too."""

        __array_priority__ = 1

        def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
            plain = [_plain(value) for value in inputs]
            if ufunc is np.matmul and method == "__call__":
                result = product(*plain)
            else:
                kwargs |= {"out": tuple(_plain(value) for value in out)} if out else {}
                result = getattr(ufunc, method)(*plain, **kwargs)
            return result.view(Factor) if isinstance(result, np.ndarray) else result

    def change(trainer: NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def factors(params: Params) -> Params:
            return {name: p.view(Factor) for name, p in params.items()}

        def mistaken_forward(params: Params, x: Array, *training: bool) -> tuple[Array, Any]:
            prediction, cache = forward(factors(params), x.view(Factor), *training)
            return np.asarray(prediction), cache

        def mistaken_backward(params: Params, cache: Any, d_prediction: Array) -> Params:
            gradients = backward(factors(params), cache, d_prediction.view(Factor))
            return {name: np.asarray(g) for name, g in gradients.items()}

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return on_pieces(change)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value
