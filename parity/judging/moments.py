"""What a moment of a run is called: by its epoch and batch, or by its update where a run counts updates alone."""

from __future__ import annotations

from parity.trajectory import Trajectory

EPOCH, UPDATE = "epoch", "update"


def unit_of(*runs: Trajectory) -> str:
    """Say by what the moments of runs are counted: by ``update`` if all of them say so, as watched runs do.

    >>> import numpy as np
    >>> run = Trajectory({"unit": "update"}, np.arange(1), np.zeros((0, 1)), {}, {})
    >>> unit_of(run), unit_of()
    ('update', 'epoch')
    """
    return UPDATE if runs and all(run.meta.get("unit") == UPDATE for run in runs) else EPOCH


def moment(unit: str, epoch: int, batch: int | None = None) -> str:
    """Name a batch of an epoch, or the end of an epoch, in words that follow "at".

    Args:
        unit: What ``unit_of`` gave. An update is an epoch of one batch.
        epoch: From 1; 0 is the beginning.
        batch: From 0; None for the end of the epoch.

    Returns:
        The words. Updates are counted from 0, as everywhere.

    Examples:
        >>> moment("epoch", 5, 2), moment("epoch", 5)
        ('epoch 5, batch 2', 'epoch 5')
        >>> moment("update", 5, 0), moment("update", 5), moment("update", 0)
        ('update 4', 'the end of update 4', 'the beginning')
    """
    if unit != UPDATE:
        return f"epoch {epoch}" + ("" if batch is None else f", batch {batch}")
    if batch is not None:
        return f"update {epoch - 1}"
    return f"the end of update {epoch - 1}" if epoch else "the beginning"


def moment_of(unit: str, epoch: int, tensor: str | None) -> str:
    """Name the moment at which a tensor was compared: a loss within its update, a parameter at the end of one.

    Args:
        unit: What ``unit_of`` gave.
        epoch: From 1; 0 is the beginning.
        tensor: The name of what was compared; None for nothing in particular.

    Returns:
        The words, as those of ``moment``.

    Examples:
        >>> moment_of("update", 5, "loss"), moment_of("update", 5, "kernel"), moment_of("epoch", 5, "loss")
        ('update 4', 'the end of update 4', 'epoch 5')
    """
    return moment(unit, epoch, 0 if unit == UPDATE and tensor == "loss" else None)
