"""Gradients as an optimizer gets them: those that a run recorded, put together and clipped as its optimizer asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.dtypes import unit
from parity.recording.steps import Lazy, Step
from parity.spec import Clipping
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
