"""Ports as users write them: right ones agree, in every framework and dtype, and each mistake is seen."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.judging.verdict import Verdict
from parity.tests.ports.__main__ import pairs
from parity.tests.ports.mistakes import MISTAKES, Mistake
from parity.tests.ports.pairs import MODELS, Port, followed, judged
from parity.tests.ports.weights import FRAMEWORKS, layout
from parity.tests.warm import Warm
from parity.tolerance import FACTOR, least_floor

slow = pytest.mark.slow
QUICK = "lstm"
"""The model that compiles fastest."""
FOLLOWED = {
    "resnet": "norm-epsilon",
    "gpt": "norm-epsilon",
    "llama": "norm-epsilon",
    "unet": "adam-epsilon",
    "lstm": "clip-per-tensor",
}
"""A mistake of each model that is caught where one port follows another."""


@pytest.mark.parametrize("model", MODELS)
def test_every_port_names_the_same_tensors(model: str) -> None:
    named = [{slot.canonical for slot in layout(model, framework)} for framework in FRAMEWORKS]
    assert all(names == named[0] for names in named)
    assert len(named[0]) > 5


def test_a_mistake_is_said_once_and_of_ports_that_there_are() -> None:
    names = [(mistake.model, mistake.name) for mistake in MISTAKES]
    assert len(set(names)) == len(names)
    assert {mistake.model for mistake in MISTAKES} == set(MODELS)
    assert all(set(mistake.frameworks) <= set(FRAMEWORKS) == set(mistake.layers) for mistake in MISTAKES)
    assert len({mistake.name for mistake in MISTAKES}) >= 12


@pytest.mark.parametrize("model", [model if model == QUICK else pytest.param(model, marks=slow) for model in MODELS])
def test_the_ports_compute_the_same(model: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody watches, in float64, so that the ports themselves are held against each other."""
    ports = [Port(model, framework, "float64", steps=6, watched=False) for framework in FRAMEWORKS]
    runs = [port.made(warm, lambda: tmp_path_factory.mktemp("port")) for port in ports]
    losses = np.array([run.result()["losses"] for run in runs])
    assert losses.shape == (len(FRAMEWORKS), 6)
    assert len(np.unique(losses[0])) == 6
    apart = np.abs(losses - losses[0]).max()
    assert apart <= FACTOR * least_floor(losses.max(), "float64")


@pytest.mark.parametrize(
    ("model", "dtype", "steps"),
    [
        pytest.param(model, dtype, steps, marks=() if (model, dtype, steps) == (QUICK, "float32", 8) else slow)
        for model, dtype, steps in itertools.product(MODELS, ("float32", "float64"), (8, 20))
        if steps == 20 or model == QUICK
    ],
)
def test_right_ports_pass(
    model: str, dtype: str, steps: int, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # JAX compiles for a minute in each dtype: python -m parity.tests.ports makes the whole table.
    frameworks = FRAMEWORKS if (steps, dtype) == (20, "float32") else ("torch", "keras")
    for pair in pairs([model], frameworks, [dtype], seeds=1):
        runs = [
            replace(port, steps=steps).made(warm, lambda: tmp_path_factory.mktemp("port"))
            for port in (pair.one, pair.other)
        ]
        said = judged(*(run.result() for run in runs))
        assert said.verdict is Verdict.PASS, (pair, said)
        assert said.source == "shadows"
        assert not said.wrongly, "what is called proven is what the porters wrote"


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(
            mistake,
            marks=() if (mistake.model, mistake.name) == (QUICK, "last-state") else slow,
            id=f"{mistake.model}-{mistake.name}",
        )
        for mistake in MISTAKES
    ],
)
def test_each_mistake_fails(
    mistake: Mistake, right: dict[Port, Any], warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Likewise, and the mistake in each port.
    pair = next(pairs([mistake.model], ("torch", "keras"), ["float32"], 1, [mistake.name]))
    wrong, other = (replace(port, steps=8) for port in (pair.one, pair.other))
    if other not in right:
        right[other] = other.made(warm, lambda: tmp_path_factory.mktemp("port")).result()
    said = judged(wrong.made(warm, lambda: tmp_path_factory.mktemp("port")).result(), right[other], mistake)
    assert said.verdict is Verdict.FAIL, (pair, said)
    assert not said.wrongly
    if mistake.model == "llama":
        assert (said.phase_right, said.layer_right) == (True, True), said.words
        assert said.cause_right == bool(mistake.cause), said.words


@pytest.fixture(scope="module")
def right() -> dict[Port, Any]:
    """The right runs that were made, each once."""
    return {}


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        pytest.param(model, mistake, marks=() if (model, mistake) == (QUICK, "") else slow)
        for model, mistake in (*((model, "") for model in MODELS), *FOLLOWED.items())
    ],
)
def test_a_port_follows_another_by_the_layouts_that_were_matched(
    model: str, mistake: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lead = Port(model, "torch", steps=8, deep=8)
    port = replace(lead, framework="keras", mistake=mistake)
    known = next((one for one in MISTAKES if (one.model, one.name) == (model, mistake)), None)
    said = followed(warm, lambda: tmp_path_factory.mktemp("port"), lead, port, known)
    assert said.verdict is (Verdict.FAIL if mistake else Verdict.PASS), said
