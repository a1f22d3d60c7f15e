"""A mistake in a layer is named by its replay, and nothing is named that was not made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parity.explaining.layers.find import find_layers
from parity.explaining.layers.named import Named
from parity.explaining.layers.parting import Parting
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.recording.reader import read
from parity.running.executor import Environment
from parity.tests.command import Parity
from parity.tests.explaining.asked import Runs
from parity.tests.explaining.layers.between import BETWEEN as BETWEEN_LAYERS
from parity.tests.explaining.layers.planted import OTHERS, PLANTS, recorded, recorded_in_keras
from parity.tests.explaining.ports import recorded as ported
from parity.tests.schemas import held
from parity.tests.warm import Warm
from parity.tolerance import FACTOR

FITTED = {
    "another-negative-slope": "slope 0.01 for 0.2",
    "leaky-relu-for-relu": "slope 0.1 for 0",
    "another-elu-alpha": "alpha 0.5 for 1",
    "another-softplus-beta": "beta 2 for 1",
    "another-temperature": "temperature 2.5 for 1",
    "another-norm-epsilon": "epsilon 0.001 for 1e-05",
    "another-number-of-groups": "3 for 2",
    "padding-of-other-values": "mirrored",
    "another-dilation": "1 for 2",
    "embedding-times-a-factor": "the root of the width, 3.4641",
    "values-times-a-factor": "the root of the width, 3.4641",
    "embedding-rows-shifted": "by +1",
    "padding-row-zeroed": "row 0",
    "dropout-left-on": "rate 0.3",
    "gates-in-another-order": "input, cell, forget, output",
    "forget-bias-of-one": "+1",
    "one-of-two-biases-missing": "that of the state",
    "causal-mask-off-by-one": "+1",
    "another-rotary-base": "500000 for 10000",
    "query-key-and-value-in-another-order": "key, query, value",
    "attention-within-a-window": "of 3",
    "another-cubic": "-0.5 for -0.75",
    "layer-bias-repeated": "4 times",
    "product-times-a-factor": "one over the root of the width, 0.288675",
    "hard-sigmoid-in-the-gates": "0.2 x + 0.5",
    "rotary-positions-on-one-side": "the key",
    "another-activation-in-a-gate": "gelu for silu",
}
"""The numbers that are fitted, as the plants have them."""


class Both:
    """Gives the runs of a plant, the wrong one and the right one."""

    def __init__(self, warm: Warm, factory: pytest.TempPathFactory) -> None:
        self._warm, self._factory = warm, factory

    def __call__(self, mistake: str, dtype: str) -> tuple[Path, Path]:
        asked = [{"mistake": mistake, "wrong": wrong, "dtype": dtype} for wrong in (True, False)]
        made = [
            self._warm.ask(recorded, Environment("torch"), one, folder=lambda: self._factory.mktemp("layer"))
            for one in asked
        ]
        wrong, right = (Path(one.result()) for one in made)
        return wrong, right


@pytest.fixture
def both(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(warm, tmp_path_factory)


def first(one: Path, other: Path) -> Parting:
    found = find_layers(read(one), read(other))
    assert found is not None
    assert found.partings
    return found.partings[0]


IN_KERAS = "symmetric-for-same-padding"
"""The mistake whose right layer torch cannot say: SAME at a stride."""


def test_every_mistake_in_a_layer_is_planted() -> None:
    between = {name for plant in BETWEEN_LAYERS.values() for name in plant.names}
    assert {mistake.name for mistake in REPLAYED} == {*PLANTS, IN_KERAS} | between


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mistake_in_keras_is_named(dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> None:
    wrong, right = (
        Path(
            warm.ask(
                recorded_in_keras,
                Environment("keras"),
                {"wrong": wrong, "dtype": dtype},
                folder=lambda: tmp_path_factory.mktemp("layer"),
            ).result()
        )
        for wrong in (True, False)
    )
    named = first(wrong, right).mistake
    assert named is not None
    assert (named.names, named.which) == ((IN_KERAS,), "first")
    back = first(right, wrong).mistake
    assert back is not None
    assert (back.names, back.which) == (("same-for-symmetric-padding",), "first")


BETWEEN: dict[tuple[str, str], tuple[str, str]] = {
    ("images", "bn-eps"): ("another-norm-epsilon", "epsilon 0.001 for 1e-05"),
    ("images", "flatten"): ("flattened-in-another-order", ""),
    ("images", "dropout"): ("dropout-left-on", "rate 0.3"),
    ("images", "gelu"): ("gelu-by-tanh", ""),
    ("images", "relu"): ("activation-missing", ""),
    ("texts", "ln-eps"): ("another-norm-epsilon", "epsilon 0.001 for 1e-05"),
    ("texts", "gelu"): ("gelu-by-tanh", ""),
    ("texts", "scale"): ("attention-scaled-by-the-whole-width", ""),
    ("texts", "mask"): ("causal-mask-missing", ""),
    ("texts", "no-norm"): ("normalization-missing", ""),
}
"""What is named of the ports of two models, one of which makes a mistake; torch's is right."""
QUICK = {("images", "bn-eps"), ("images", "flatten"), ("images", "dropout"), ("texts", "mask"), ("texts", "no-norm")}


@pytest.mark.parametrize(
    ("other", "model", "mistake"),
    [
        pytest.param(other, *of, marks=() if other == "keras" and of in QUICK else pytest.mark.slow)
        for other in ("keras", "flax")
        for of in BETWEEN
    ],
)
def test_a_mistake_is_named_between_frameworks(
    other: str, model: str, mistake: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = Runs(ported, warm, tmp_path_factory)
    right, wrong = runs("torch", model, dtype="float32"), runs(other, model, mistake, dtype="float32")
    parting = first(wrong, right)
    named = parting.mistake
    if (other, model, mistake) == (
        "flax",
        "images",
        "relu",
    ):  # there both are functions, of which the results are known
        assert [layer.kind for layer in parting.theirs.with_it] == ["ReLU", "MaxPool2d"]
    assert named is not None
    assert (named.names, named.said) == ((BETWEEN[model, mistake][0],), (BETWEEN[model, mistake][1],))
    assert named.which == "first"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mistake", PLANTS)
def test_a_mistake_is_named_from_either_side(mistake: str, dtype: str, both: Both) -> None:
    wrong, right = both(mistake, dtype)
    named = first(wrong, right).mistake
    assert named is not None
    assert named.names == (mistake,)
    assert named.said == (FITTED.get(mistake, ""),)
    assert named.which == "first"
    assert max(named.floors, named.right) <= FACTOR / 4
    # Held the other way round, it is the first run's layer that is explained, if another mistake makes that of the
    # second one's; else it is the same mistake.
    back = first(right, wrong).mistake
    assert back is not None
    assert back.which == "first" or back.names == (mistake,)


@pytest.mark.parametrize("mistake", ["gelu-by-tanh", "another-norm-epsilon"])
def test_explain_says_it_in_text_and_json(mistake: str, both: Both, parity: Parity) -> None:
    wrong, right = both(mistake, "float32")
    result = parity("explain", wrong, right, "--json", "explained.json")
    assert result.status == 1
    assert f"explained by {mistake}" in result.out
    assert "in the first run if the other is right (replay agrees to 0." in result.out
    found = held("explain", json.loads(Path("explained.json").read_text()))["explanations"][0]
    said = found["layer"]["partings"][0]["mistake"]
    assert said["names"] == [mistake]
    assert said["sentences"] == [one.sentence for one in REPLAYED if one.name == mistake]
    assert f"explained by {mistake}" in found["why"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_layer_that_no_mistake_explains_is_not_named(other: str, dtype: str, both: Both) -> None:
    """The right layer is known, and the other gives what no mistake makes of it."""
    wrong, right = both(other, dtype)
    assert first(wrong, right).mistake is None
    assert first(right, wrong).mistake is None


def test_two_mistakes_that_give_the_same_are_both_said() -> None:
    said = Named(
        names=("a", "b"), sentences=("A.", "B."), said=("", "x 1"), which="second", floors=0.51, right=float(np.pi)
    ).sentence
    assert said.startswith("explained by a or b (x 1), which this update does not tell apart, in the second run")
    assert "agrees to 0.51 of the noise floor, that of the other run's own layer to 3.1)" in said


@pytest.mark.parametrize(
    "settings", [{"eps": "small"}, {"eps": None}, {"eps": [1.0]}, {"eps": -1.0, "normalized_shape": [3, 3, 3]}]
)
def test_a_recording_that_says_nonsense_of_a_layer_is_not_explained(settings: dict[str, object], both: Both) -> None:
    wrong, right = both("norm-epsilon-outside-the-root", "float32")
    runs = [read(folder) for folder in (wrong, right)]
    for run in runs:
        for layer in run.meta["layers"]:
            layer["configuration"] = {**layer["configuration"], **settings}
    found = find_layers(*runs)
    assert found is not None
    assert found.partings[0].mistake is None


def test_a_window_that_no_input_holds_is_not_computed(both: Both) -> None:
    wrong, right = both("kernel-flipped", "float32")
    runs = [read(folder) for folder in (wrong, right)]
    for run in runs:
        for layer in run.meta["layers"]:
            layer["configuration"] = {**layer["configuration"], "padding": [10**7, 10**7], "dilation": [10**7, 10**7]}
    found = find_layers(*runs)
    assert found is not None
    assert found.partings[0].mistake is None
