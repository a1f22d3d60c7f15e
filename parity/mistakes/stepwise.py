"""An implementation taken apart step by step: its own gradients, everything around them in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity import nn
from parity.dtypes import carrier
from parity.mistakes.mistake import ChangesNothing, Gradients, Plant, Unplanted
from parity.mistakes.planting import off_initial
from parity.spec import Case, Optimizer
from parity.trainer import Build, State, Trained, Trainer, joined, predicted
from parity.typing import Array, Batches, Params

Rule = Callable[[Any, str, Array, Array, State], Array]
"""As ``numpy_trainer.sgd``: the optimizer, the parameter's name, its value and gradient, and the state, whose slots
the rule changes and whose step counts this update already, to the parameter's new value."""
Evaluate = Callable[[Gradients, Params, Array, Array], tuple[float, Params]]
"""The honest verb, the parameters it is asked at, and its arguments; to what is said instead."""


def unchanged(params: Params) -> Params:
    return params


def asked(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    return gradients(x, y)


def honest(optimizer: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
    """The update that the case asks for."""
    return nn.UPDATES[type(optimizer)](optimizer, name, p, g, state)


class Stepwise:
    """An implementation's predictions, losses and gradients; everything around them in NumPy, in the run's dtype.

    ``view`` gives the parameters that the implementation works with, in the place of the run's own; ``pull`` takes
    their gradients back to the run's own. ``evaluate`` has the last word on loss and gradients, ``rule`` makes the
    update. A rule may keep slots of its own: a state that lacks them begins them anew.
    """

    def __init__(
        self,
        trainer: Trainer,
        case: Case,
        dtype: str,
        view: Callable[[Params], Params] = unchanged,
        pull: Callable[[Params], Params] = unchanged,
        evaluate: Evaluate = asked,
        rule: Rule = honest,
    ) -> None:
        self.trainer, self.case, self.dtype, self.data = trainer, case, carrier(dtype), case.data()
        self.view, self.pull, self.evaluate, self.rule = view, pull, evaluate, rule
        self.rest = trainer.export()
        self.load(self.rest)

    @np.errstate(all="ignore")
    def predict(self, x: Array) -> Array:
        self._show()
        return self.trainer.predict(x)

    @np.errstate(all="ignore")
    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        self._show()
        return self.evaluate(self._honest, self.state.params, x, y)

    @np.errstate(all="ignore")
    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([self._segment(segment, inputs) for segment in segments])

    def export(self) -> State:
        return State(_copied(self.state.params, self.dtype), _copied(self.state.slots, self.dtype), self.state.step)

    def load(self, state: State) -> None:
        self.state = State(_copied(state.params, self.dtype), _copied(state.slots_at(1.0), self.dtype), state.step)

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        losses = np.empty((1, len(segment)), self.dtype)
        for b, rows in enumerate(segment):
            losses[0, b], gradients = self.gradients(self.data.x[rows], self.data.y[rows])
            self.state.step += 1
            for name, g in gradients.items():
                p = self.rule(self.case.optimizer, name, self.state.params[name], g, self.state)
                self.state.params[name] = p.astype(self.dtype, copy=False)
        params = {name: value[None].copy() for name, value in self.state.params.items()}
        return Trained(losses, params, predicted(self, inputs))

    def _show(self) -> None:
        self.trainer.load(replace(self.rest, params=self.view(self.state.params)))

    def _honest(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, gradients = self.trainer.gradients(x, y)
        return loss, self.pull(gradients)


def _copied(arrays: Params, dtype: np.dtype[Any]) -> Params:
    return {name: np.array(value, dtype) for name, value in arrays.items()}


def on_step(
    view: Callable[[Params], Params] = unchanged,
    pull: Callable[[Params], Params] = unchanged,
    evaluate: Evaluate = asked,
    rule: Rule = honest,
) -> Plant:
    """The implementation taken apart as ``Stepwise`` does."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        near = off_initial(case)
        viewed = view(near)
        if view is not unchanged and all(np.array_equal(viewed[name], near[name]) for name in near):
            return ChangesNothing("the parameters that the layers work with are the same")
        return Stepwise(build(case, dtype, device), case, dtype, view, pull, evaluate, rule)

    return plant
