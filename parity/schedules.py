"""Batch orders: which rows each update of each epoch takes. ``parity.spec`` hands them out with the rest of a case."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from parity.typing import Array, Batches


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
class InOrder:
    """Rows in the order of the data, cut into batches: an iterator over minibatches that does not shuffle.

    Attributes:
        batch_size: Rows in a batch.
        keep_last: Whether a last batch that is shorter than the others is kept.

    Examples:
        >>> [rows.tolist() for rows in next(InOrder(batch_size=2).epochs(5))]
        [[0, 1], [2, 3], [4]]
    """

    batch_size: int
    keep_last: bool = True
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        batches = cut(np.arange(rows), self.batch_size, self.keep_last)
        while True:
            yield batches


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
        while True:
            if self.reseed:
                generator = np.random.RandomState(self.seed)
            order = np.arange(rows)
            generator.shuffle(order)
            yield cut(order, self.batch_size, self.keep_last)


@dataclass(frozen=True)
class ShuffledByLoader:
    """The batches that torch's ``DataLoader(rows, batch_size, shuffle=True)`` draws for itself, a pass an epoch.

    So whoever trains from such a loader can say to every other framework which rows it will take. A pass draws twice
    for the seed of its workers. Of a generator that it is handed it then draws a permutation, and, as it ends, a second
    one of which it takes nothing. Without one it draws a seed from torch's global generator, again two draws, and
    permutes by a generator of that seed. So it is in torch 2, whatever the number of workers; torch 1.0 drew otherwise.

    Attributes:
        batch_size: Rows in a batch.
        seed: The seed of the generator.
        generator: Whether the loader was handed one, ``generator=torch.Generator().manual_seed(seed)``. Else the order
            is the one after ``torch.manual_seed(seed)``, if nothing else draws from torch's global generator.
        keep_last: Whether a last batch that is shorter than the others is kept: ``drop_last=False``.

    Examples:
        >>> [rows.tolist() for rows in next(ShuffledByLoader(batch_size=2, seed=0).epochs(5))]
        [[3, 1], [0, 4], [2]]
    """

    batch_size: int
    seed: int
    generator: bool = True
    keep_last: bool = True
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        while True:
            draws(generator, 2)
            if self.generator:
                order = randperm(generator, rows)
                draws(generator, rows - 1)
            else:
                _, low = draws(generator, 2)  # 64 bits, of which a generator's seed is the lower half
                order = randperm(np.random.RandomState(low), rows)
            yield cut(order, self.batch_size, self.keep_last)


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


def cut(order: Array, batch_size: int, keep_last: bool) -> Batches:
    """Cut an epoch's rows into batches.

    Args:
        order: The rows (n,) int64.
        batch_size: Rows in a batch.
        keep_last: Whether a last batch that is shorter than the others is kept.

    Returns:
        The batches, views of ``order``.

    Examples:
        >>> [batch.tolist() for batch in cut(np.array([2, 0, 1]), 2, keep_last=False)]
        [[2, 0]]
    """
    end = len(order) if keep_last else len(order) - len(order) % batch_size
    return tuple(order[start : start + batch_size] for start in range(0, end, batch_size))


def altered(schedule: Any, **attributes: Any) -> Any:
    """Give the same schedule with other values of some attributes.

    Args:
        schedule: A schedule, a dataclass or an object of a plain class.
        attributes: The attributes' values by name.

    Returns:
        Another schedule; the one given stays as it is.

    Examples:
        >>> altered(Shuffled(batch_size=2, seed=0), seed=5)
        Shuffled(batch_size=2, seed=5, reseed=False, keep_last=True)
    """
    if is_dataclass(schedule):
        return replace(cast(Any, schedule), **attributes)
    other = copy.copy(schedule)
    vars(other).update(attributes)
    return other


def draws(generator: np.random.RandomState, count: int) -> Array:
    """Take raw 32-bit draws, which torch's CPU generator of the same seed draws as well: both are mt19937.

    Args:
        generator: NumPy's generator.
        count: The number of draws.

    Returns:
        (count,) uint32.

    Examples:
        >>> draws(np.random.RandomState(0), 2).tolist()
        [2357136044, 2546248239]
    """
    return generator.randint(0, 2**32, count, dtype=np.uint32)


def randperm(generator: np.random.RandomState, rows: int) -> Array:
    """Permute as ``torch.randperm(rows, generator=…)`` does on the CPU.

    Entry i of 0 … n-1 changes places with entry i + r mod (n - i), r the next raw draw, for i = 0 … n-2.

    Args:
        generator: NumPy's generator, in the state of torch's.
        rows: The number of rows n, less than 2³² / 20.

    Returns:
        The permutation (n,) int64.

    Examples:
        >>> randperm(np.random.RandomState(0), 5).tolist()
        [4, 0, 1, 3, 2]
    """
    order = list(range(rows))
    for i, r in enumerate(draws(generator, rows - 1).tolist()):
        j = i + r % (rows - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order)
