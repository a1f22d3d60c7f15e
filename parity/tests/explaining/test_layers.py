"""Which layer parts: two ports of one model, each with names and layouts of its own, one with a mistake."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.arrangement import arranged
from parity.explaining.layers.dataflow import Dataflow
from parity.explaining.layers.find import Layers, configuration_differences, find_layers
from parity.explaining.layers.parting import Place
from parity.recorder import Recorder
from parity.recording.reader import read
from parity.recording.sketch import sketch
from parity.tests.command import Parity
from parity.tests.explaining.asked import Runs
from parity.tests.explaining.ports import recorded
from parity.tests.schemas import held
from parity.tests.warm import Warm

Said = tuple[str | None, str | None]
"""What is said of both sides: a layer's name, or ``after>before`` of functions, or None where there is no partner."""
WHERE: dict[tuple[str, str], dict[str, Said]] = {
    ("images", "bn-eps"): {"flax": ("bn1", "BatchNorm_0"), "keras": ("bn1", "stem_bn")},
    ("images", "padding"): {"flax": ("conv1", "Conv_0"), "keras": ("conv1", "stem")},
    ("images", "flatten"): {"flax": ("fc1", "Dense_0"), "keras": ("fc1", "hidden")},
    ("images", "gelu"): {"flax": ("fc1>fc2", "Dense_0>Dense_1"), "keras": ("fc1>fc2", "hidden_gelu")},
    # flax's functions are one piece there, of sum, activation and pooling; torch's own sum is of act's output.
    ("images", "relu"): {"flax": ("act,bn2>fc1", "BatchNorm_1>Dense_0"), "keras": ("act-call2", None)},
    ("images", "dropout"): {"flax": (None, "Dropout_0"), "keras": (None, "drop")},
    ("images", "stop"): {
        "flax": ("bn1,bn2>fc1", "BatchNorm_1>Dense_0"),
        "keras": ("bn1,bn2>fc1", "stem_bn,mix_bn>hidden"),
    },
    ("texts", "ln-eps"): {"flax": ("h.0.ln_1", "layer_0/norm_before"), "keras": ("h.0.ln_1", "b0_n1")},
    ("texts", "gelu"): {"flax": ("h.0.gelu", "layer_0/up>layer_0/down"), "keras": ("h.0.gelu", "b0_up>b0_down")},
    ("texts", "no-norm"): {"flax": ("h.0.ln_1", None), "keras": ("h.0.ln_1", None)},
    ("texts", "stop"): {
        "flax": ("h.1.ln_2>h.1.c_fc", "layer_1/norm_after>layer_1/up"),
        "keras": ("h.1.c_fc>h.1.c_out", "b1_up>b1_down"),
    },
} | {
    ("texts", mistake): {
        "flax": (
            "h.0.c_attn>h.0.c_proj",
            "layer_0/attention/query,layer_0/attention/key,layer_0/attention/value>layer_0/attention/out",
        ),
        "keras": ("h.0.c_attn>h.0.c_proj", "b0_mha/query,b0_mha/key,b0_mha/value>b0_mha/attention_output"),
    }
    for mistake in ("scale", "mask")
}  # fmt: skip
QUICK = {("keras", "images", mistake) for mistake in ("bn-eps", "flatten", "dropout", "stop")} | {
    *(("keras", "texts", mistake) for mistake in ("mask", "no-norm")),
    *(("flax", "images", mistake) for mistake in ("padding", "gelu")),
}
"""What every run of the tests asks; the slow ones ask all, in both dtypes."""
IN_TORCH: dict[tuple[str, str], Said] = {
    ("images", "bn-eps"): ("bn1", "stem_bn"),
    ("images", "dropout"): ("drop", None),
    ("texts", "gelu"): ("h.0.gelu", "b0_up>b0_down"),
}


def asked() -> list[Any]:
    found = []
    for (model, mistake), sides in WHERE.items():
        for other, where in sides.items():
            for dtype in ("float32", "float64"):
                quick = dtype == "float32" and (other, model, mistake) in QUICK
                found.append(pytest.param(other, model, mistake, dtype, where, marks=() if quick else pytest.mark.slow))
    return found


@pytest.fixture
def runs(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(recorded, warm, tmp_path_factory)


def layers_in(one: Path, other: Path) -> Layers:
    found = find_layers(read(one), read(other))
    assert found is not None
    return found


def said(place: Place | None) -> str | None:
    if place is None:
        return None
    return place.layer.name if place.layer is not None else f"{','.join(place.after)}>{place.before}"


def first(found: Layers) -> Said:
    assert found.partings
    return said(found.partings[0].ours), said(found.partings[0].theirs)


@pytest.mark.parametrize(("other", "model", "mistake", "dtype", "where"), asked())
def test_the_layer_is_named_on_both_sides(
    other: str, model: str, mistake: str, dtype: str, where: Said, runs: Runs
) -> None:
    right, wrong = runs("torch", model, dtype=dtype), runs(other, model, mistake, dtype=dtype)
    assert first(layers_in(right, wrong)) == where
    assert first(layers_in(wrong, right)) == where[::-1]


@pytest.mark.parametrize(("model", "mistake", "where"), [(*of, where) for of, where in IN_TORCH.items()])
def test_a_mistake_in_torch_is_named_as_well(model: str, mistake: str, where: Said, runs: Runs) -> None:
    assert first(layers_in(runs("torch", model, mistake), runs("keras", model))) == where


@pytest.mark.parametrize("model", ["images", "texts"])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("one", "other"),
    [("torch", "keras"), *(pytest.param("flax", other, marks=pytest.mark.slow) for other in ("torch", "keras"))],
)
def test_of_a_right_pair_nothing_parts(one: str, other: str, model: str, dtype: str, runs: Runs) -> None:
    found = layers_in(runs(one, model, dtype=dtype), runs(other, model, dtype=dtype))
    assert not found.partings
    assert not found.differences
    # A layer of one run may be a function of the other's: torch's second ReLU, and its embedding of positions.
    with_partner, outputs = found.aligned
    assert outputs - with_partner == len(found.alone[0]) <= 1


def test_settings_are_held_against_each_other_in_one_vocabulary(runs: Runs) -> None:
    parted = layers_in(runs("torch", "images"), runs("keras", "images", "bn-eps")).partings[0]
    assert parted.differences == ("epsilon 1e-05 against 0.001",)
    assert parted.inputs < 1 < 1e3 < parted.output
    # The running statistics follow otherwise, which no output of a training step shows.
    run, other = read(runs("torch", "images")), read(runs("keras", "images", "bn-momentum"))
    assert configuration_differences(run, other) == [
        "bn1 (BatchNorm2d) ↔ stem_bn (BatchNormalization): momentum 0.9 against 0.1",
        "bn2 (BatchNorm2d) ↔ mix_bn (BatchNormalization): momentum 0.9 against 0.1",
    ]


def test_diff_says_what_is_set_otherwise_and_nothing_of_right_ports(runs: Runs, parity: Parity) -> None:
    right = runs("torch", "images")
    wrong = parity("diff", right, runs("keras", "images", "bn-momentum")).out
    said = "bn1 (BatchNorm2d) ↔ stem_bn (BatchNormalization), bn2 (BatchNorm2d) ↔ mix_bn (BatchNormalization)"
    assert f"note: layers are set otherwise: {said}: momentum 0.9 against 0.1" in wrong
    for kind in ("images", "texts"):
        found = parity("diff", runs("torch", kind), runs("keras", kind)).out
        assert "set otherwise" not in found
        assert "run calls" not in found


def test_explain_names_layer_and_setting_and_its_json_has_them(runs: Runs, parity: Parity) -> None:
    right = runs("torch", "images")
    result = parity("explain", right, runs("keras", "images", "bn-eps"), "--json", "explained.json")
    assert result.status == 1
    sentence = "bn1 (BatchNorm2d) ↔ stem_bn (BatchNormalization): inputs agree"
    assert sentence in result.out
    found = held("explain", json.loads(Path("explained.json").read_text()))["explanations"][0]
    assert found["why"].startswith(sentence)
    assert found["layer"]["partings"][0]["ours"]["configuration"]["eps"] == 1e-5
    assert found["layer"]["partings"][0]["theirs"]["name"] == "stem_bn"


def test_explain_names_the_layer_that_owns_a_running_statistic(runs: Runs, parity: Parity) -> None:
    result = parity("explain", runs("torch", "images"), runs("keras", "images", "bn-momentum"))
    assert result.status == 1
    assert "bn1 (BatchNorm2d) ↔ stem_bn (BatchNormalization): " in result.out
    assert "keeps 0.9 of BatchNorm_0/mean in an update against 0.1" in result.out


def test_explain_has_nothing_to_say_of_a_right_pair(runs: Runs, parity: Parity) -> None:
    result = parity("explain", runs("torch", "images"), runs("keras", "images"))
    assert result.status == 0
    assert "agrees with the reference" in result.out


@given(st.permutations(range(4)), st.sets(st.integers(1, 3)))
def test_an_order_of_axes_is_found_from_either_side(axes: list[int], cuts: set[int]) -> None:
    whole = np.random.RandomState(0).normal(size=(2, 3, 4, 5))
    turned = whole.transpose(axes)
    ends = [0, *sorted(cuts), 4]
    cut = turned.reshape([int(np.prod(turned.shape[start:end])) for start, end in itertools.pairwise(ends)])
    for ours, theirs in ((whole, cut), (cut, whole)):
        found = arranged(ours, theirs, 0.0)
        assert found is not None
        np.testing.assert_array_equal(found.of(ours), theirs)


def test_a_reshape_that_mixes_axes_is_no_order_of_them() -> None:
    heads = np.random.RandomState(0).normal(size=(2, 3, 7, 4))  # batch, head, position, width
    joined = heads.transpose(0, 2, 1, 3).reshape(2, 7, 12)
    assert arranged(heads, joined, 0.0) is not None
    assert arranged(heads.reshape(2, 7, 12), heads.transpose(0, 2, 1, 3), 0.0) is None
    assert arranged(heads, heads.reshape(2, 7, 12), 0.0) is None


# Recordings made by hand, whose graph is known exactly.

Made = tuple[str, str, dict[str, Any], list[str], Any]
"""A layer's name, kind, settings, inputs, and the output under its name."""


def record(folder: Path, layers: list[Made], keep: str = "values") -> Path:
    """Record one update of a model that has these layers."""
    x = np.linspace(-1, 1, 8)
    with Recorder(folder, "float64", deep=1) as run:
        run.snapshot({"w": np.ones(2)})
        activations = {name: value if keep == "values" else sketch(value) for name, *_, value in layers}
        run.step(
            1.0, inputs=[x], gradients={"w": np.ones(2)}, params={"w": np.ones(2)}, activations=activations,
            prediction=layers[-1][-1],
        )  # fmt: skip
        run.step(1.0, params={"w": np.zeros(2)})
        run.describe(
            layers=[
                {"name": name, "kind": kind, "configuration": settings, "inputs": inputs, "outputs": [name]}
                for name, kind, settings, inputs, _ in layers
            ]
        )
        run.snapshot({"w": np.zeros(2)}, 2)
    return folder


def chain(seed: int, wrong: int | None, side: int, skipped: set[int], count: int, factor: float = 1.01) -> list[Made]:
    """A model of layers one after the other: channels first and last, some of them fused away, one mistaken."""
    draw = np.random.RandomState(seed)
    value, found, before = draw.normal(size=(2, 3, 4, 5)), list[Made](), "input"
    found.append((before, "Identity", {}, [], value if side == 0 else value.transpose(0, 2, 3, 1)))
    for k in range(count):
        value = np.tanh(np.einsum("ncij,cd->ndij", value, draw.normal(size=(3, 3))) + draw.normal())
        value = value * (factor if k == wrong else 1)
        if k not in skipped:
            name = f"conv{k}" if side == 0 else f"Conv_{k + 7}"
            kind = "Conv2d" if side == 0 else "Conv"
            found.append((name, kind, {}, [before], value if side == 0 else value.transpose(0, 2, 3, 1)))
            before = name
    return found


@given(seed=st.integers(0, 1000), count=st.integers(2, 7), data=st.data())
@settings(max_examples=40, deadline=None, phases=[Phase.generate])
def test_of_any_chain_the_wrong_layer_is_named_or_none_with_certainty(
    seed: int, count: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("chain")
    skipped: list[set[int]] = [set(), set()]  # what one run fuses into the layer after it
    skipped[data.draw(st.integers(0, 1))] = data.draw(st.sets(st.integers(0, count - 2), max_size=count - 1))
    wrong = data.draw(st.none() | st.integers(0, count - 1))
    keep = data.draw(st.sampled_from(["values", "sketch"]))
    one = record(root / "one", chain(seed, None, 0, skipped[0], count), keep)
    other = record(root / "other", chain(seed, wrong, 1, skipped[1], count), keep)
    found = layers_in(one, other)
    if wrong is None:
        assert not found.partings
        assert not found.alone[0] or skipped[1]
        return
    assert found.partings
    parting = found.partings[0]
    fused = skipped[0] | skipped[1]
    named = said(parting.ours), said(parting.theirs)
    # The first layer from the wrong one on that both runs have.
    seen = next(k for k in range(wrong, count) if k not in fused)
    # Of layers of one kind and size, one of which is fused, nobody can know which.
    if all(k < wrong - 1 for k in fused):
        assert parting.certain
    assert named == (f"conv{seen}", f"Conv_{seen + 7}") or not parting.certain


def test_zeros_and_identities_are_paired_in_order_and_hide_nothing(tmp_path: Path) -> None:
    x = np.random.RandomState(0).normal(size=(2, 6))
    zero = np.zeros((2, 6))

    def model(scale: float, names: str) -> list[Made]:
        return [
            (f"{names}in", "Identity", {}, [], x),
            (f"{names}a", "Linear", {}, [f"{names}in"], zero),
            (f"{names}b", "Linear", {}, [f"{names}a"], zero),
            (f"{names}c", "Linear", {}, [f"{names}in"], scale * x),
            (f"{names}d", "Linear", {}, [f"{names}c"], zero),
            (f"{names}e", "Linear", {}, [f"{names}c"], np.sin(scale * x)),
        ]

    one, other = record(tmp_path / "one", model(1.5, "t.")), record(tmp_path / "other", model(1.6, "k_"))
    assert first(layers_in(one, other)) == ("t.c", "k_c")
    alike = Alignment(*(Dataflow(read(one), 0) for _ in range(2)))
    assert [(pair.ours.label, pair.theirs.label) for pair in alike.pairs] == [
        (f"t.{n}", f"t.{n}") for n in ("in", *"abcde")
    ]


def test_a_small_quirk_does_not_hide_a_large_difference_later(tmp_path: Path) -> None:
    draw = np.random.RandomState(1)
    weights = [draw.normal(size=(6, 6)) / 3 for _ in range(5)]

    def model(quirk: float, wrong: float) -> list[Made]:
        value, found = np.random.RandomState(2).normal(size=(16, 6)), list[Made]()
        found.append(("x", "Identity", {}, [], value))
        for k, weight in enumerate(weights):
            value = np.tanh(value @ weight) * (1 + (quirk if k == 1 else wrong if k == 3 else 0))
            found.append((f"l{k}", "Linear", {}, [found[-1][0]], value))
        return found

    found = layers_in(record(tmp_path / "one", model(0, 0)), record(tmp_path / "other", model(1e-9, 0.1)))
    assert [(said(one.ours), one.certain) for one in found.partings] == [("l1", True), ("l3", False)]
    assert found.partings[1].output > 1e4 * found.partings[0].output


def test_a_layer_with_its_activation_inside_is_held_against_both(tmp_path: Path) -> None:
    draw = np.random.RandomState(3)
    x, weight = draw.normal(size=(8, 5)), draw.normal(size=(5, 4))
    apart = [
        ("x", "Identity", {}, [], x),
        ("fc", "Linear", {}, ["x"], x @ weight),
        ("act", "ReLU", {}, ["fc"], np.maximum(x @ weight, 0)),
    ]
    for activation, value in (("relu", np.maximum(x @ weight, 0)), ("tanh", np.tanh(x @ weight))):
        inside = [
            ("x", "Identity", {}, [], x),
            ("dense", "Dense", {"units": 4, "activation": activation}, ["x"], value),
        ]
        found = layers_in(record(tmp_path / "one", apart), record(tmp_path / activation, inside))
        if activation == "relu":
            assert not found.partings
            assert found.alone == (("fc",), ())
        else:
            parting = found.partings[0]
            assert not parting.certain
            assert parting.sentence.startswith("act (ReLU) with fc (Linear) ↔ dense (Dense): ")


def test_of_dropout_that_is_on_in_both_it_is_said_that_masks_differ(tmp_path: Path) -> None:
    x = np.random.RandomState(5).normal(size=(6, 8))

    def model(seed: int, name: str) -> list[Made]:
        kept = x * (np.random.RandomState(seed).uniform(size=x.shape) > 0.5)
        return [
            ("x", "Identity", {}, [], x),
            (name, "Dropout", {"p": 0.5}, ["x"], kept),
            ("y", "Own", {}, [name], kept**2),
        ]

    parting = layers_in(
        record(tmp_path / "one", model(0, "drop")), record(tmp_path / "other", model(1, "off"))
    ).partings[0]
    assert (said(parting.ours), said(parting.theirs)) == ("drop", "off")
    assert "frameworks draw other numbers" in parting.sentence


def test_a_recording_without_layers_or_with_nonsense_for_them_has_none(tmp_path: Path) -> None:
    one = record(tmp_path / "one", chain(0, None, 0, set(), 2))
    run = read(one)
    assert find_layers(run, run)
    for nonsense in ([], [3, {"name": 4}], [{"name": "a"}], None):
        run.meta["layers"] = nonsense
        found = find_layers(run, run)
        assert found is None or not found.partings


def test_whatever_a_recording_says_of_its_layers_is_read(tmp_path: Path) -> None:
    names = ["a", "a.b", "a/b", "a-in0", "a-call2", "input-0", "c"]
    shapes = [(), (0,), (4,), (2, 2), (1, 4, 1), (36,), (2, 3, 2)]
    for seed in range(40):
        draw = random.Random(seed)

        def some(draw: random.Random = draw) -> list[str]:
            return draw.choices(names, k=draw.randint(0, 3))

        def value(draw: random.Random = draw) -> Any:
            shape = draw.choice(shapes)
            return np.arange(np.prod(shape, dtype=int)).reshape(shape) + draw.choice([0.0, 1.0, -1.5, np.nan, np.inf])

        runs = []
        for which in range(2):
            layers: list[Made] = [
                (
                    name,
                    draw.choice(["Linear", "Dense", "GELU", "Dropout", "BatchNorm", "Own", "LSTM"]),
                    draw.choice([{}, {"activation": "relu"}, {"eps": 1e-5, "momentum": 0.1}]),
                    some(),
                    value(),
                )
                for name in draw.sample(names, draw.randint(1, len(names)))
            ]
            run = read(record(tmp_path / f"{seed}-{which}", layers))
            for layer in run.meta["layers"]:
                layer["outputs"] = some()
            runs.append(run)
        found = find_layers(*runs)
        json.dumps(found and found.as_json(), allow_nan=False)
