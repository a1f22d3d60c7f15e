"""Where rounding takes an activation across a kink: two right runs part there at once, in an update that is named."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.judging.updates.single import coarser
from parity.judging.witness import in_one_order
from parity.recording.steps import Step, steps_of
from parity.tolerance import FACTOR, ROUNDINGS, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array


@np.errstate(all="ignore")  # a recording may hold any numbers
def crossing(ours: Trajectory, theirs: Trajectory) -> str:
    """Name the first update in which gradients part at once, though the states before it agree, or "".

    Where both runs recorded layers, it is said which of them gives values on the other side of zero: the values are
    held together sorted, so that neither names nor the order of axes matter. Where they show no such value, no kink is
    spoken of.
    """
    u = coarser(ours, theirs)
    near = 2 * FACTOR * ROUNDINGS * u
    for a, b in zip(steps_of(ours), steps_of(theirs), strict=False):
        names = sorted(a.gradients.keys() & b.gradients.keys() & a.before.params.keys() & b.before.params.keys())
        zeros = _zeros(a, b, names, u)
        names = [name for name in names if name not in zeros]
        if any(_share(a.before.params[name], b.before.params[name]) > near for name in names):
            return ""
        shares = {name: _share(a.gradients[name], b.gradients[name]) for name in names}
        name = max(names, key=lambda name: shares[name], default="")
        if name and shares[name] > FACTOR * near:
            said = (
                f"in update {a.number} the gradient of {name} parts at once by {shares[name]:.2g} of its largest value"
            )
            said = f"{said}, though the states agree"
            if event := next(_crossed(a, b, near), ""):
                return f"{said}: {event}"
            seen = a.activations and b.activations
            return f"{said}: as where rounding crosses a kink" if not seen else said
    return ""


@np.errstate(all="ignore")  # a recording may hold any numbers
def bent_at(step: Step, other: Step, dtype: str) -> str:
    """Name the layer in which a few values within rounding of zero pass a gradient on in one run alone; or "".

    Where ReLU bends, what it gives differs by rounding, and the gradient that it passes on by all of it. So a layer's
    values agree, up to the order of axes, its gradients are zero in other places, and at least as many values of that
    layer, or of another of its size, are as close to zero as the runs are to each other: what bends may be the ReLU of
    a sum, which is no value of the layer that was added.
    """
    partners: dict[int, list[tuple[Array, Array]]] = {}
    for name, values in other.activations.items():
        if name in other.activation_gradients:
            partners.setdefault(values.size, []).append((values, other.activation_gradients[name]))
    for name, values in step.activations.items():
        if name not in step.activation_gradients or values.dtype.kind != "f":
            continue
        for theirs, gradient in partners.get(values.size, ()):
            ours = np.sort(values.astype(np.float64), None)
            allowed = FACTOR * least_floor(np.max(np.abs(ours), initial=0.0), dtype)
            far = np.max(np.abs(ours - np.sort(theirs.astype(np.float64), None)), initial=0.0)
            # A layer within, as BatchNorm, may be coarser than what the model gives, which was judged before.
            if not far <= FACTOR * allowed:
                continue
            laid = in_one_order(step.activation_gradients[name], gradient)
            zeros = 0 if laid is None else np.count_nonzero((laid[0] == 0) != (laid[1] == 0))
            if 0 < zeros <= _near_zero((step, other), values.size, max(allowed, far)):
                return name
    return ""


def _near_zero(steps: tuple[Step, Step], size: int, near: float) -> int:
    """Count the values that are nearly zero, and not zero, in that layer of a size which has the most of them."""
    alike = (v for step in steps for v in step.activations.values() if v.size == size and v.dtype.kind == "f")
    return max((int(np.count_nonzero((v != 0) & (np.abs(v) <= near))) for v in alike), default=0)


def _crossed(a: Step, b: Step, near: float) -> Iterator[str]:
    """Yield the layers that agree within rounding and give another number of values above zero."""
    others = [np.sort(np.asarray(values, np.float64).ravel()) for values in b.activations.values()]
    for name, values in a.activations.items():
        mine = np.sort(np.asarray(values, np.float64).ravel())
        for other in others:
            if other.shape != mine.shape or not mine.size or _share(mine, other) > near:
                continue
            count = abs(int((mine > 0).sum()) - int((other > 0).sum()))
            if count:
                yield f"{count} of {mine.size:,} values of the layer {name} {_lie(count)} on the other side of zero"
            break


def _zeros(a: Step, b: Step, names: list[str], u: float) -> set[str]:
    """The tensors whose gradients are rounding beside the largest one of their update."""
    sizes = {name: max(float(np.max(np.abs(s.gradients[name]), initial=0.0)) for s in (a, b)) for name in names}
    return {name for name in names if sizes[name] <= FACTOR * ROUNDINGS * u * max(sizes.values())}


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"


def _share(one: Array, other: Array) -> float:
    """The largest distance as a share of the largest value; infinite for other shapes."""
    if one.shape != other.shape:
        return np.inf
    size = float(np.max(np.abs(np.asarray(other, np.float64)), initial=0.0))
    far = float(np.max(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)), initial=0.0))
    return far / size if size else (np.inf if far else 0.0)
