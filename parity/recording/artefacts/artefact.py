"""What was read of a file that another program wrote: tensors by name, losses by step, and what it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity.recording.limits import Budget
from parity.recording.placed import Loaded, Placed
from parity.trajectory import TrajectoryError
from parity.typing import Array

NAME = 1000
"""The letters of the longest name of a tensor or a loss."""
DEPTH = 64
"""So deep may the folders, groups and dictionaries of a file lie in each other."""
LEAVES = 1 << 18
"""So many tensors and other values may a file's dictionaries hold. One list may stand in another many times."""
WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "params", "layers", "model_weights", "default")
"""What checkpoints call the model in them. It says nothing of a tensor, so it is left out of the names."""
STATE = ("opt_state", "optim", "scheduler", "lr_scheduler", "lr_schedulers", "step", "epoch", "rng_state")
"""What checkpoints call what is no weight of the model, beside all names that begin with ``optimizer``."""


class Entry(NamedTuple):
    """A tensor that is loaded when it is asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """The dtype of what is loaded; of bfloat16 numbers float32, which holds them exactly."""
    load: Callable[[], Array]
    narrow: bool = False
    """Whether the file holds bfloat16."""
    place: Placed | None = None
    """Where its numbers lie, if they can be read block by block."""

    def placed(self) -> Placed:
        """The tensor as it is read block by block."""
        return self.place or Loaded(self.shape, self.dtype, self.load)


class Series(NamedTuple):
    """A loss as it was logged."""

    steps: Array
    """(L,) int64, increasing."""
    values: Array
    """(L,) float64."""


class Tensors(Mapping[str, Array]):
    """Tensors by name, each loaded when it is asked for.

    >>> tensors = Tensors({"bias": Entry((2,), np.dtype("float32"), lambda: np.zeros(2, np.float32))})
    >>> tensors["bias"].tolist(), tensors.entries["bias"].shape
    ([0.0, 0.0], (2,))
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> Array:
        return self.entries[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Tensors({list(self)})"


@dataclass(frozen=True)
class Artefact:
    """What a file or a folder holds.

    Attributes:
        path: The file or the folder.
        kind: What it is, in words.
        tensors: The model's tensors by name, whose parts a slash divides.
        state: The other tensors: an optimizer's slots, a schedule's state.
        losses: The losses by name.
        notes: What was left out, and why.

    Examples:
        >>> bias = Entry((2,), np.dtype("float32"), lambda: np.float32([1, 2]))
        >>> Artefact(Path("weights.npz"), "NumPy archive", Tensors({"bias": bias})).tensors["bias"].tolist()
        [1.0, 2.0]
    """

    path: Path
    kind: str
    tensors: Tensors = field(default_factory=lambda: Tensors({}))
    state: Tensors = field(default_factory=lambda: Tensors({}))
    losses: Mapping[str, Series] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def checkpoint(path: Path, kind: str, entries: Mapping[str, Entry], notes: Iterable[str] = ()) -> Artefact:
    """Tell the model's tensors from the optimizer's, and take off what all names of the model begin with.

    TrajectoryError if there is no tensor, or a name cannot be shown.
    """
    if not entries:
        raise TrajectoryError(f"{path}: holds no tensor: save the model's weights there")
    for name in entries:
        check_name(path, name)
    state, model = dict[str, Entry](), dict[str, Entry]()
    for name, entry in entries.items():
        first = name.partition("/")[0]
        (state if first in STATE or (first.startswith("optimizer") and "/" in name) else model)[name] = entry
    while model and len(heads := {name.partition("/")[0] for name in model}) == 1:
        if not heads <= set(WRAPPERS) or not all("/" in name for name in model):
            break
        model = {name.partition("/")[2]: entry for name, entry in model.items()}
    return Artefact(path, kind, Tensors(model), Tensors(state), notes=tuple(notes))


def check_name(path: Path, name: str) -> None:
    """Refuse a name that is empty, long, or holds a letter that is not to be seen: TrajectoryError."""
    if not name or len(name) > NAME or not name.isprintable():
        raise TrajectoryError(f"{path}: {name!r:.80} is no name for a tensor or a loss: rename it where it is written")


def values_of(path: Path, name: str, shape: Iterable[Any]) -> int:
    """The number of values of a shape. TrajectoryError if it is none, or one that NumPy cannot have."""
    shape = tuple(shape)
    good = len(shape) <= 32 and all(type(axis) is int and 0 <= axis < 2**48 for axis in shape)
    count = math.prod(shape) if good else -1
    if not 0 <= count < 2**48:
        raise TrajectoryError(f"{path}: {name!r:.80} has the impossible shape {shape!s:.80}: write the file again")
    return count


def flattened(path: Path, tree: Any, budget: Budget) -> dict[str, Any]:
    """The leaves of nested dictionaries and lists by their names, with slashes between.

    TrajectoryError if they lie too deep, which those do that lie in themselves, or two have one name.
    """
    found: dict[str, Any] = {}
    left: list[tuple[str, Any, int]] = [("", tree, 0)]
    count = 0
    while left:
        name, value, depth = left.pop()
        if isinstance(value, dict | list | tuple):
            if depth == DEPTH:
                raise TrajectoryError(f"{path}: {name!r:.80} lies in more than {DEPTH} dictionaries: save less at once")
            budget.spend(path, tensors=len(value))
            count += len(value)
            if count > LEAVES:
                raise TrajectoryError(f"{path}: holds more than {LEAVES:,} values in dictionaries: save less at once")
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            inner = [(f"{name}/{key}" if name else str(key), one, depth + 1) for key, one in pairs]
            if any(len(each) > NAME for each, _, _ in inner):
                raise TrajectoryError(f"{path}: a name in {name!r:.80} has more than {NAME} letters: rename it")
            left += reversed(inner)
        elif name in found:
            raise TrajectoryError(f"{path}: {name!r:.80} is there twice: rename one of them")
        else:
            found[name] = value
    return found
