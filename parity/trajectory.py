"""A run in memory: snapshots of its parameters, the losses between them, and what it says of itself."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from parity.dtypes import unpacked
from parity.typing import Array, Params

NOTEBOOK = "parity.report.notebook"
"""What draws runs and comparisons for a notebook. It stands above what it draws, and is found by name."""


class Chunk(NamedTuple):
    """A stretch of a run: S snapshots, in order.

    Examples:
        >>> start = Chunk(np.array([0]), np.zeros((0, 0)), {"dense/bias": np.zeros((1, 3))}, {})
        >>> start.params["dense/bias"].shape
        (1, 3)
    """

    epochs: Array
    """(S,) int64: the epoch after which each snapshot was taken."""
    losses: Array
    """(epochs trained in this stretch, batches): empty in the first chunk, which is epoch 0."""
    params: Params
    """Canonical name to (S, *shape)."""
    metrics: dict[str, Array]
    """Name to (S,) float64."""


class TrajectoryError(ValueError):
    """A recorded run that cannot be used. The message is one line: where, what is wrong, what to do.

    Examples:
        >>> from parity import read
        >>> try:
        ...     read("nowhere")
        ... except TrajectoryError as error:
        ...     print(error)
        nowhere/trajectory.json: is missing: copy the folder whole or record the run again
    """


class Stack(Protocol):
    """A tensor's snapshots along the first axis: an array, or one that stays on disk until it is sliced.

    Examples:
        >>> stack: Stack = np.zeros((5, 3, 2))  # five snapshots of a (3, 2) tensor
        >>> stack[1:3].shape
        (2, 3, 2)
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, *shape)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is sliced from it."""
        ...

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> Array: ...


def as_one_array(stack: Stack, what: str, dtype: Any, copy: bool | None) -> Array:
    """Make an array of a stack whose values are put together as it is sliced: the ``__array__`` of them all.

    Args:
        stack: The stack.
        what: What it is, for an error.
        dtype: The dtype of the array; None for the stack's own.
        copy: What NumPy asks for: False, which cannot be had, True or None.

    Returns:
        An array of the stack's shape.

    Raises:
        ValueError: If no copy is to be made.

    Examples:
        >>> as_one_array(Shards([np.zeros(2), np.ones(1)]), "a stack in pieces", np.float32, None)
        array([0., 0., 1.], dtype=float32)
    """
    if copy is False:
        raise ValueError(f"{what} cannot become an array without a copy")
    values: Array = stack[:].astype(dtype or stack.dtype, copy=bool(copy))
    return values


class Shards:
    """A stack in several pieces. Slices within a piece are views, others are joined copies.

    Args:
        pieces: Stacks (S_i, *shape) of one dtype, in order.
        count: How many snapshots of them it has, from the first on; by default all.

    Examples:
        >>> stack = Shards([np.zeros((2, 3)), np.ones((1, 3))])
        >>> stack.shape, stack[1:].tolist(), stack[:, 0].tolist()
        ((3, 3), [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0.0, 0.0, 1.0])
    """

    def __init__(self, pieces: Sequence[Stack], count: int | None = None) -> None:
        self._pieces = tuple(pieces)
        self._ends = list(itertools.accumulate(len(piece) for piece in pieces))
        whole = int(self._ends[-1])
        self.shape: tuple[int, ...] = (whole if count is None else min(count, whole), *pieces[0].shape[1:])
        self.dtype = pieces[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | tuple[Any, ...]) -> Any:
        if isinstance(key, tuple):
            first, *rest = key
            return self[first][(slice(None), *rest) if isinstance(first, slice) else tuple(rest)]
        if not isinstance(key, slice):
            place = range(len(self))[key]
            number = bisect.bisect_right(self._ends, place)
            return self._pieces[number][place - self._ends[number]]
        wanted = range(len(self))[key]
        if not wanted:
            return self._pieces[0][:0]
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        first, last = bisect.bisect_right(self._ends, low), bisect.bisect_left(self._ends, high)
        begin = self._ends[first] - len(self._pieces[first])
        if first == last:
            return self._pieces[first][low - begin : high - begin][:: wanted.step]
        # Piece by piece, so that no more than one of them need be in memory beside the copy.
        joined = np.empty((high - low, *self.shape[1:]), self.dtype)
        for piece in self._pieces[first : last + 1]:
            start, end = max(low, begin), min(high, begin + len(piece))
            joined[start - low : end - low] = piece[start - begin : end - begin]
            begin += len(piece)
        return joined[:: wanted.step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "a stack in several pieces", dtype, copy)


class Widened:
    """A stack of bfloat16 numbers, given by their bits. What is sliced from it is float32.

    Args:
        bits: uint16 (S, *shape).

    Examples:
        >>> Widened(np.array([[0x3F80], [0xC000]], np.uint16))[1]
        array([-2.], dtype=float32)
    """

    dtype = np.dtype(np.float32)
    """What is sliced from it has this dtype."""

    def __init__(self, bits: Stack) -> None:
        self._bits = bits
        self.shape = bits.shape

    def __len__(self) -> int:
        return len(self._bits)

    def __getitem__(self, key: int | slice) -> Any:
        return unpacked(self._bits[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "bfloat16 numbers", dtype, copy)


@dataclass
class Trajectory:
    """A run in memory, of E epochs and S snapshots.

    Attributes:
        meta: What ``trajectory.json`` says of the run.
        epochs: (S,) int64 from 0 on, strictly increasing: the epoch after which each snapshot was taken.
        loss: (E, batches): each batch's loss, before its update.
        params: Canonical name to a stack (S, *shape) in the run's dtype.
        metrics: Name to (S,) float64.
        steps: What a deep recording holds, by name without the leading ``steps/``.

    Examples:
        >>> bias = np.array([[0.0], [0.5], [0.75]])
        >>> run = Trajectory({}, np.arange(3), np.array([[1.0], [0.25]]), {"dense/bias": bias}, {})
        >>> run.until(1).params["dense/bias"].tolist()
        [[0.0], [0.5]]
    """

    meta: dict[str, Any]
    epochs: Array
    loss: Array
    params: Mapping[str, Stack]
    metrics: dict[str, Array]
    steps: Mapping[str, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        name = self.meta.get("implementation", "run")
        counts = f"{len(self.loss)} epochs, {len(self.epochs)} snapshots, {len(self.params)} tensors"
        return f"<Trajectory {name!r}: {counts}>"

    def _repr_html_(self) -> str:
        return str(import_module(NOTEBOOK).run(self))

    def until(self, epoch: int) -> Trajectory:
        """Give the beginning of the run.

        Args:
            epoch: The last epoch that is kept.

        Returns:
            The run as it stood after that epoch, its arrays not copied.
        """
        snapshots = int(np.searchsorted(self.epochs, epoch, "right"))

        def begun(values: Stack) -> Stack:
            return values[:snapshots] if isinstance(values, np.ndarray) else Shards([values], snapshots)

        return Trajectory(
            {**self.meta, "batch_order": None},
            self.epochs[:snapshots],
            self.loss[:epoch],
            {name: begun(values) for name, values in self.params.items()},
            {name: values[:snapshots] for name, values in self.metrics.items()},
            self.steps,
        )


def gather(chunks: Iterable[Chunk], meta: Mapping[str, Any] | None = None) -> Trajectory:
    """Join a run's chunks in memory.

    Args:
        chunks: What ``parity.record`` yields, the first of them the state before training.
        meta: What the run is to say of itself.

    Returns:
        The whole run.

    Raises:
        ValueError: If there is no chunk, or one does not follow the one before.

    Examples:
        >>> start = Chunk(np.array([0]), np.zeros((0, 0)), {"dense/bias": np.zeros((1, 3))}, {})
        >>> after = Chunk(np.array([1]), np.array([[0.5]]), {"dense/bias": np.ones((1, 3))}, {})
        >>> gather([start, after]).params["dense/bias"].shape
        (2, 3)
    """
    kept: list[Chunk] = []
    for chunk in chunks:
        check_chunk(chunk, kept[-1] if kept else None)
        kept.append(chunk)
    if not kept:
        raise ValueError("a trajectory needs at least the snapshot of epoch 0")
    whole = merged(kept)
    return Trajectory(dict(meta or {}), whole.epochs, whole.losses, whole.params, whole.metrics)


def check_chunk(chunk: Chunk, before: Chunk | None) -> None:
    """Refuse a chunk that is not whole or does not follow the one before.

    Args:
        chunk: The chunk in question.
        before: The chunk before it; None if ``chunk`` begins a run.

    Raises:
        ValueError: If names, shapes, dtypes or epochs do not fit.

    Examples:
        >>> late = Chunk(np.array([3]), np.zeros((3, 1)), {"dense/bias": np.zeros((1, 3))}, {})
        >>> check_chunk(late, None)
        Traceback (most recent call last):
        ...
        ValueError: a trajectory begins at epoch 0, not at 3
    """
    epochs = np.asarray(chunk.epochs)
    if epochs.ndim != 1 or not len(epochs) or epochs.dtype.kind != "i":
        raise ValueError("a chunk holds at least one snapshot, and its epochs are integers in one dimension")
    if before is None and epochs[0] != 0:
        raise ValueError(f"a trajectory begins at epoch 0, not at {epochs[0]}")
    last = 0 if before is None else int(before.epochs[-1])
    if (np.diff(epochs) <= 0).any() or (before is not None and epochs[0] <= last):
        raise ValueError(f"epochs must increase: {epochs.tolist()[:5]} after {last}")
    if chunk.losses.ndim != 2 or len(chunk.losses) != epochs[-1] - last:
        raise ValueError(f"losses have shape {chunk.losses.shape} where {epochs[-1] - last} epochs were trained")
    if len(chunk.losses) and not chunk.losses.shape[1]:
        raise ValueError("losses hold no batch")
    if not chunk.params:
        raise ValueError("a chunk without parameters says nothing")
    for name, value in (*chunk.params.items(), *chunk.metrics.items()):
        if not value.shape or len(value) != len(epochs):
            raise ValueError(f"{name} has shape {value.shape} where the chunk holds {len(epochs)} snapshots")
    if any(value.ndim != 1 for value in chunk.metrics.values()):
        raise ValueError("a metric is one number a snapshot")
    if before is None:
        return
    for what, ours, theirs in (
        ("parameters", chunk.params.keys(), before.params.keys()),
        ("metrics", chunk.metrics.keys(), before.metrics.keys()),
    ):
        if other := sorted(ours ^ theirs):
            raise ValueError(f"{what} are not those of the snapshot before: {other[0]} is in one of them alone")
    for name, value in chunk.params.items():
        if value.shape[1:] != before.params[name].shape[1:] or value.dtype != before.params[name].dtype:
            raise ValueError(f"{name} has another shape or dtype than in the chunk before")
    if len(before.losses) and (
        chunk.losses.shape[1] != before.losses.shape[1] or chunk.losses.dtype != before.losses.dtype
    ):
        raise ValueError("losses have another number of batches or another dtype than in the chunk before")


def merged(chunks: Sequence[Chunk]) -> Chunk:
    """Join chunks that follow each other.

    Args:
        chunks: At least one, in order.

    Returns:
        One chunk that holds their snapshots and losses.

    Examples:
        >>> start = Chunk(np.array([0]), np.zeros((0, 0)), {"dense/bias": np.zeros((1, 3))}, {})
        >>> after = Chunk(np.array([1]), np.array([[0.5]]), {"dense/bias": np.ones((1, 3))}, {})
        >>> merged([start, after]).epochs.tolist()
        [0, 1]
    """
    if len(chunks) == 1:
        return chunks[0]
    first = chunks[0]
    losses = [chunk.losses for chunk in chunks if len(chunk.losses)]
    return Chunk(
        np.concatenate([chunk.epochs for chunk in chunks]),
        np.concatenate(losses) if losses else first.losses,
        {name: np.concatenate([chunk.params[name] for chunk in chunks]) for name in first.params},
        {name: np.concatenate([chunk.metrics[name] for chunk in chunks]) for name in first.metrics},
    )
