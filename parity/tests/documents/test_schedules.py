"""The batch orders: what each rule promises, and that asking again gives the same order."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from parity.mistakes.catalogue.batches import has_last_batch
from parity.spec import CyclicRow, FullBatch, RandomRow, RandomRows, Schedule, Shuffled
from parity.tests import toy

ROWS = 23
SCHEDULES: tuple[Schedule, ...] = (
    FullBatch(),
    Shuffled(5, seed=1),
    Shuffled(5, seed=1, reseed=True, keep_last=False),
    CyclicRow(),
    RandomRow(seed=1),
    RandomRows(5, seed=1),
)


def epochs(schedule: Schedule, count: int, rows: int = ROWS) -> list[list[list[int]]]:
    return [[batch.tolist() for batch in epoch] for epoch in itertools.islice(schedule.epochs(rows), count)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_schedule_keeps_the_contract(schedule: Schedule) -> None:
    found = epochs(schedule, 4)
    assert found == epochs(schedule, 4)
    assert len({len(epoch) for epoch in found}) == 1
    for batch in next(schedule.epochs(ROWS)):
        assert batch.dtype == np.int64
        assert batch.ndim == 1
        assert 0 <= batch.min() <= batch.max() < ROWS


def test_of_fewer_rows_than_a_batch_has_the_last_batch_is_not_dropped() -> None:
    """No batch at all would be left, and whoever asks for the next one would wait for ever."""
    assert not has_last_batch(replace(toy.MOMENTUM, schedule=Shuffled(toy.ROWS + 1, seed=1)), kept=True)
    assert has_last_batch(replace(toy.MOMENTUM, schedule=Shuffled(toy.ROWS - 1, seed=1)), kept=True)


def test_the_cyclic_rule_takes_the_rows_in_order_again_and_again() -> None:
    assert epochs(CyclicRow(), 2) == 2 * [[[row] for row in range(ROWS)]]


def test_the_randomized_rule_draws_each_row_independently_and_uniformly() -> None:
    drawn = np.ravel(epochs(RandomRow(seed=3), 400, rows=10))
    assert drawn.shape == (4000,)
    # Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand; so does that of the pairs, 99, at 149.
    counts = np.bincount(drawn, minlength=10)
    pairs = np.bincount(10 * drawn[:-1:2] + drawn[1::2], minlength=100)
    assert np.sum((counts - 400) ** 2 / 400) < 27.9
    assert np.sum((pairs - 20) ** 2 / 20) < 149
    assert epochs(RandomRow(seed=3), 1) != epochs(RandomRow(seed=4), 1)


def test_a_random_set_holds_different_rows_and_sets_overlap() -> None:
    batches = list(itertools.chain.from_iterable(epochs(RandomRows(5, seed=3), 50)))
    assert len(batches) == 50 * (ROWS // 5)
    assert all(len(set(batch)) == 5 for batch in batches)
    assert any(set(a) & set(b) for a, b in itertools.pairwise(batches[: ROWS // 5]))
    assert set(itertools.chain.from_iterable(batches)) == set(range(ROWS))
