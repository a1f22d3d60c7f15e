"""Mistakes planted in real frameworks: on the case, on the batch order, and through the verbs."""

from __future__ import annotations

from functools import partial

import pytest

from parity.judging.ladder import Rung, climb
from parity.mistakes.catalogue import CATALOGUE
from parity.proving.plan import _anywhere
from parity.tests.judging.test_ladder_faults import IRIS, assert_falls, floors
from parity.tests.mistakes.planted import SUITE, plantable, reference

# The same in a real framework, in a worker process: on the case, on the batch order, and through the verbs.

LABELS = {"torch": "torch", "tensorflow": "tf1", "keras": "keras", "jax": "jax"}
IN_FRAMEWORKS = {
    "mean-for-sum": "gradients",
    "last-batch-kept": "update",
    "rows-permuted": "prediction",
}
IN_TORCH = {"sigmoid-before-a-with-logits-loss": "gradients"}
"""In the pieces of a model, in torch's words."""
IN_NUMPY_ALONE = {
    "half-precision-accumulation": "no CPU product is made so",
    "tanh-for-sigmoid": "torch refuses what is no probability",
    "tf32-products": "no CPU product is made so",
}


def test_every_mistake_is_planted_in_a_real_framework_or_the_reason_is_said() -> None:
    alone = {
        name
        for name, (hypothesis, entry) in plantable().items()
        if not hypothesis.pieces_of and not _anywhere(hypothesis, SUITE, entry)
    }
    assert alone == set(IN_NUMPY_ALONE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "label" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or ["torch"]
        pairs = [(LABELS[name], mistake) for name in LABELS if name in chosen for mistake in IN_FRAMEWORKS]
        pairs += [("torch", mistake) for mistake in IN_TORCH if "torch" in chosen]
        metafunc.parametrize(("label", "mistake"), pairs, ids=["-".join(pair) for pair in pairs])


def climbed(label: str, mistake: str) -> tuple[Rung, ...]:
    """The way up the ladder of the document's model with a mistake of the catalogue, where its framework is."""
    plant = next(known.plant for known in CATALOGUE if known.name == mistake)
    right = SUITE.entry(IRIS.name).implementations[label].load().build
    wrong = partial(plant, right)
    return tuple(climb(wrong, reference(SUITE.entry(IRIS.name)), IRIS, "float64", "cpu", floors(IRIS)["float64"]))


@pytest.mark.asks(question=climbed)
def test_frameworks(label: str, mistake: str, answer: tuple[Rung, ...]) -> None:
    assert_falls(answer, (IN_FRAMEWORKS | IN_TORCH)[mistake])
