"""What is known of the two models of handwritten digits beside their runs: sizes, spread, and torch 1.0's order."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from fixtures import weights
from impls.mlp.spec import AVERAGE_LOSSES, DRAWS, FLATTEST, HIGHEST, LOWEST, SHIPPED, STEEPEST, average_loss
from impls.softmax.spec import ShuffledByTorch1
from parity.judging.published import figures
from parity.judging.verdict import Verdict, overall
from parity.spec import Shuffled
from parity.suite import load_suite
from parity.trainer import record
from parity.trajectory import Trajectory, gather

MLP = load_suite("impls").entry("mnist-mlp")


def describe(label: str) -> dict[str, Any]:
    """Sizes of the source's five-layer perceptron, 784 → 32 → 64 → 128 → 64 → 10, and of its output on one image."""
    case = replace(SHIPPED, initial=partial(weights.linear, 0, (784, 32, 64, 128, 64, 10)))
    trainer = MLP.implementations[label].build(case, "float32", "cpu")
    params = trainer.export().params
    return {
        "tensors": len(params),
        "parameters": sum(value.size for value in params.values()),
        "output": trainer.predict(case.data().x[:1]).shape,
    }


@pytest.mark.asks(question=describe)
@pytest.mark.parametrize("label", MLP.implementations)
def test_the_five_layer_perceptron_has_the_sizes_that_the_source_prints(label: str, answer: dict[str, Any]) -> None:
    assert answer == {"tensors": 10, "parameters": 44_458, "output": [1, 10]}


@cache
def trained(seed: int | None, **optimizer: float) -> Trajectory:
    """A run of the perceptron from the seed's initial weights, in its batch order; None is the case's own run."""
    case = replace(SHIPPED, optimizer=replace(SHIPPED.optimizer, **optimizer), metrics=())
    if seed is not None:
        initial = partial(weights.linear, seed, (784, 32, 32, 32, 10))
        case = replace(case, initial=initial, schedule=Shuffled(512, seed))
    trainer = MLP.implementations["numpy"].build(case, "float32", "cpu")
    with np.errstate(all="ignore"):  # What is not trained as it should be may overflow.
        return gather(record(trainer, case, case.epochs))


EDGES = (15, 33, 37, 50, 71, 78, 84, 114, 132, 139, 153, 178, 187, 194)
"""The draws that are the lowest, the highest, the steepest or the flattest at some epoch."""
PUBLISHED = np.array(AVERAGE_LOSSES.split(), float)
OUTWARDS = 1.1e-5
"""An edge is written to five decimals, rounded outwards; in other arithmetic a draw ends within a millionth."""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [EDGES, range(DRAWS)], ids=["edges", "all"])
def test_the_envelope_is_what_draws_do_and_the_published_draw_is_one_of_them(seeds: Sequence[int]) -> None:
    runs = np.array([average_loss(trained(seed))[1:] for seed in seeds])
    changes = np.diff(runs)
    for found, (low, high) in ((runs, (LOWEST, HIGHEST)), (changes, (STEEPEST, FLATTEST))):
        assert np.all((found.min(0) >= low) & (found.min(0) <= np.add(low, OUTWARDS)))
        assert np.all((found.max(0) <= high) & (found.max(0) >= np.subtract(high, OUTWARDS)))
    assert np.all((runs.min(0) <= PUBLISHED) & (runs.max(0) >= PUBLISHED))
    assert np.all((changes.min(0) <= np.diff(PUBLISHED)) & (changes.max(0) >= np.diff(PUBLISHED)))


def verdict(seed: int | None, **optimizer: float) -> Verdict:
    found = figures(SHIPPED, trained(seed, **optimizer), "float32", None)
    assert len(found) == SHIPPED.epochs
    return overall([figure.verdict for figure in found])


@pytest.mark.slow
def test_right_draws_pass() -> None:
    assert {seed: verdict(seed) for seed in (None, *EDGES)} == dict.fromkeys((None, *EDGES), Verdict.PASS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seeds", [(None, 37), pytest.param(range(40), marks=pytest.mark.slow)], ids=["its own and one", "forty"]
)
@pytest.mark.parametrize(
    "optimizer",
    [
        {"learning_rate": 0.0},
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in ({"learning_rate": 0.1}, {"learning_rate": -0.01}, {"weight_decay": -0.1})
        ),
    ],
    ids=str,
)
def test_what_is_not_trained_as_the_source_trains_fails(
    seeds: Sequence[int | None], optimizer: dict[str, float]
) -> None:
    assert {verdict(one, **optimizer) for one in seeds} == {Verdict.FAIL}


@pytest.mark.slow
def test_a_loss_that_stays_where_draws_are_fails_by_its_shape() -> None:
    """As the envelope of levels alone would have it, a model that is never trained passes."""
    run = trained(None)
    still = replace(run, loss=np.full_like(run.loss, PUBLISHED.mean()))
    found = figures(SHIPPED, still, "float32", None)
    failed = {figure.epoch: figure.reason for figure in found if figure.verdict is Verdict.FAIL}
    assert list(failed) == [2, 3, 4, 5]
    assert all(reason.startswith("+0 since the epoch before, other draws -0.0") for reason in failed.values())


def torch_orders(rows: int, epochs: int) -> list[list[int]]:
    """The order of every second pass over a loader of torch 1.0."""
    import torch

    torch.manual_seed(123)
    orders = []
    for _ in range(2 * epochs):
        torch.empty((), dtype=torch.int64).random_()  # the seed of the loader's workers
        orders.append(torch.randperm(rows).tolist())
    return orders[::2]


ROWS, EPOCHS = 1000, 3


@pytest.mark.asks(question=torch_orders, framework="torch", rows=ROWS, epochs=EPOCHS)
def test_torch_shuffles_as_the_schedule_says(answer: tuple[tuple[int, ...], ...]) -> None:
    """Today's torch still permutes as 1.0 did; only what its loader draws from the generator before has changed."""
    schedule = ShuffledByTorch1(batch_size=256, seed=123)
    found = [list(batches) for batches in itertools.islice(schedule.epochs(ROWS), EPOCHS)]
    assert [[len(batch) for batch in batches] for batches in found] == EPOCHS * [[256, 256, 256, 232]]
    assert {batch.dtype for batches in found for batch in batches} == {np.dtype(np.int64)}
    orders = [np.concatenate(batches).tolist() for batches in found]
    assert orders == [list(order) for order in answer]
