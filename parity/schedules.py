"""Batch orders: which rows each update of each epoch takes. ``parity.spec`` hands them out with the rest of a case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from parity.typing import Batches


class Schedule(Protocol):
    """The batch order, made once in NumPy and handed to every implementation: none shuffles for itself.

    Examples:
        >>> schedule: Schedule = Shuffled(batch_size=2, seed=0)
        >>> [rows.tolist() for rows in next(schedule.epochs(4))]
        [[2, 3], [1, 0]]
    """

    @property
    def ordered(self) -> bool:
        """Whether the order of the rows within a batch means something, as it does in a text."""
        ...

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of epoch 1, 2, 3, … without end.

        Args:
            rows: The number of rows in the training data.

        Yields:
            As many batches in every epoch, each of row indices (batch,) int64.
        """
        ...


@dataclass(frozen=True)
class FullBatch:
    """Every row, in the order of the data, once an epoch.

    Examples:
        >>> [rows.tolist() for rows in next(FullBatch().epochs(4))]
        [[0, 1, 2, 3]]
    """

    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        every_row = (np.arange(rows),)
        while True:
            yield every_row


@dataclass(frozen=True)
class Shuffled:
    """Rows permuted by ``RandomState(seed).shuffle`` and cut into batches.

    Attributes:
        batch_size: Rows in a batch.
        seed: The generator's seed.
        reseed: Whether the generator is made anew each epoch, so that every epoch has the same order.
        keep_last: Whether a last batch that is shorter than the others is kept.

    Examples:
        >>> [rows.tolist() for rows in next(Shuffled(batch_size=2, seed=0).epochs(5))]
        [[2, 0], [1, 3], [4]]
    """

    batch_size: int
    seed: int
    reseed: bool = False
    keep_last: bool = True
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        end = rows if self.keep_last else rows - rows % self.batch_size
        while True:
            if self.reseed:
                generator = np.random.RandomState(self.seed)
            order = np.arange(rows)
            generator.shuffle(order)
            yield tuple(order[start : start + self.batch_size] for start in range(0, end, self.batch_size))


@dataclass(frozen=True)
class CyclicRow:
    """One row an update, in the order of the data, again and again: SGD's cyclic rule. An epoch is one pass.

    Examples:
        >>> [rows.tolist() for rows in next(CyclicRow().epochs(3))]
        [[0], [1], [2]]
    """

    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        one_pass = tuple(np.arange(rows)[:, None])
        while True:
            yield one_pass


@dataclass(frozen=True)
class RandomRow:
    """One row an update, drawn uniformly from all rows by ``RandomState(seed)``: SGD's randomized rule.

    A row may come twice before another comes once. An epoch is as many updates as there are rows.

    Attributes:
        seed: The generator's seed.

    Examples:
        >>> [rows.tolist() for rows in next(RandomRow(seed=0).epochs(3))]
        [[0], [1], [0]]
    """

    seed: int
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        while True:
            yield tuple(generator.randint(rows, size=(rows, 1), dtype=np.int64))


@dataclass(frozen=True)
class RandomRows:
    """``batch_size`` different rows an update, each set drawn from all rows by ``RandomState(seed)``: mini-batch SGD.

    The sets of an epoch may overlap, unlike ``Shuffled``'s. An epoch is ``rows // batch_size`` updates.

    Attributes:
        batch_size: Rows in a batch.
        seed: The generator's seed.

    Examples:
        >>> [rows.tolist() for rows in next(RandomRows(batch_size=2, seed=0).epochs(4))]
        [[2, 3], [0, 2]]
    """

    batch_size: int
    seed: int
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        while True:
            yield tuple(generator.permutation(rows)[: self.batch_size] for _ in range(rows // self.batch_size))
