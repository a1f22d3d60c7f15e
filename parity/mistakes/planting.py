"""Put a porting mistake into an implementation that is right.

A plant takes an implementation's ``build`` and the arguments of that, ``(case, dtype, device)``. It returns a trainer
that makes the mistake; ``CannotBePlanted`` if the implementation, or a run of that dtype, cannot make it; or
``ChangesNothing`` if the run would be the same without it. There are five kinds of plants:

- On the case (``on_case``, ``on_optimizer``, ``on_rows``): another loss, another optimizer, other data. In every
  framework.
- On the batch order (``in_order``): the trainer takes other rows than it is told to. In every framework.
- On a step (``on_step``): loss and gradients are the framework's own, altered on their way out, or taken at altered
  parameters; NumPy makes the update. Only the verbs are called, so in every framework.
- On the verbs themselves (``parity.trainer.verbs``): some of them are replaced. In every framework.
- On the pieces of a NumPy model (``on_pieces``): its loss, its output, its nonlinearities, its products; and the same
  mistake in PyTorch's words on the pieces of a torch model (``in_torch``).

Each kind decides in one way whether a mistake would change anything. ``on_rows`` asks whether a training row differs,
``on_optimizer`` whether the optimizer differs, ``in_order`` whether a batch of the first epochs has other rows.
``on_step`` asks whether a parameter is altered, and ``on_pieces`` whether prediction, loss or gradients are: both near
the initial parameters but not at them, because a mistake often looks right with zeros. ``in_torch`` asks nothing,
because the reference was asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Plant, Unplanted
from parity.spec import Case, Dataset, Optimizer, Schedule
from parity.trainer import Build, State, Trained, Trainer, verbs
from parity.typing import Array, Batches, Params

Order = Callable[[Any, int], Iterator[Array]]
"""``(schedule, rows)`` to the rows of one update after another, where ``rows`` is the number of rows."""
EPOCHS = 3
"""Two batch orders that are the same for this many epochs are taken to be the same."""
OFFSET, ROWS = 0.1, 64
"""Whether a mistake changes anything is tried this far off the initial parameters, on this many rows."""


def on_case(change: Callable[[Case], Case | Unplanted]) -> Plant:
    """Build the implementation for another case."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        mistaken = change(case)
        return mistaken if isinstance(mistaken, Unplanted) else build(mistaken, dtype, device)

    return plant


def on_optimizer(change: Callable[[Any], Optimizer]) -> Plant:
    """Build the implementation with another optimizer."""

    def mistaken(case: Case) -> Case | Unplanted:
        optimizer = change(case.optimizer)
        if optimizer == case.optimizer:
            return ChangesNothing(f"the optimizer is the same: {optimizer}")
        return replace(case, optimizer=optimizer)

    return on_case(mistaken)


def on_rows(change: Callable[[Dataset, Case], Dataset]) -> Plant:
    """Build the implementation on other rows."""

    def mistaken(case: Case) -> Case | Unplanted:
        honest = case.data()
        data = change(honest, case)
        if np.array_equal(data.x, honest.x) and np.array_equal(data.y, honest.y):
            return ChangesNothing("the training rows are the same")
        return replace(case, data=lambda: data)

    return on_case(mistaken)


def in_order(order: Order) -> Plant:
    """Give the implementation the rows of another order, whatever rows it is told to take."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        rows = len(case.data().x)
        honest, mistaken = one_by_one(case.schedule, rows), order(case.schedule, rows)
        pairs = zip(itertools.islice(honest, EPOCHS * batches(case)), mistaken, strict=False)
        if all(_same_rows(a, b, case.schedule.ordered) for a, b in pairs):
            return ChangesNothing(f"the batches of {EPOCHS} epochs have the same rows")
        return reordered(build(case, dtype, device), lambda: order(case.schedule, rows))

    return plant


def one_by_one(schedule: Schedule, rows: int) -> Iterator[Array]:
    """List the rows of one update after another, without end."""
    return itertools.chain.from_iterable(schedule.epochs(rows))


def batches(case: Case) -> int:
    """Count the updates of an epoch."""
    return len(next(case.schedule.epochs(len(case.data().x))))


def _same_rows(a: Array, b: Array, ordered: bool) -> bool:
    # Where their order means nothing, rows in another order are the same batch.
    return np.array_equal(a, b) if ordered else np.array_equal(np.sort(a), np.sort(b))


def reordered(trainer: Trainer, order: Callable[[], Iterator[Array]]) -> Trainer:
    """Give a trainer the rows of another order, from the place in it that its step count says."""

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
    """Make parameters near the initial ones, none of them zero; the same at every call."""
    generator = np.random.default_rng(0)
    return {name: p + OFFSET * generator.standard_normal(p.shape) for name, p in case.initial().items()}


@contextmanager
def replaced(owner: Any, functions: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Put other functions in the place of a module's or a class's own, as long as the context lasts."""
    kept = {name: getattr(owner, name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(owner, name, function)


def either(*plants: Plant) -> Plant:
    """Plant a mistake in the words of the first framework that can say it."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        refused: list[Unplanted] = []
        for one in plants:
            found = one(build, case, dtype, device)
            if not isinstance(found, Unplanted):
                return found
            refused.append(found)
        # If the mistake changes nothing in the one framework that can make it, that says more.
        without_effect = next((why for why in refused if isinstance(why, ChangesNothing)), None)
        return without_effect or CannotBePlanted("; ".join(refusal.why for refusal in refused))

    return plant
