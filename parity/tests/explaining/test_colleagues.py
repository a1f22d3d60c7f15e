"""What is said of models as colleagues port them: recurrent layers, classes of their own, Keras's Adam."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parity.explaining.folders import explain_folders
from parity.explaining.layers.beside import TENSORS, side_by_side
from parity.explaining.layers.find import find_layers
from parity.judging.floors.known import Known
from parity.judging.preflight import preflight
from parity.recorder import Recorder
from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.tests.command import Parity
from parity.tests.explaining.asked import Runs
from parity.tests.explaining.colleagues import recorded
from parity.tests.schemas import held
from parity.tests.warm import Warm
from parity.trajectory import Trajectory


@pytest.fixture
def runs(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(recorded, warm, tmp_path_factory)


def why(one: Path, other: Path) -> str:
    _, found = explain_folders(Known(None), one, other, (), None, lambda entry, second: {})
    assert found is not None
    return str(found["why"])


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("hard", "recurrent_activation hard_sigmoid against sigmoid"),
        ("reset", "reset_after False against True"),
        ("back", "reverse True against False"),
        ("gates", "gru/gru_cell/kernel (update, reset, new) and rnn.weight_ih_l0 (reset, update, new)"),
    ],
)
def test_a_recurrent_layer_is_named_whole_on_both_sides(mistake: str, says: str, runs: Runs) -> None:
    said = why(runs("keras", "gru", mistake), runs("torch", "gru"))
    assert said.startswith("gru (GRU) ↔ rnn (GRU): inputs agree to 0 of the noise floor, output parts by ")
    assert says in said
    assert "certain" not in said


@pytest.mark.parametrize("mistake", ["both-hard", "both-gates"])
def test_a_layer_of_both_directions_is_one_layer(mistake: str, runs: Runs) -> None:
    said = why(runs("torch", "gru", "both"), runs("keras", "gru", mistake))
    assert said.startswith("rnn (GRU) ↔ bidirectional (Bidirectional): ")
    assert ("recurrent_activation sigmoid against hard_sigmoid" in said) == (mistake == "both-hard")
    assert ("lie alike, while each framework" in said) == (mistake == "both-gates")


def test_a_right_recurrent_port_has_no_parting(runs: Runs) -> None:
    found = find_layers(read(runs("keras", "gru")), read(runs("torch", "gru")))
    assert found is not None
    assert not found.partings
    assert not found.differences
    assert found.alone == ((), ())


def test_the_last_position_for_the_last_states_is_a_function_before_one_layer(runs: Runs, parity: Parity) -> None:
    """The layer after it has the same weights, hence a partner, though nothing that it takes has one."""
    one, other = runs("keras", "gru", "both-last"), runs("torch", "gru", "both")
    said = why(one, other)
    assert said.startswith("functions after bidirectional and before dense ↔ functions after rnn and before out: ")
    # What is not certain is said to be so, in the terminal too.
    assert "; not certain: " in said
    comparison, found = explain_folders(Known(None), one, other, (), None, lambda entry, second: {})
    assert found is not None
    rows = side_by_side(read(one), read(other), found["layer"], comparison.matched)
    assert ("dense", "out", TENSORS) in {
        (row.ours and row.ours[0], row.theirs and row.theirs[0], row.how) for row in rows
    }
    assert "not certain" in parity("explain", one, other).out


@pytest.mark.parametrize("label", ["keras", "flax"])
def test_a_class_of_one_s_own_is_of_its_base_s_kind(label: str, runs: Runs) -> None:
    one, other = runs("torch", "norm"), runs(label, "norm", "epsilon")
    kinds = [{layer.kind: layer.common.kind for layer in layers_of(read(folder))} for folder in (one, other)]
    assert kinds[0]["Own"] == "rms_norm"
    assert kinds[1][{"keras": "Mine", "flax": "Theirs"}[label]] == "rms_norm"
    said = why(one, other)
    assert said.startswith("1 (Own) ↔ ")
    assert "epsilon 1e-05 against 0.01" in said


@pytest.mark.parametrize(
    ("mistake", "named", "says"),
    [
        ("default", "adam-of-keras", "epsilon 1e-7, added before the bias is corrected"),
        ("same", "adam-epsilon-before-bias-correction", "adds its epsilon of 1e-08 before the bias is corrected"),
        ("rate", "another-learning-rate", "its learning rate is 0.002, not 0.001"),
    ],
)
def test_the_adam_of_keras_is_known_by_its_class(
    mistake: str, named: str, says: str, runs: Runs, parity: Parity
) -> None:
    one, other = runs("keras", "adam", mistake), runs("torch", "adam")
    result = parity("explain", one, other, "--json", "explained.json")
    assert result.status == 1
    found = held("explain", json.loads(Path("explained.json").read_text()))["explanations"][0]
    assert named in found["named"]
    assert says in found["note"] + found["why"]
    # Watched runs count by updates.
    assert found["unit"] == "update"
    assert "epoch" not in result.out


def deep(folder: Path, prefix: str, epsilon: float, between: bool = False) -> Path:
    """Record a model whose norm hardly shows in what it predicts; with a snapshot ``between`` others."""
    draw = np.random.RandomState(0)
    x, weights = draw.normal(size=(4, 6)), [draw.normal(size=(6, 6)) for _ in range(3)]
    first = x @ weights[0]
    normed = first / np.sqrt(np.mean(first**2, -1, keepdims=True) + epsilon)
    last = np.ones_like(normed) + 1e-20 * normed @ weights[2]
    made = [
        ("a", "Linear", {}, "input-0", first),
        ("n", "RMSNorm", {"eps": epsilon}, f"{prefix}a", normed),
        ("b", "Linear", {}, f"{prefix}n", last),
    ]
    params = {f"{prefix}{key}.weight": value for key, value in zip("anb", weights, strict=True)}
    with Recorder(folder, "float64", deep=1) as run:
        run.snapshot(params)
        activations = {prefix + key: value for key, *_, value in made}
        run.step(1 + epsilon, inputs=[x], gradients=params, params=params, activations=activations, prediction=last)
        if between:
            run.snapshot(params, 1)
        run.step(1.0, params=params)
        run.snapshot(params, 2)
        run.describe(
            layers=[
                {"name": prefix + k, "kind": kind, "configuration": said, "inputs": [i], "outputs": [prefix + k]}
                for k, kind, said, i, _ in made
            ]
        )
    return folder


@pytest.mark.parametrize("between", [False, True])
def test_a_change_that_is_lost_before_the_prediction_is_named(between: bool, tmp_path: Path) -> None:
    """Of two runs that call all layers otherwise: that what comes later agrees hides no layer that parts."""
    one, other = deep(tmp_path / "one", "blocks.", 1e-3, between), deep(tmp_path / "other", "layers.", 1e-5)
    said = why(one, other)
    assert said.startswith(
        "blocks.n (RMSNorm) ↔ layers.n (RMSNorm): inputs agree to 0 of the noise floor, output parts"
    )
    assert "epsilon 0.001 against 1e-05" in said


def test_a_long_list_of_names_is_cut_short(tmp_path: Path) -> None:
    def run(prefix: str, count: int) -> Trajectory:
        layers = [{"name": f"{prefix}{k}", "kind": "Linear", "configuration": {"k": prefix}} for k in range(count)]
        return Trajectory({"dtype": "float64", "layers": layers}, np.arange(1), np.zeros((0, 1)), {}, {})

    assert list(preflight(run("blocks.", 40), run("layers.", 40))) == []
    (said,) = preflight(run("blocks.", 40), run("blocks.", 20))
    assert said.startswith("20 layers have no partner of their name in the second run: blocks.20, blocks.21, ")
    assert said.endswith("blocks.23 and 16 more")
