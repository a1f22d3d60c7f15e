"""Say after which steps two runs take a recurrent layer's state, as the last one or the last that is valid."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from parity.explaining.layers.dataflow import Tensor, kind_of
from parity.typing import Array


def states_in_words(sequences: Iterable[Tensor], ours: Tensor, theirs: Tensor, allowed: float) -> str:
    """Say which steps' states two tensors hold, if each holds one state of a sequence in each row.

    Args:
        sequences: What layers gave; those of recurrent layers are asked, (batch, steps, width).
        ours: What the first run takes, (batch, width).
        theirs: What the second run takes.
        allowed: How far values may be apart that are the same.

    Returns:
        A sentence; empty if either holds anything else, or both the same.
    """
    if ours.values is None or theirs.values is None:
        return ""
    for sequence in sequences:
        if kind_of(sequence) != "recurrent" or sequence.layer is None or sequence.values is None:
            continue
        for halves in (1, 2):
            one = steps_of_states(sequence.values, ours.values, halves, allowed)
            other = steps_of_states(sequence.values, theirs.values, halves, allowed)
            if one is None or other is None or np.array_equal(one, other):
                continue
            last = sequence.values.shape[1] - 1
            padded = ": as where padding is masked, or sequences are packed, in one run alone"
            return (
                f"of the states of {sequence.layer.name} the first run takes {_in_words(one, last)}, the second "
                f"{_in_words(other, last)}" + (padded if halves == 1 and (np.ptp(one) or np.ptp(other)) else "")
            )
    return ""


def steps_of_states(sequence: Array, taken: Array, halves: int, allowed: float) -> Array | None:
    """Find after which step each row's state is.

    Args:
        sequence: (batch, steps, width) states.
        taken: (batch, width) one state of each row.
        halves: Into how many parts the width is cut, each of which may be of another step: 2 of both directions.
        allowed: How far values may be apart that are the same.

    Returns:
        (halves, batch) steps from 0, the latest where several fit; None if a row holds none.

    Examples:
        >>> states = np.arange(12.0).reshape(2, 3, 2)
        >>> steps_of_states(states, states[[0, 1], [2, 0]], 1, 0.0).tolist()
        [[2, 0]]
    """
    if sequence.ndim != 3 or taken.shape != (len(sequence), sequence.shape[2]) or sequence.shape[2] % halves:
        return None
    found = []
    for states, state in zip(np.split(sequence, halves, -1), np.split(taken, halves, -1), strict=True):
        same = np.all(np.abs(states.astype(np.float64) - state[:, None]) <= allowed, axis=-1)  # (batch, steps)
        if not same.any(axis=1).all():
            return None
        found.append(same.shape[1] - 1 - np.argmax(same[:, ::-1], axis=1))
    return np.stack(found)


def _in_words(steps: Array, last: int) -> str:
    parts = []
    for which, each in zip(("",) if len(steps) == 1 else ("forward", "backward"), steps, strict=True):
        words = {0: "the first step", last: "the last step"}.get(int(each[0]), f"step {int(each[0]) + 1}")
        if np.ptp(each):
            words = f"steps {each.min() + 1} to {each.max() + 1}, another in each row"
        parts.append(f"that after {words}" + (f" {which}" if which else ""))
    return " with ".join(parts)
