"""What is known of the two models of handwritten digits beside their runs: sizes, spread, and torch 1.0's order."""

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from fixtures import weights
from impls.mlp.spec import AVERAGE_LOSSES, HIGHEST, LOWEST, SHIPPED, average_loss
from impls.softmax.spec import ShuffledByTorch1
from parity.spec import Shuffled
from parity.suite import load_suite
from parity.trainer import record
from parity.trajectory import gather

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


def average_losses(seed: int) -> list[float]:
    """Each epoch's average loss of the perceptron from the seed's initial weights, in the seed's batch order."""
    initial = partial(weights.linear, seed, (784, 32, 32, 32, 10))
    case = replace(SHIPPED, initial=initial, schedule=Shuffled(512, seed), metrics=())
    trainer = MLP.implementations["numpy"].build(case, "float32", "cpu")
    losses: list[float] = average_loss(gather(record(trainer, case, case.epochs)))[1:].tolist()
    return losses


def test_the_spread_of_the_perceptron_is_the_one_that_its_envelope_is_made_of() -> None:
    """The five of the forty seeds that are an edge at some epoch; the edges are written to five decimals."""
    runs = np.array([average_losses(seed) for seed in (12, 13, 15, 33, 39)])
    np.testing.assert_allclose(runs.min(0), LOWEST, rtol=0, atol=2e-5)
    np.testing.assert_allclose(runs.max(0), HIGHEST, rtol=0, atol=2e-5)


def test_the_published_average_losses_lie_within_the_spread() -> None:
    published = np.array(AVERAGE_LOSSES.split(), float)
    assert np.all(published >= LOWEST)
    assert np.all(published <= HIGHEST)


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
