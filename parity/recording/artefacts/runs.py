"""A checkpoint or a log as a run, so that it can be one side of a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from parity.dtypes import KNOWN, carrier, rounded
from parity.recording.artefacts.artefact import Artefact, Entry, Series
from parity.recording.artefacts.ranks import ranks_in
from parity.recording.artefacts.reading import known_folder, read_artefact
from parity.recording.format import MANIFEST
from parity.recording.limits import Budget
from parity.recording.reader import read
from parity.trajectory import Trajectory, TrajectoryError, as_one_array
from parity.typing import Array

FIRST = ("loss", "train_loss", "train/loss", "loss/train", "training_loss")
"""What the loss of training is called, the surest name first."""
OTHER = ("eval", "val", "test", "valid")
"""A loss whose name holds one of these is none of training."""


class Snapshot:
    """A tensor as a stack of one snapshot, (1, *shape), loaded when it is sliced."""

    def __init__(self, entry: Entry, dtype: str) -> None:
        self._entry, self._dtype = entry, dtype
        self.shape, self.dtype = (1, *entry.shape), carrier(dtype)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        return rounded(self._entry.load(), self._dtype)[np.newaxis][key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "a tensor of a file", dtype, copy)


def open_run(path: str | os.PathLike[str], budget: Budget | None = None, shards: str = "") -> Trajectory:
    """Open one side of a comparison: a recording's folder as ``parity.read`` does, anything else as an artefact.

    Args:
        path: A recording's folder, a checkpoint or a log of losses.
        budget: What several readings may take together, if this is one of them.
        shards: How shards are joined, if the path is a folder of shards: see ``read_artefact``.

    Returns:
        The run: of a checkpoint one snapshot, of a log its losses alone.

    Raises:
        TrajectoryError: If it cannot be read.

    Examples:
        >>> np.savez("weights.npz", **{"dense/kernel": np.zeros((3, 2), np.float32)})
        >>> open_run("weights.npz").params["dense/kernel"].shape
        (1, 3, 2)
    """
    if not is_artefact(path):
        return read(path, budget=budget)
    return as_trajectory(read_artefact(path, budget, shards_of(path, shards)))


def shards_of(path: str | os.PathLike[str], shards: str) -> str:
    """Give what is said of shards to a folder that holds some; nothing to others.

    Args:
        path: One side of a comparison.
        shards: What is said of both.

    Returns:
        What ``read_artefact`` takes.

    Examples:
        >>> shards_of("weights.npz", "kernel: (tp in) out")
        ''
    """
    return shards if os.path.isdir(path) and ranks_in(Path(path)) else ""


def is_artefact(path: str | os.PathLike[str]) -> bool:
    """Say whether a path leads to a checkpoint or a log rather than to a recording, or to a folder of some.

    Args:
        path: A file or a folder. A file is taken for an artefact, whatever is in it.

    Returns:
        Whether ``read_artefact`` is to read it.

    Examples:
        >>> np.savez("weights.npz", a=np.zeros(1))
        >>> is_artefact("weights.npz"), is_artefact(".")
        (True, False)
    """
    if not os.path.isdir(path):
        return os.path.isfile(path)
    return not os.path.lexists(Path(path) / MANIFEST) and known_folder(Path(path))


def as_trajectory(artefact: Artefact, dtype: str | None = None) -> Trajectory:
    """Take an artefact for a run.

    Args:
        artefact: What ``read_artefact`` gave.
        dtype: The dtype of the run; by default the narrowest that holds all of the model's floats exactly.

    Returns:
        Of a checkpoint a run of one snapshot, of epoch 0, with the model's floats; integers are no parameters. Of a log
        a run of no parameters, with the loss of training.

    Raises:
        TrajectoryError: If there is neither, or the log does not hold the loss of each update.

    Examples:
        >>> from parity.recording.artefacts.artefact import Tensors
        >>> bias = Entry((2,), np.dtype("float32"), lambda: np.float32([1, 2]))
        >>> run = as_trajectory(Artefact(Path("weights.npz"), "NumPy archive", Tensors({"bias": bias})))
        >>> run.meta["dtype"], run.params["bias"][0].tolist()
        ('float32', [1.0, 2.0])
    """
    entries = {name: entry for name, entry in artefact.tensors.entries.items() if entry.dtype.kind == "f"}
    meta = {"origin": artefact.kind, "complete": True, "notes": list(artefact.notes)}
    if not entries and artefact.losses:
        loss = _of_training(artefact)
        epochs = np.array([0, len(loss.values)])
        return Trajectory({**meta, "dtype": dtype or "float64"}, epochs, loss.values[:, np.newaxis], {}, {})
    if not entries:
        raise TrajectoryError(f"{artefact.path}: holds neither floating-point weights nor a loss: choose another file")
    dtype = dtype or dtype_of(entries)
    params = {name: Snapshot(entry, dtype) for name, entry in entries.items()}
    return Trajectory({**meta, "dtype": dtype}, np.arange(1), np.zeros((0, 0)), params, {})


def dtype_of(entries: Mapping[str, Entry]) -> str:
    """Name the narrowest dtype that holds all floating-point tensors of a checkpoint exactly.

    Args:
        entries: The tensors by name, one at least.

    Returns:
        The name of a dtype that a run may have.

    Examples:
        >>> narrow = Entry((2,), np.dtype("float32"), lambda: np.float32([1, 2]), narrow=True)
        >>> dtype_of({"bias": narrow})
        'bfloat16'
    """
    return narrowest({"bfloat16" if entry.narrow else entry.dtype.name for entry in entries.values()})


def narrowest(names: Set[str]) -> str:
    """Name the narrowest dtype of a run that holds all numbers of some floating-point dtypes exactly.

    >>> narrowest({"float16"}), narrowest({"float16", "bfloat16"})
    ('float16', 'float32')
    """
    if len(names) == 1 and names <= set(KNOWN):
        return next(iter(names))
    return "float32" if names <= {"float32", "float16", "bfloat16"} else "float64"


def _of_training(artefact: Artefact) -> Series:
    """The loss of training, each update's. TrajectoryError if none is it for certain, or updates are missing."""
    names = [name for name in artefact.losses if not any(word in name.lower() for word in OTHER)]
    sure = [name for said in FIRST for name in names if name.lower() == said]
    if not sure and len(names) != 1:
        some = ", ".join(f"{name!r:.40}" for name in list(artefact.losses)[:8])
        raise TrajectoryError(f"{artefact.path}: which loss is training's? ({some}): call it 'loss'")
    name = (sure or names)[0]
    steps = artefact.losses[name].steps
    if steps[0] not in (0, 1) or (np.diff(steps) != 1).any():
        raise TrajectoryError(
            f"{artefact.path}: {name!r:.40} is logged at steps {', '.join(map(str, steps[:4].tolist()))} …, not at "
            "each: log the loss of every update"
        )
    return artefact.losses[name]
