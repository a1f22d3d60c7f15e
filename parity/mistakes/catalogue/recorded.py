"""Mistakes that can be told from recorded steps alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.recording.steps import Step
from parity.spec import Optimizer, Sgd
from parity.typing import Params


def other_losses(optimizer: Optimizer | None, theirs: Step) -> dict[str, list[Params]]:
    """The other's loss and gradients as other reductions make them, or a penalty that is part of them."""
    rows = max(1, len(theirs.rows))
    each = max(1, theirs.prediction.size // rows)
    factors = {
        "sum-for-mean": (rows, rows * each),
        "mean-for-sum": (1 / rows, 1 / (rows * each)),
        "mean-over-classes": (1 / each,),
        "half-squared-error": (1 / 2,),
    }
    whole = {"loss": np.asarray(float(theirs.loss)), **theirs.gradients}
    found = {
        name: [{tensor: factor * value for tensor, value in whole.items()} for factor in some]
        for name, some in factors.items()
    }
    decay = optimizer.weight_decay if isinstance(optimizer, Sgd) else 0.0
    if decay:
        params = {name: p for name, p in theirs.before.params.items() if name in theirs.gradients}
        squares = {name: float(np.sum(np.square(p, dtype=np.float64))) for name, p in params.items()}
        found["weight-decay-in-the-reported-loss"] = [
            whole
            | {"loss": whole["loss"] + decay / 2 * sum(squares[name] for name in names)}
            | {name: whole[name] + decay * params[name] for name in names if through}
            for names in (list(params), [name for name in params if not name.endswith("bias")])
            for through in (False, True)
        ]
    return found


def added_up(mine: Sequence[Step], theirs: Step) -> dict[str, list[Params]]:
    """The other's gradients on top of this run's last ones."""
    if not theirs.number:
        return {}
    before = mine[theirs.number - 1].gradients
    added = {name: g + before[name] for name, g in theirs.gradients.items() if name in before}
    return {"gradient-not-zeroed": [{"loss": np.asarray(float(theirs.loss)), **added}]}
