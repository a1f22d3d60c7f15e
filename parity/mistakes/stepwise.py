"""Take an implementation apart: its gradients are its own, and NumPy does everything around them."""

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
"""``(optimizer, name, p, g, state)`` to the parameter's new value, as ``nn.updates.sgd``. The rule changes the state's
slots; the state's step counts this update already. The optimizer has the learning rate of this update and the decay of
this parameter, and the gradient is clipped."""
Evaluate = Callable[[Gradients, Params, Array, Array], tuple[float, Params]]
"""``(gradients, params, x, y)`` to a loss and gradients, where ``gradients`` is the honest verb at these parameters."""


def unchanged(params: Params) -> Params:
    return params


def asked(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    return gradients(x, y)


def honest(optimizer: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
    """Make the update that the case asks for."""
    return nn.UPDATES[type(optimizer)](optimizer, name, p, g, state)


class Stepwise:
    """A trainer with the predictions, losses and gradients of an implementation, and NumPy's updates, in a run's dtype.

    ``view`` makes, of the run's parameters, those that the implementation works with; ``pull`` takes their gradients
    back to the run's own. ``evaluate`` may change loss and gradients after that, and ``rule`` makes the
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
            self._move_buffers(rows)
            for name, g in nn.clipped(self.case.optimizer, gradients).items():
                rule = nn.rule_at(self.case.optimizer, name, self.state.step)
                p = self.rule(rule, name, self.state.params[name], g, self.state)
                self.state.params[name] = p.astype(self.dtype, copy=False)
        params = {name: value[None].copy() for name, value in self.state.params.items()}
        return Trained(losses, params, predicted(self, inputs))

    def _move_buffers(self, rows: Array) -> None:
        """Move the buffers as an update of the implementation does, which begins where ``_show`` left it."""
        if self.case.buffers:
            self._show()
            self.trainer.train([(rows,)])
            moved = self.trainer.export().params
            self.state.params |= {name: moved[name].astype(self.dtype) for name in self.case.buffers}

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
    """Plant a mistake in the implementation taken apart by ``Stepwise``, which explains the arguments."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        near = off_initial(case)
        viewed = view(near)
        if view is not unchanged and all(np.array_equal(viewed[name], near[name]) for name in near):
            return ChangesNothing("the parameters that the layers work with are the same")
        return Stepwise(build(case, dtype, device), case, dtype, view, pull, evaluate, rule)

    return plant
