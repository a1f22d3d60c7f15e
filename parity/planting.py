"""How a porting mistake is put into an implementation that is right.

A plant takes what an implementation's ``build`` takes, and that ``build`` before it, and returns a trainer that makes
the mistake, or None where the mistake cannot be made or would change nothing. There are five kinds of them:

- on the case (``on_case``, ``on_rows``): another loss, optimizer or other data; in every framework;
- on the batch order (``in_order``): the trainer takes other rows than it is told to; in every framework;
- on a step (``stepwise``): loss and gradients are the framework's own, altered on their way out, or taken at altered
  parameters; what follows them is done in NumPy. Through the verbs alone, so in every framework;
- on the verbs themselves: a small class of its own;
- on the pieces of a NumPy model (``on_pieces``): its loss, what comes after its output, its nonlinearities, its
  products; and, with the same mistake made in PyTorch's words, on those of a torch model (``in_torch``).

Whether a mistake would change anything is decided alike for all mistakes of a kind, by what the case is: ``on_rows``
asks whether a training row differs; ``in_order`` whether a batch of the first epochs has other rows; ``stepwise``
with altered parameters whether any differs, and ``on_pieces`` whether prediction, loss or gradients do, both close to
the initial parameters but off them, because much that goes wrong with zeros looks right. The other kinds look at the
loss and the optimizer: there is no mistaken momentum where there is none; in torch nothing is asked, because the
reference was.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType, UnionType
from typing import Any

import numpy as np

from parity.dtypes import carrier
from parity.spec import Array, Batches, Case, Dataset, Optimizer, Params, Schedule
from parity.tolerance import Build
from parity.trainer import State, Trained, Trainer, joined, predicted
from parity.trainers import numpy_trainer as nn

Plant = Callable[[Build, Case, str, str], Trainer | None]
Gradients = Callable[[Array, Array], tuple[float, Params]]
"""The verb: ``(x, y)`` to the loss and the gradient of every parameter."""
Rule = Callable[[Any, str, Array, Array, State], Array]
"""As ``numpy_trainer.sgd``: the optimizer, the parameter's name, its value and gradient, and the state, whose slots
the rule changes and whose step counts this update already, to the parameter's new value."""
Evaluate = Callable[[Gradients, Params, Array, Array], tuple[float, Params]]
"""The honest verb, the parameters it is asked at, and its arguments; to what is said instead."""
Order = Callable[[Any, int], Iterator[Array] | None]
"""A schedule and the number of rows to the rows of one update after another, or None where it does not apply."""

EPOCHS = 3
"""Two batch orders that are the same for so many epochs are taken to be the same."""
OFFSET, ROWS = 0.1, 64
"""How far off the initial parameters, and on how many rows, it is seen whether a mistake changes anything."""


def on_case(change: Callable[[Case], Case | None]) -> Plant:
    """The implementation, built for another case; nowhere where ``change`` gives None."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        mistaken = change(case)
        return None if mistaken is None else build(mistaken, dtype, device)

    return plant


def on_optimizer(change: Callable[[Any], Optimizer | None], kind: type | UnionType) -> Plant:
    """The implementation with another optimizer, where the case's is of ``kind`` and ``change`` changes it."""

    def mistaken(case: Case) -> Case | None:
        optimizer = change(case.optimizer) if isinstance(case.optimizer, kind) else None
        return None if optimizer in (None, case.optimizer) else replace(case, optimizer=optimizer)

    return on_case(mistaken)


def on_rows(change: Callable[[Dataset, Case], Dataset | None]) -> Plant:
    """The implementation, trained on other rows; nowhere where ``change`` gives None or the same rows."""

    def mistaken(case: Case) -> Case | None:
        honest = case.data()
        data = change(honest, case)
        if data is None or (np.array_equal(data.x, honest.x) and np.array_equal(data.y, honest.y)):
            return None
        return replace(case, data=lambda: data)

    return on_case(mistaken)


def in_order(order: Order) -> Plant:
    """The implementation, given the rows of another order whatever rows it is told to take."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        rows = len(case.data().x)
        honest, mistaken = one_by_one(case.schedule, rows), order(case.schedule, rows)
        if mistaken is None:
            return None
        pairs = zip(itertools.islice(honest, EPOCHS * batches(case)), mistaken, strict=False)
        if all(_same_rows(a, b, case.schedule.ordered) for a, b in pairs):
            return None
        return Reordered(build(case, dtype, device), lambda: order(case.schedule, rows))

    return plant


def one_by_one(schedule: Schedule, rows: int) -> Iterator[Array]:
    """The rows of one update after another, without end."""
    return itertools.chain.from_iterable(schedule.epochs(rows))


def batches(case: Case) -> int:
    """The number of updates in an epoch."""
    return len(next(case.schedule.epochs(len(case.data().x))))


def _same_rows(a: Array, b: Array, ordered: bool) -> bool:
    # Where their order means nothing, rows in another order are the same batch.
    return np.array_equal(a, b) if ordered else np.array_equal(np.sort(a), np.sort(b))


class Reordered:
    """A trainer that takes the rows of another order, at the place in it that its step count says."""

    def __init__(self, trainer: Trainer, order: Callable[[], Iterator[Array] | None]) -> None:
        self.trainer, self.order, self.step = trainer, order, trainer.export().step
        self.predict, self.gradients, self.export = trainer.predict, trainer.gradients, trainer.export
        self.rows = self._from(self.step)

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        self.step += sum(map(len, segments))
        return self.trainer.train([tuple(next(self.rows) for _ in segment) for segment in segments], inputs)

    def load(self, state: State) -> None:
        self.trainer.load(state)
        if state.step != self.step:
            self.step, self.rows = state.step, self._from(state.step)

    def _from(self, step: int) -> Iterator[Array]:
        return itertools.islice(self.order() or (), step, None)


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


def stepwise(
    applies: Callable[[Case], bool],
    view: Callable[[Params], Params] = unchanged,
    pull: Callable[[Params], Params] = unchanged,
    evaluate: Evaluate = asked,
    rule: Rule = honest,
) -> Plant:
    """The implementation taken apart as ``Stepwise`` does, on the cases for which ``applies`` holds."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        near = off_initial(case)
        viewed = view(near)
        moved = view is unchanged or any(not np.array_equal(viewed[name], near[name]) for name in near)
        if not applies(case) or not moved:
            return None
        return Stepwise(build(case, dtype, device), case, dtype, view, pull, evaluate, rule)

    return plant


def off_initial(case: Case) -> Params:
    """Parameters close to the initial ones, none of them zero: the same at every call."""
    generator = np.random.default_rng(0)
    return {name: p + OFFSET * generator.standard_normal(p.shape) for name, p in case.initial().items()}


def where(applies: Callable[[Case], bool], plant: Plant) -> Plant:
    """The same plant, on the cases for which ``applies`` holds."""
    return lambda build, case, dtype, device: plant(build, case, dtype, device) if applies(case) else None


def on_pieces(change: Callable[[nn.NumpyTrainer], None]) -> Plant:
    """The NumPy implementation with a piece replaced, where that changes what it says."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        trainer = build(case, dtype, device)
        if not isinstance(trainer, nn.NumpyTrainer):
            return None
        before = _answers(trainer, case)
        change(trainer)
        after = _answers(trainer, case)
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))
        return None if same else trainer

    return plant


@np.errstate(all="ignore")
def _answers(trainer: nn.NumpyTrainer, case: Case) -> list[Array]:
    """Prediction, loss and gradients on some rows, off the initial parameters; the trainer stays as it is."""
    kept, data = trainer.export(), case.data()
    x, y = data.x[:ROWS], data.y[:ROWS]
    trainer.load(replace(kept, params=off_initial(case)))
    loss, gradients = trainer.gradients(x, y)
    answers = [trainer.predict(x), np.asarray(loss), *gradients.values()]
    trainer.load(kept)
    return answers


def with_loss(loss: Callable[[nn.Loss], nn.Loss], *kinds: str) -> Plant:
    """The NumPy implementation with ``loss(its own loss)`` where that is of one of the kinds."""

    def change(trainer: nn.NumpyTrainer) -> None:
        trainer.loss = loss(trainer.loss)

    return where(lambda case: case.loss.kind in kinds, on_pieces(change))


def after_output(function: Callable[[Array], Array], derivative: Callable[[Array, Array], Array], *kinds: str) -> Plant:
    """The NumPy implementation with ``function`` after its last layer, under a loss of one of the kinds.

    ``derivative(d_output, output)`` is that by the function's input.
    """

    def change(trainer: nn.NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def mistaken_forward(params: Params, x: Array) -> tuple[Array, Any]:
            prediction, cache = forward(params, x)
            output = function(prediction)
            return output, (cache, output)

        def mistaken_backward(params: Params, cache: Any, d_output: Array) -> Params:
            inner, output = cache
            return backward(params, inner, derivative(d_output, output))

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return where(lambda case: case.loss.kind in kinds, on_pieces(change))


def with_functions(module: ModuleType, **functions: Callable[..., Any]) -> Plant:
    """The NumPy implementation, with other functions in the place of a module's while it runs."""

    def change(trainer: nn.NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def mistaken_forward(params: Params, x: Array) -> tuple[Array, Any]:
            with replaced(module, functions):
                return forward(params, x)

        def mistaken_backward(params: Params, cache: Any, d_prediction: Array) -> Params:
            with replaced(module, functions):
                return backward(params, cache, d_prediction)

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return on_pieces(change)


@contextmanager
def replaced(owner: Any, functions: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Other functions in the place of an owner's, a module's or a class's, for as long as the context lasts."""
    kept = {name: getattr(owner, name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(owner, name, function)


def either(*plants: Plant) -> Plant:
    """The first of several plants that can be made: the same mistake, in the words of different frameworks."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        found = (one(build, case, dtype, device) for one in plants)
        return next((trainer for trainer in found if trainer is not None), None)

    return plant


def is_torch(trainer: Trainer) -> bool:
    """Whether it is the torch trainer; asked by name, because asking its class would import the framework."""
    return type(trainer).__module__ == "parity.trainers.torch_trainer"


def in_torch(change: Callable[[Any, Any, Case], None], *kinds: str) -> Plant:
    """The PyTorch implementation after ``change(torch, trainer, case)``, under a loss of one of the kinds, or any."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
        trainer = build(case, dtype, device)
        if not is_torch(trainer) or (kinds and case.loss.kind not in kinds):
            return None
        change(sys.modules["torch"], trainer, case)  # imported already: it is the trainer's own
        return trainer

    return plant


def torch_output(function: Callable[[Any, Any], Any], *kinds: str) -> Plant:
    """``function(torch, prediction)`` after a torch model's last layer."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        forward = trainer.forward
        trainer.forward = lambda params, x: function(torch, forward(params, x))

    return in_torch(change, *kinds)


def torch_loss(losses: Callable[[Any, Any, Any], Any], *kinds: str) -> Plant:
    """A torch model whose rows' losses are ``losses(torch, prediction, y)``."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        reduce = torch.sum if case.loss.reduction == "sum" else torch.mean
        trainer.cost = lambda prediction, y: reduce(losses(torch, prediction, y))

    return in_torch(change, *kinds)


def torch_functions(
    make: Callable[[Any, Any, Case], dict[str, Callable[..., Any]]],
    owner: Callable[[Any], Any] = lambda torch: torch.nn.functional,
) -> Plant:
    """A torch model with other functions, ``make(torch, trainer, case)``, in the place of an owner's as it runs."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        forward, functions = trainer.forward, make(torch, trainer, case)

        def mistaken(params: Any, x: Any) -> Any:
            with replaced(owner(torch), functions):
                return forward(params, x)

        trainer.forward = mistaken

    return in_torch(change)


def with_products(product: Callable[[Array, Array], Array]) -> Plant:
    """The NumPy implementation with every matrix product made by ``product``."""

    class Factor(np.ndarray):
        """An array whose products are ``product``'s, and so are those of whatever is computed from it."""

        __array_priority__ = 1

        def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
            plain = [_plain(value) for value in inputs]
            if ufunc is np.matmul and method == "__call__":
                result = product(*plain)
            else:
                kwargs |= {"out": tuple(_plain(value) for value in out)} if out else {}
                result = getattr(ufunc, method)(*plain, **kwargs)
            return result.view(Factor) if isinstance(result, np.ndarray) else result

    def change(trainer: nn.NumpyTrainer) -> None:
        forward, backward = trainer.forward, trainer.backward

        def factors(params: Params) -> Params:
            return {name: p.view(Factor) for name, p in params.items()}

        def mistaken_forward(params: Params, x: Array) -> tuple[Array, Any]:
            prediction, cache = forward(factors(params), x.view(Factor))
            return np.asarray(prediction), cache

        def mistaken_backward(params: Params, cache: Any, d_prediction: Array) -> Params:
            gradients = backward(factors(params), cache, d_prediction.view(Factor))
            return {name: np.asarray(g) for name, g in gradients.items()}

        trainer.forward, trainer.backward = mistaken_forward, mistaken_backward

    return on_pieces(change)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value
