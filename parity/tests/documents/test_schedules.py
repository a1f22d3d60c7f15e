"""The batch orders: what each rule promises, and that asking again gives the same order."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.mistakes.catalogue.batches import MISTAKES, has_last_batch, not_shuffled
from parity.spec import (
    CyclicRow,
    FullBatch,
    InOrder,
    RandomRow,
    RandomRows,
    Schedule,
    Shuffled,
    ShuffledByLoader,
)
from parity.tests import toy

ROWS = 23
SCHEDULES: tuple[Schedule, ...] = (
    FullBatch(),
    InOrder(5),
    InOrder(5, keep_last=False),
    Shuffled(5, seed=1),
    Shuffled(5, seed=1, reseed=True, keep_last=False),
    ShuffledByLoader(5, seed=1),
    ShuffledByLoader(5, seed=1, generator=False, keep_last=False),
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


def minibatches(rows: int, batch_size: int, shuffle: bool = False, seed: int | None = None) -> Iterator[list[int]]:
    """The post's iterator over minibatches, of which TensorFlow's section makes a new one each epoch."""
    generator = np.random.RandomState(seed)
    indices = np.arange(rows)
    if shuffle:
        generator.shuffle(indices)
    for start in range(0, indices.shape[0] - batch_size + 1, batch_size):
        yield indices[start : start + batch_size].tolist()


@pytest.mark.parametrize("rows", [ROWS, 20, 75])
@pytest.mark.parametrize("batch_size", [1, 5, 10])
def test_the_posts_iterator_gives_these_batches_with_and_without_shuffling(rows: int, batch_size: int) -> None:
    plain = InOrder(batch_size, keep_last=False)
    assert epochs(plain, 2, rows) == 2 * [list(minibatches(rows, batch_size))]
    shuffled = Shuffled(batch_size, seed=123, reseed=True, keep_last=False)
    assert epochs(shuffled, 2, rows) == 2 * [list(minibatches(rows, batch_size, shuffle=True, seed=123))]


def test_in_order_a_short_last_batch_is_kept_or_dropped() -> None:
    assert epochs(InOrder(5), 1) == [[*(list(range(start, start + 5)) for start in range(0, 20, 5)), [20, 21, 22]]]
    assert epochs(InOrder(5, keep_last=False), 1)[0] == epochs(InOrder(5), 1)[0][:-1]
    assert epochs(InOrder(1), 2) == epochs(CyclicRow(), 2)
    assert epochs(InOrder(ROWS), 2) == epochs(FullBatch(), 2)


def loaded(rows: int, batch_size: int, seed: int, generator: bool, drop_last: bool, count: int) -> list[Any]:
    """Batches of so many passes over a loader of torch's that shuffles by itself."""
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    own = torch.Generator().manual_seed(seed) if generator else None
    loader = DataLoader(range(rows), batch_size, shuffle=True, generator=own, drop_last=drop_last)  # type: ignore[arg-type]
    return [[batch.tolist() for batch in loader] for _ in range(count)]


@pytest.mark.parametrize("generator", [True, False], ids=["a-generator", "the-global-one"])
@pytest.mark.parametrize(("rows", "drop_last"), [(23, False), (23, True), (20, False), (20, True), (1000, False)])
@pytest.mark.asks(question=loaded, framework="torch", batch_size=5, seed=123, count=3)
def test_a_loader_of_torch_shuffles_as_the_schedule_says(
    rows: int, drop_last: bool, generator: bool, answer: list[Any]
) -> None:
    schedule = ShuffledByLoader(5, seed=123, generator=generator, keep_last=not drop_last)
    found = epochs(schedule, 3, rows)
    assert found == [[list(batch) for batch in epoch] for epoch in answer]
    assert found[0] != found[1]


def test_of_fewer_rows_than_a_batch_has_the_last_batch_is_not_dropped() -> None:
    """No batch at all would be left, and whoever asks for the next one would wait for ever."""
    assert not has_last_batch(replace(toy.MOMENTUM, schedule=Shuffled(toy.ROWS + 1, seed=1)), kept=True)
    assert has_last_batch(replace(toy.MOMENTUM, schedule=Shuffled(toy.ROWS - 1, seed=1)), kept=True)


@pytest.mark.parametrize("kept", [True, False])
def test_mistakes_of_a_loader_and_of_an_iterator_apply_to_their_orders(kept: bool) -> None:
    last = {True: "last-batch-dropped", False: "last-batch-kept"}[kept]
    applying = {
        type(schedule): {m.name for m in MISTAKES if m.applies(replace(toy.MOMENTUM, schedule=schedule))}
        for schedule in (InOrder(5, keep_last=kept), ShuffledByLoader(5, seed=1, keep_last=kept))
    }
    assert {last} == applying[InOrder] & {"last-batch-dropped", "last-batch-kept", "not-shuffled"}
    named = {"shuffle-with-another-seed", "not-shuffled", "drawn-with-replacement", last}
    assert named <= applying[ShuffledByLoader]
    in_turn = not_shuffled(ShuffledByLoader(5, seed=1, keep_last=kept), ROWS)
    assert [next(in_turn).tolist() for _ in range(5)] == [
        batch for epoch in epochs(InOrder(5, keep_last=kept), 2) for batch in epoch
    ][:5]


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
