"""How each document counts: which class wins, what a tie is, and of which rows."""

from __future__ import annotations

import numpy as np
import pytest

from parity.spec import Metric
from parity.suite import load_suite
from parity.trainer import record
from parity.trajectory import gather

SUITE = load_suite("impls")


def metrics(case: str, kind: str = "") -> list[Metric]:
    return [metric for metric in SUITE.entry(case).case.metrics if kind in metric.name]


TIES = {
    "iris-logistic": 1,  # >= .5
    "iris-logistic-minibatch": 0,  # tf.round, half to even
    "synthetic-logistic": 0,  # torch.round, half to even
    "dogecoin-logistic": 1,  # ours: >= .5
}
"""The class that a probability of one half means."""


def test_every_case_that_counts_classes_of_a_probability_is_looked_at() -> None:
    counting = {name for name in SUITE.entries if "logistic" in name and metrics(name, "accuracy")}
    assert counting == set(TIES)


@pytest.mark.parametrize("case", TIES)
def test_a_tie_means_the_class_that_the_document_says(case: str) -> None:
    y = np.array([[0.0], [0.0], [0.0], [1.0]])
    for metric in metrics(case, "accuracy"):
        assert metric.score(np.full((1, 4, 1), 0.5), y).tolist() == [0.25 if TIES[case] else 0.75]
        # A hair to either side, the rule does not matter.
        assert metric.score(np.full((1, 4, 1), np.nextafter(0.5, 0)), y).tolist() == [0.75]
        assert metric.score(np.full((1, 4, 1), np.nextafter(0.5, 1)), y).tolist() == [0.25]


@pytest.mark.parametrize("case", ["iris-logistic", "iris-logistic-minibatch", "dogecoin-logistic"])
def test_at_zero_weights_every_row_is_a_tie(case: str) -> None:
    entry = SUITE.entry(case)
    run = gather(record(SUITE.implementation(entry, "numpy").build(entry.case, "float32", "cpu"), entry.case, 1))
    for metric in metrics(case, "accuracy"):
        _, y = entry.case.data().split(metric.split)
        assert run.metrics[metric.name][0] == np.mean(y == TIES[case])


@pytest.mark.parametrize("case", ["mnist-softmax", "mnist-mlp"])
def test_of_ten_digits_the_largest_wins_and_of_equal_ones_the_first(case: str) -> None:
    scores = np.array([[[-3.0, -1.0, -2.0], [-1.0, -2.0, -3.0], [-2.0, -2.0, -3.0], [-3.0, -1.0, -1.0]]])
    for metric in metrics(case):
        assert metric.score(scores, np.array([1, 0, 0, 1])).tolist() == [1.0]
        assert metric.score(scores, np.array([1, 0, 1, 2])).tolist() == [0.5]
        assert metric.score(scores, np.array([0, 2, 2, 0])).tolist() == [0.0]
