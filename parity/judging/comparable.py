"""Can two runs be held against each other at all?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.dtypes import coarsest
from parity.judging.floors.floor import Floor
from parity.trajectory import Trajectory
from parity.typing import Array


def coarser_dtype(*runs: Trajectory) -> str:
    """Name the coarsest dtype of some runs: no difference of them is finer than its rounding.

    >>> import numpy as np
    >>> one, other = (Trajectory({"dtype": d}, np.arange(1), np.zeros((0, 1)), {}, {}) for d in ("float64", "float32"))
    >>> coarser_dtype(one, other)
    'float32'
    """
    return coarsest(*(str(run.meta["dtype"]) for run in runs))


def incomparable(a: Trajectory, b: Trajectory) -> str:
    """The reason why two trajectories cannot be compared, or ""."""
    missing, extra = sorted(set(b.params) - set(a.params)), sorted(set(a.params) - set(b.params))
    if missing:
        return f"parameter {missing[0]} is missing from the first run" + _likely(missing[0], b, extra, a)
    if extra:
        return f"parameter {extra[0]} is missing from the second run"
    if not np.array_equal(a.epochs, b.epochs):
        return f"snapshots were taken after other epochs: {_ends(a.epochs)} and {_ends(b.epochs)}"
    if a.loss.shape != b.loss.shape:
        return f"the runs hold other numbers of losses (epochs, batches): {a.loss.shape} and {b.loss.shape}"
    for name in a.params:
        if a.params[name].shape != b.params[name].shape:
            return f"parameter {name} has other shapes: {a.params[name].shape[1:]} and {b.params[name].shape[1:]}"
    ours, theirs = a.meta.get("batch_order"), b.meta.get("batch_order")
    if ours and theirs and ours != theirs:
        return "the runs saw their batches in different orders"
    return ""


def _likely(name: str, run: Trajectory, others: Sequence[str], other: Trajectory) -> str:
    """A hint at the only one of ``others`` that has the shape of ``name``, in any order of axes: it may be the same."""
    shape = run.params[name].shape[1:]
    found = [one for one in others if sorted(other.params[one].shape[1:]) == sorted(shape)]
    if len(found) != 1:
        return ""
    turned = "" if other.params[found[0]].shape[1:] == shape else ", with its axes in another order"
    return f"; {found[0]} there may be it{turned}: both runs need one name and one layout for it"


def _ends(epochs: Array) -> str:
    return f"{len(epochs)} from {epochs[0]} to {epochs[-1]}" if len(epochs) else "none"


def unlike_metrics(run: Trajectory, reference: Trajectory, floor: Floor) -> str:
    """Why the metrics of two runs cannot be held against each other, or nothing."""
    for which, lacking in (
        ("first", reference.metrics.keys() - run.metrics),
        ("second", run.metrics - reference.metrics.keys()),
    ):
        if lacking:
            return f"metric {min(lacking)} is missing from the {which} run"
    if unmeasured := reference.metrics.keys() - floor.metrics.keys():
        return f"the noise floor was measured without the metric {min(unmeasured)}: measure it anew with 'parity floor'"
    return ""
