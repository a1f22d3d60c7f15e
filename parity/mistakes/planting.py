"""How a porting mistake is put into an implementation that is right.

A plant takes what an implementation's ``build`` takes, and that ``build`` before it, and returns a trainer that makes
the mistake, or None where the mistake cannot be made or would change nothing. There are five kinds of them:

- on the case (``on_case``, ``on_rows``): another loss, optimizer or other data; in every framework;
- on the batch order (``in_order``): the trainer takes other rows than it is told to; in every framework;
- on a step (``on_step``): loss and gradients are the framework's own, altered on their way out, or taken at altered
  parameters; what follows them is done in NumPy. Through the verbs alone, so in every framework;
- on the verbs themselves: a small class of its own;
- on the pieces of a NumPy model (``on_pieces``): its loss, what comes after its output, its nonlinearities, its
  products; and, with the same mistake made in PyTorch's words, on those of a torch model (``in_torch``).

Whether a mistake would change anything is decided alike for all mistakes of a kind, by what the case is: ``on_rows``
asks whether a training row differs; ``in_order`` whether a batch of the first epochs has other rows; ``on_step``
with altered parameters whether any differs, and ``on_pieces`` whether prediction, loss or gradients do, both close to
the initial parameters but off them, because much that goes wrong with zeros looks right. The other kinds look at the
loss and the optimizer: there is no mistaken momentum where there is none; in torch nothing is asked, because the
reference was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import UnionType
from typing import Any

import numpy as np

from parity.mistakes.mistake import Plant
from parity.spec import Case, Dataset, Optimizer, Schedule
from parity.trainer import Build, State, Trained, Trainer, verbs
from parity.typing import Array, Batches, Params

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
        return reordered(build(case, dtype, device), lambda: order(case.schedule, rows) or iter(()))

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


def reordered(trainer: Trainer, order: Callable[[], Iterator[Array]]) -> Trainer:
    """A trainer that takes the rows of another order, at the place in it that its step count says."""

    def rows_from(step: int) -> Iterator[Array]:
        return itertools.islice(order(), step, None)

    done = trainer.export().step
    rows = rows_from(done)

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        nonlocal done
        done += sum(map(len, segments))
        return trainer.train([tuple(next(rows) for _ in segment) for segment in segments], inputs)

    def load(state: State) -> None:
        nonlocal done, rows
        trainer.load(state)
        if state.step != done:
            done, rows = state.step, rows_from(state.step)

    return replace(verbs(trainer), train=train, load=load)


def off_initial(case: Case) -> Params:
    """Parameters close to the initial ones, none of them zero: the same at every call."""
    generator = np.random.default_rng(0)
    return {name: p + OFFSET * generator.standard_normal(p.shape) for name, p in case.initial().items()}


def where(applies: Callable[[Case], bool], plant: Plant) -> Plant:
    """The same plant, on the cases for which ``applies`` holds."""
    return lambda build, case, dtype, device: plant(build, case, dtype, device) if applies(case) else None


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
