"""Where the ways of logistic regression differ as their listings do: at a probability of one half, and at one of 1.

At zero weights every probability is one half, so an accuracy before training says the rule, and no later one does. At a
probability of 1 plain logarithms, clamped ones and those of logits are no longer the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from impls.logistic.spec import accuracy_above_half, accuracy_half_is_one, accuracy_half_is_zero
from parity.running.jobs import CellName
from parity.suite import load_suite
from parity.tests.documents.listings import flowers
from parity.trainer import State, record
from parity.trajectory import gather

SUITE = load_suite("impls")
LOGISTIC = ("iris-logistic", "iris-logistic-minibatch")
ABOVE = ("torch", "torch-optim")
"""The ways that are the post's ``nn.Module``, of which the first run's listing counts ``> .5``; elsewhere ``>= .5``."""
WAYS = tuple(SUITE.entry("iris-logistic").implementations)


@pytest.mark.parametrize(
    ("accuracy", "one"), [(accuracy_half_is_one, True), (accuracy_above_half, False), (accuracy_half_is_zero, False)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tie_and_its_neighbours(accuracy: Any, one: bool, dtype: str) -> None:
    half = np.array(0.5, dtype)
    below, above = np.nextafter(half, half - 1), np.nextafter(half, half + 1)
    p = np.array([below, half, above]).reshape(3, 1, 1)  # three snapshots of one row
    assert accuracy(p, np.ones((1, 1))).tolist() == [0.0, float(one), 1.0]
    assert accuracy(p, np.zeros((1, 1))).tolist() == [1.0, float(not one), 0.0]


def test_a_metric_names_only_ways_that_there_are() -> None:
    for entry in SUITE.entries.values():
        for metric in entry.case.metrics:
            assert set(metric.ways) <= set(entry.implementations), (entry.case.name, metric.name)


def first_accuracies(case: str, label: str) -> list[list[float]]:
    """Accuracies before training and after an epoch, of the rows to train on and of those held out."""
    entry, implementation, _ = CellName("impls", case, None, label, "float32", "cpu").find()
    run = gather(record(implementation.build(entry.case, "float32", "cpu"), entry.case, 1))
    return [run.metrics[name].tolist() for name in run.metrics if name.endswith("accuracy")]


@pytest.mark.asks(question=first_accuracies)
@pytest.mark.parametrize("label", WAYS)
@pytest.mark.parametrize("case", LOGISTIC)
def test_every_way_counts_ties_as_its_listing_does(case: str, label: str, answer: list[list[float]]) -> None:
    _, y, _, y_test = flowers()
    from_half = case == "iris-logistic" and label not in ABOVE
    shares = [np.mean(labels == float(from_half)) for labels in (y, y_test)]
    assert [before for before, _ in answer] == shares
    printed = [".47", ".60"] if from_half else [".53", ".40"]
    assert [f"{share:.2f}".lstrip("0") for share in shares] == printed
    if case == "iris-logistic":
        assert f"{answer[0][1]:.3f}" == "0.987"  # as all three listings print it


def of_a_sure_mistake(label: str) -> list[str]:
    """Loss and gradient of the kernel where z is 100, p is 1, and the target is 0."""
    entry, implementation, _ = CellName("impls", "iris-logistic", None, label, "float64", "cpu").find()
    trainer = implementation.build(entry.case, "float64", "cpu")
    trainer.load(State({"dense/kernel": np.array([[100.0], [0.0]]), "dense/bias": np.zeros(1)}))
    with np.errstate(all="ignore"):
        loss, gradients = trainer.gradients(np.array([[1.0, 0.0]]), np.array([[0.0]]))
    return [f"{loss:.0f}", f"{gradients['dense/kernel'][0, 0]:.0f}"]


SURE = {
    "torch-manual": ["inf", "1"],  # its gradient, p - y, has no logarithm
    "torch-autograd": ["inf", "inf"],  # 1 / (1 + exp(-z)) still has a slope there
    "tf1-session": ["inf", "nan"],
    "keras-fit": ["100", "1"],  # of the logits
}


@pytest.mark.asks(question=of_a_sure_mistake)
@pytest.mark.parametrize("label", WAYS)
def test_what_a_sure_mistake_costs(label: str, answer: list[str]) -> None:
    assert list(answer) == SURE.get(label, ["100", "0"])  # BCELoss clamps the logarithm, and its gradient vanishes


NAMES = ("inputs", "targets", "weights", "bias", "predict_probas", "predict_labels", "cost", "train", "accuracy")


def of_the_graph() -> dict[str, Any]:
    """What the names of the post's graph give before training and after all of it, in float32."""
    entry, implementation, _ = CellName(
        "impls", "iris-logistic-minibatch", None, "tf1-session", "float32", "cpu"
    ).find()
    trainer = implementation.build(entry.case, "float32", "cpu")
    data, session = entry.case.data(), trainer.session
    feeds = [{"inputs:0": x, "targets:0": y[:, 0]} for x, y in (data.split("train"), data.split("test"))]

    def accuracies() -> list[str]:
        return [f"{session.run('accuracy:0', feed):.2f}" for feed in feeds]

    before, labels = accuracies(), session.run("predict_labels:0", feeds[0])
    gather(record(trainer, entry.case, entry.case.epochs))
    return {
        "names": [name for name in NAMES if session.graph.get_operation_by_name(name)],
        "weights": [f"{value:.3f}" for value in session.run("weights:0")[:, 0]],
        "bias": session.run("bias:0").shape,
        "targets": session.graph.get_tensor_by_name("targets:0").shape.rank,
        "labels": sorted(set(labels.tolist())),
        "accuracies": [before, accuracies()],
        "saturated": float(session.run("cost:0", {"inputs:0": [[100.0, 0.0]], "targets:0": [1.0]})),
    }


@pytest.mark.asks(question=of_the_graph, framework="tensorflow")
def test_the_graph_has_the_posts_names_and_what_they_give(answer: dict[str, Any]) -> None:
    assert answer["names"] == list(NAMES)
    assert answer["weights"] == ["3.312", "-2.408"]
    assert (tuple(answer["bias"]), answer["targets"]) == ((1, 1), 1)
    assert list(answer["labels"]) == [0.0]
    assert [list(pair) for pair in answer["accuracies"]] == [["0.53", "0.40"], ["1.00", "1.00"]]
    assert np.isnan(answer["saturated"])  # plain logarithms: 0 · -inf
