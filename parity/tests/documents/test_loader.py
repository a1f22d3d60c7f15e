"""A ``DataLoader`` as the documents use it: the images that it hands out, and the order that it draws for itself."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from impls.mlp.spec import SHIPPED as PERCEPTRON
from impls.softmax.spec import SHIPPED as SOFTMAX
from parity.judging.floors.noise import measure
from parity.judging.verdict import Verdict, judge
from parity.spec import ShuffledByLoader
from parity.suite import load_suite
from parity.trainer import record
from parity.trajectory import Trajectory, gather

SUITE = load_suite("impls")
EPOCHS, SEED = 2, 5
WAYS = ("torch-optim", "torch-loader")


def trained_by_a_loader(epochs: int, seed: int) -> dict[str, Any]:
    """Train the perceptron in float64 from a loader that shuffles by itself: the rows that it gave, and the losses."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data, initial = PERCEPTRON.data(), PERCEPTRON.initial()
    model = SUITE.entry(PERCEPTRON.name).implementations["torch-loader"].load().Mlp((784, 32, 32, 32, 10)).double()
    for number, linear in enumerate(model.fc[::2], 1):
        linear.weight.detach().copy_(torch.tensor(initial[f"dense{number}/kernel"].T))
        linear.bias.detach().copy_(torch.tensor(initial[f"dense{number}/bias"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    images = TensorDataset(torch.tensor(data.x).view(-1, 1, 28, 28), torch.tensor(data.y), torch.arange(len(data.y)))
    loader = DataLoader(images, 512, shuffle=True, generator=torch.Generator().manual_seed(seed))
    rows, losses = [], []
    for _ in range(epochs):
        for x, y, chosen in loader:
            loss = torch.nn.functional.nll_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows.append(chosen.tolist())
            losses.append(loss.item())
    return {"rows": rows, "losses": losses}


@pytest.mark.slow
@pytest.mark.asks(question=trained_by_a_loader, framework="torch", epochs=EPOCHS, seed=SEED)
def test_numpy_follows_a_loader_that_shuffles_by_itself(answer: dict[str, Any]) -> None:
    case = replace(PERCEPTRON, schedule=ShuffledByLoader(512, SEED), epochs=EPOCHS, metrics=())
    build = SUITE.entry(case.name).implementations["numpy"].build
    order = itertools.islice(case.schedule.epochs(len(case.data().x)), EPOCHS)
    assert [rows.tolist() for batches in order for rows in batches] == [list(rows) for rows in answer["rows"]]
    reference = gather(record(build(case, "float64", "cpu"), case, EPOCHS))
    losses = np.array(answer["losses"]).reshape(EPOCHS, -1)
    run = Trajectory({"dtype": "float64"}, reference.epochs, losses, reference.params, {})
    found = judge(run, reference, measure(build, case, EPOCHS, dtypes=("float64",))["float64"], params=False)
    assert found.verdict is Verdict.PASS, found.reason


def of_images(label: str) -> dict[str, Any]:
    """What the perceptron says of three images flat, as the loader's batch of them, and of one as the source has it."""
    trainer = SUITE.entry(PERCEPTRON.name).implementations[label].build(PERCEPTRON, "float64", "cpu")
    x = PERCEPTRON.data().x[:3]
    flat, batch, one = (trainer.predict(images) for images in (x, x.reshape(3, 1, 28, 28), x[:1].reshape(1, 28, 28)))
    return {"flat": flat.tolist(), "batch": batch.tolist(), "one": one.tolist()}


@pytest.mark.asks(question=of_images)
@pytest.mark.parametrize("label", WAYS)
def test_the_perceptron_flattens_the_images_that_a_loader_hands_out(label: str, answer: dict[str, Any]) -> None:
    assert np.shape(answer["one"]) == (1, 10)
    assert answer["batch"] == answer["flat"]
    np.testing.assert_array_equal(answer["one"], answer["flat"][:1])


def of_softmax(label: str) -> dict[str, Any]:
    """Logits and probabilities of two images, one after the other, off the initial zeros."""
    import torch

    x = torch.tensor(SOFTMAX.data().x[:2]).view(2, 1, 28, 28)
    model = SUITE.entry(SOFTMAX.name).implementations[label].load().SoftmaxRegression(784, 10).double()
    torch.nn.init.sparse_(model.linear.weight, 0.5, generator=torch.Generator().manual_seed(0))
    logits, probabilities = model(x)
    return {"logits": logits.tolist(), "probabilities": probabilities.tolist()}


@pytest.mark.asks(question=of_softmax)
@pytest.mark.parametrize("label", WAYS)
def test_softmax_regression_gives_logits_and_probabilities(label: str, answer: dict[str, Any]) -> None:
    logits, probabilities = np.array(answer["logits"]), np.array(answer["probabilities"])
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-14)
    assert (probabilities.argmax(1) == logits.argmax(1)).all()
    assert not np.allclose(logits, logits[:1])
