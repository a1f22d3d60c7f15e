"""What an optimizer gets: the gradients that a run recorded, put together and clipped as asked, and learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.dtypes import unit
from parity.recording.steps import Lazy, Step
from parity.rules import Listed
from parity.spec import Clipping, Optimizer
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array, Params


class Norms:
    """The sizes of the gradients that a run recorded, each update's once."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._known: dict[int, dict[str, float]] = {}

    def __call__(self, number: int) -> Mapping[str, float]:
        """Give the norm of each gradient of an update."""
        if number not in self._known:
            gradients = self._steps[number].gradients
            self._known[number] = {
                name: float(np.linalg.norm(np.asarray(g, np.float64))) for name, g in gradients.items()
            }
        return self._known[number]

    def whole(self, number: int) -> float:
        """Give the norm of all gradients of an update together."""
        return float(np.linalg.norm(list(self(number).values())))

    def largest(self, number: int) -> float:
        """Give the largest size of an element of any gradient of an update."""
        return max((float(np.max(np.abs(g), initial=0.0)) for g in self._steps[number].gradients.values()), default=0.0)


def asks_to_clip(asked: Clipping, run: Trajectory, norms: Norms, updates: int) -> bool:
    """Tell whether recorded gradients are still to be clipped.

    A suite records them as differentiation gives them; a watcher, and a loop that is recorded by hand, as the
    optimizer gets them. Then those before may be recorded beside them, or all keep to the limit already.
    """
    if any(name.partition("/")[2].startswith("unclipped/") for name in run.steps):
        return False
    limit = asked.limit * (1 + FACTOR * unit(str(run.meta["dtype"])))
    sizes = {"value": norms.largest, "global_norm": norms.whole}
    size = sizes.get(asked.kind)
    each = (size(number) if size else max(norms(number).values(), default=0.0) for number in range(updates))
    return any(one > limit for one in each)


def shortened(asked: Clipping | None, gradient: Array, own: Array | float, whole: Array | float) -> Array:
    """Clip values of one gradient or several, given the norms that are too long.

    Args:
        asked: How; None leaves them as they are.
        gradient: Values of any shape, float64.
        own: The norm of the tensor that each is of.
        whole: The norm of all tensors together.

    Returns:
        The same shape.

    >>> shortened(Clipping("norm", 1.0), np.array([3.0]), 5.0, 10.0), shortened(None, np.array([3.0]), 5.0, 10.0)
    (array([0.6]), array([3.]))
    """
    if asked is None:
        return gradient
    if asked.kind == "value":
        cut: Array = np.clip(gradient, -asked.limit, asked.limit)
        return cut
    found: Array = gradient * (
        asked.limit / np.maximum((own if asked.kind == "norm" else whole) + asked.epsilon, asked.limit)
    )
    return found


def accumulated(steps: Sequence[Step]) -> int:
    """Find of how many gradients a run makes one update: its parameters stay as they are in between.

    Returns:
        1 if every step is an update, or if steps that move nothing come in no such order.
    """

    def moved(step: Step) -> bool:
        return any(not np.array_equal(step.before.params[name], step.after.params[name]) for name in step.gradients)

    first = next((number for number, step in enumerate(steps) if moved(step)), 0)
    each = first + 1
    # A step that moves nothing, and one that does, may be a warm-up's beginning: a third tells.
    if each < 2 or len(steps) <= each:
        return 1
    return each if all(moved(step) == (number % each == first) for number, step in enumerate(steps)) else 1


def put_together(steps: Sequence[Step], each: int, last: bool = False) -> Sequence[Step]:
    """Make one step of every so many, with the mean of their gradients, or with the last one's alone.

    Keras, and a loop whose gradients add up, hand over in the last step what all of them make. What is left over at the
    end is left out.
    """
    if each == 1:
        return steps

    def update(number: int) -> Step:
        parts = [steps[number * each + part] for part in range(each)]
        names = [name for name in parts[0].gradients if all(name in part.gradients for part in parts)]
        taken = parts[-1:] if last else parts
        every = {name: np.stack([np.asarray(part.gradients[name], np.float64) for part in taken]) for name in names}
        mean: Params = {name: np.mean(of, axis=0) for name, of in every.items()}
        before, after = replace(parts[0].before, step=number), replace(parts[-1].after, step=number + 1)
        return replace(parts[-1], before=before, after=after, gradients=mean)

    return Lazy(len(steps) // each, update)


def recorded_rates(run: Trajectory) -> Array | None:
    """Read the learning rate of each update that a run recorded deeply; None if it lacks one."""
    updates = sum(1 for name in run.steps if name.endswith("/trained"))
    found = [run.steps.get(f"{number}/learning_rate") for number in range(updates)]
    rates = [float(rate) for rate in found if rate is not None and rate.size == 1]
    return np.array(rates) if rates and len(rates) == updates and np.isfinite(rates).all() else None


def with_recorded_rates(optimizer: Optimizer, run: Trajectory, each: int = 1) -> Optimizer:
    """Give an optimizer that says no schedule the learning rates that its run recorded, if they change.

    If they do not change, the optimizer says the rate. A schedule that it says itself is what the run is held to.
    Of ``each`` so many steps that make one update, the last one's counts.

    >>> from parity.spec import Sgd
    >>> names = [f"{number}/{what}" for number in (0, 1) for what in ("trained", "learning_rate")]
    >>> steps = {name: np.array(0.5 / (1 + int(name[0]))) for name in names}
    >>> with_recorded_rates(Sgd(0.1), Trajectory({}, np.arange(1), np.zeros((0, 0)), {}, {}, steps=steps)).rates
    Listed(values=(0.5, 0.25))
    """
    rates = recorded_rates(run) if optimizer.rates is None else None
    if rates is None or not np.ptp(rates):
        return optimizer
    return replace(optimizer, rates=Listed(tuple(map(float, rates[each - 1 :: each]))))
