"""Is a gradient the rounding of a sum whose terms cancel? Their sizes say so, if they were recorded beside it.

The gradient of a bias is the sum of the loss's gradients for what its layer gives, over all rows and places. Before
BatchNorm these cancel: the sum is zero but for rounding, and its rounding is a share of what the terms' magnitudes add
up to, however small the model's other gradients are. A kernel's gradient has the same terms times the layer's inputs,
so that it is the smaller the smaller these are.

Each term is rounded, too, and by more than a share of itself where the layer gives values that lie far from zero and
close together: the norm takes their mean off, and what remains is known by so much less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from parity.recording.steps import Step
from parity.tolerance import FACTOR, least_floor
from parity.typing import Array


class Terms(NamedTuple):
    """What the terms of a gradient add up to, channel by channel, (channels,) float64 each."""

    limit: Array
    """How large the sum may be by rounding alone: FACTOR least floors of ``magnitude``, times how much coarser than
    itself each term is known."""
    total: Array
    """The magnitude of their sum."""
    magnitude: Array
    """The sum of their magnitudes."""

    @property
    def cancel(self) -> Array:
        """Which channels' terms add up to rounding alone."""
        return np.asarray(self.total <= self.limit)


@np.errstate(all="ignore")  # a recording may hold any numbers
def terms_of(step: Step, name: str, dtype: str) -> Terms | None:
    """Give the recorded terms that a gradient is the sum of.

    Args:
        step: An update of which the gradients of activations were recorded.
        name: A parameter of one axis, such as a bias.
        dtype: The coarser dtype of the two runs.

    Returns:
        The terms of the layer that the parameter is named after. Without such a layer, those of the layer of as many
        channels whose terms cancel in most of them. None if no layer has so many, or if the parameter has other axes.

    Examples:
        >>> from parity.trainer import State
        >>> state, nothing = State({}), np.zeros(())
        >>> step = Step(
        ...     before=state, rows=nothing, prediction=nothing, loss=nothing, trained=nothing, after=state,
        ...     gradients={"dense/bias": np.zeros(2)},
        ...     activation_gradients={"dense": np.array([[1.0, 2.0], [-1.0, 2.0], [0.0, 2.0]])},
        ... )
        >>> found = terms_of(step, "dense/bias", "float64")
        >>> found.cancel.tolist(), found.total.tolist(), found.magnitude.tolist()
        ([True, False], [0.0, 6.0], [2.0, 6.0])
    """
    channels = step.gradients[name].size
    if step.gradients[name].ndim != 1:
        return None
    named = {name.rpartition(mark)[0] for mark in "/."} & step.activation_gradients.keys()
    found = [
        terms
        for layer in sorted(named) or step.activation_gradients
        if (terms := _terms(step, layer, channels, dtype)) is not None
    ]
    return max(found, key=lambda terms: int(np.count_nonzero(terms.cancel)), default=None)


def _terms(step: Step, layer: str, channels: int, dtype: str) -> Terms | None:
    """The terms that a layer has, if one of its axes is as long as there are channels."""
    terms = step.activation_gradients[layer]
    axes = [axis for axis, size in enumerate(terms.shape) if size == channels] if terms.ndim > 1 else []
    if terms.dtype.kind != "f" or not axes:
        return None
    others = tuple(each for each in range(terms.ndim) if each != axes[-1])
    wide = np.asarray(terms, np.float64)
    magnitude = np.abs(wide).sum(others)
    times = np.ones(channels)
    given = step.activations.get(layer)
    if given is not None and given.shape == terms.shape and given.dtype.kind == "f":
        values = np.asarray(given, np.float64)
        size, spread = np.abs(values).max(others, initial=0.0), values.std(others)
        times = np.maximum(np.where(size > 0, size / spread, 1.0), 1.0)
    limit = FACTOR * np.asarray(least_floor(magnitude * np.where(np.isfinite(times), times, 1.0), dtype))
    return Terms(limit, np.abs(wide.sum(others)), magnitude)
