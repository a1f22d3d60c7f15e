"""What differs before any number does: threads, precisions, initial parameters."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.preflight import preflight
from parity.recording.format import MANIFEST
from parity.tests import toy
from parity.tests.command import Parity, make_run
from parity.tests.explaining.toys import CASE
from parity.tests.suites import CASE as CASE_NAME
from parity.trainer import record
from parity.trajectory import Trajectory, gather


def meta(**changes: Any) -> Trajectory:
    run = gather(record(toy.build(CASE, "float64", "cpu"), CASE, 1))
    said = {
        "case": "toy", "implementation": "jax", "dtype": "float64", "device": "cpu", "threads": 1, "batch_order": "a",
        "hyper_parameters": {"optimizer": "Sgd(0.1)", "loss": "mean"}, "versions": {"numpy": "2.0", "jax": "0.9"},
        "settings": {"x64": True, "deterministic": True}, "platform": {"system": "Linux"},
    }  # fmt: skip
    return replace(run, meta={**said, **changes})


DIFFERING = {
    "threads": ({"threads": 2}, "threads differs: 1 and 2"),
    "order": ({"batch_order": "b"}, "the order of the batches differs: SHA-256 a… and b…"),
    "rate": ({"hyper_parameters": {"optimizer": "Sgd(0.2)"}}, "optimizer differs: Sgd(0.1) and Sgd(0.2)"),
    "versions": ({"versions": {"numpy": "2.1", "torch": "2.9"}}, "numpy differs: 2.0 and 2.1"),
    "deterministic": ({"settings": {"deterministic": False}}, "deterministic differs: True and False"),
    "platform": ({"platform": {"system": "Darwin"}}, "system differs: Linux and Darwin"),
    "tf32": ({"dtype": "float32", "device": "cuda", "settings": {"tf32": True}}, "TF32 is on in jax"),
    "default": ({"dtype": "float32", "device": "cuda", "settings": {"matmul_precision": None}}, "TF32 is on in jax"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERING)
def test_what_differs_is_said_before_any_number(name: str) -> None:
    changes, sentence = DIFFERING[name]
    found = list(preflight(meta(), meta(**changes)))
    assert any(note.startswith(sentence) for note in found), found
    assert len(found) == (3 if "TF32" in sentence else 1)  # with it the dtype and the device
    assert list(preflight(meta(), meta())) == []


def test_a_float64_run_without_x64_is_said_even_of_both() -> None:
    off = meta(settings={"x64": False})
    assert [note for note in preflight(off, off) if "x64 is off" in note]


WATCHED = {
    "optimizer": {"class": "torch.optim.adamw.AdamW", "groups": [{"lr": 0.1, "weight_decay": 0.01}]},
    "layers": [
        {"name": "0", "kind": "Linear", "configuration": {"out_features": 3}},
        {"name": "1", "kind": "LayerNorm", "configuration": {"eps": 1e-5}},
    ],
}
DESCRIBED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "class": (
        {"optimizer": {"class": "torch.optim.adam.Adam", "groups": []}},
        ["the optimizer differs: torch.optim.adamw.AdamW and torch.optim.adam.Adam"],
    ),
    "chain": ({"optimizer": {"class": "optax.scale_by_adam add_decayed_weights scale", "groups": []}}, []),
    "setting": (
        {"optimizer": {"class": "torch.optim.adamw.AdamW", "groups": [{"lr": 0.1, "weight_decay": 0.1}]}},
        ["optimizer: weight_decay differs: 0.01 and 0.1"],
    ),
    "groups": (
        {"optimizer": {"class": "torch.optim.adamw.AdamW", "groups": [{"lr": 0.1, "weight_decay": 0.1}, {}]}},
        ["the optimizer has other groups of parameters: 1 and 2", "optimizer: weight_decay differs: 0.01 and 0.1"],
    ),
    "layer": (
        {"layers": [WATCHED["layers"][0], {"name": "1", "kind": "LayerNorm", "configuration": {"eps": 1e-6}}]},
        ["layer 1, a LayerNorm: eps differs: 1e-05 and 1e-06"],
    ),
    "kind": (
        {"layers": [WATCHED["layers"][0], {"name": "1", "kind": "BatchNorm1d", "configuration": {}}]},
        ["layer 1 differs: a LayerNorm and a BatchNorm1d"],
    ),
    "partner": (
        {"layers": WATCHED["layers"][:1]},
        ["layer 1, a LayerNorm, has no partner in the second run"],
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_what_watched_runs_describe_differently_is_said(name: str) -> None:
    changes, said = DESCRIBED[name]
    own = {"implementation": "torch", **WATCHED}
    assert list(preflight(meta(**own), meta(**(own | changes)))) == said


def test_one_optimizer_under_two_names_is_not_said() -> None:
    names = ("torch.optim.sgd.SGD", "optax.trace scale")
    rates = (0.1, 0.1), (0.1, 0.2)
    for (one, other), said in zip(rates, (False, True), strict=True):
        runs = [
            meta(optimizer={"class": name, "groups": []}, hyper_parameters={"optimizer": f"Sgd(learning_rate={rate})"})
            for name, rate in zip(names, (one, other), strict=True)
        ]
        assert any("optimizer differs" in line for line in preflight(*runs)) == said


def test_layers_of_two_frameworks_are_not_held_together_by_name() -> None:
    ours = meta(implementation="torch", **WATCHED)
    assert list(preflight(ours, meta(implementation="flax", layers=[{"name": "Dense_0", "kind": "Dense"}]))) == []


def drawn(framework: str, state: str, rate: float = 0.3, prediction: Any = None, **settings: Any) -> Trajectory:
    word, kind = ("p", "Dropout") if framework == "torch" else ("rate", "Dropout")
    layer = {"name": "drop", "kind": kind, "configuration": {word: rate, **settings}}
    run = meta(implementation=framework, layers=[WATCHED["layers"][0], layer], random=state)
    return replace(run, steps={} if prediction is None else {"0/prediction": prediction})


MASK = "dropout draws a mask of its own in each framework, which no seed carries over: leave it out of both"
DRAWS: dict[str, tuple[Trajectory, Trajectory, list[str]]] = {
    "one seed": (drawn("torch", "a"), drawn("torch", "a"), []),
    "two seeds": (
        drawn("torch", "a"),
        drawn("torch", "b"),
        ["the random state differs: layer drop draws another mask: seed both alike"],
    ),
    "no rate": (drawn("torch", "a", 0.0), drawn("torch", "b", 0.0), []),
    "evaluated": (drawn("torch", "a", training=False), drawn("torch", "b", training=False), []),
    "seeded in the loop": (drawn("torch", "a", prediction=np.ones(3)), drawn("torch", "b", prediction=np.ones(3)), []),
    "two frameworks": (drawn("torch", "a"), drawn("keras", "b"), [MASK]),
    "one alone": (
        drawn("torch", "a"),
        meta(implementation="keras", layers=[{"name": "dense", "kind": "Dense"}]),
        ["the first run calls 1 dropout layer, the second none"],
    ),
    "one alone, and a layer of one's own": (
        drawn("torch", "a"),
        meta(implementation="keras", layers=[{"name": "own", "kind": "Mine"}]),
        [],
    ),
    "one at rate 0": (
        drawn("torch", "a", 0.0),
        meta(implementation="keras", layers=[{"name": "dense", "kind": "Dense"}]),
        [],
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_masks_that_cannot_agree_are_said(name: str) -> None:
    ours, theirs, said = DRAWS[name]
    assert list(preflight(ours, theirs)) == said


def test_a_setting_that_differs_by_design_is_not_said() -> None:
    ours, theirs = meta(settings={"threads": 8, "deterministic": True}), meta(settings={"threads": 0})
    assert list(preflight(ours, theirs)) == []


def test_other_inputs_are_said_by_their_first_update() -> None:
    right = meta()
    seen = np.arange(36.0)[None]
    for off, said in (
        (0.0, []),
        (1e-15, []),
        (1e-3, ["the inputs differ: those of epoch 1, batch 1 have other values"]),
    ):
        runs = [
            replace(right, steps={"0/batch": seen, "1/batch": seen * (1 + change)}, loss=np.zeros((1, 2)))
            for change in (0.0, off)
        ]
        assert list(preflight(*runs)) == said
    less = replace(right, steps={"0/batch": np.concatenate([seen, seen])})
    assert list(preflight(replace(right, steps={"0/batch": seen}), less)) == [
        "the inputs differ: epoch 1, batch 0 has 1 and 2 tensors"
    ]


def test_other_initial_parameters_are_said_as_far_as_the_narrower_dtype_sees() -> None:
    right = meta()
    for step, count in ((1e-3, 1), (1e-12, 0)):
        moved = {**right.params, "dense/bias": right.params["dense/bias"][:].astype(np.float32) + np.float32(step)}
        narrow = {name: values.astype(np.float32) for name, values in moved.items()}
        other = replace(right, params=narrow, meta={**right.meta, "dtype": "float32"})
        found = [note for note in preflight(right, other) if "initial" in note]
        assert len(found) == count
    assert re.fullmatch(r"initial dense/bias differs, by up to 0\.001", next(iter(preflight_of(right))))


def preflight_of(right: Trajectory) -> list[str]:
    moved = {**right.params, "dense/bias": right.params["dense/bias"][:] + 1e-3}
    return list(preflight(right, replace(right, params=moved)))


def test_diff_and_explain_say_it_above_the_verdict(parity: Parity, tmp_path: Path) -> None:
    def other(run: dict[str, Any]) -> None:
        run["params"]["dense/kernel"][0] += 0.5

    a, b = make_run(tmp_path / "a", threads=1), make_run(tmp_path / "b", other, threads=2)
    for command in ("diff", "explain"):
        result = parity(command, a, b)
        assert result.status == 1
        first, second, third = result.out.splitlines()[:3]
        assert first.startswith("before any number: threads differs: 1 and 2")
        assert second.startswith("before any number: initial dense/kernel differs, by up to 0.5")
        assert third.startswith("FAIL")


def test_a_run_records_its_settings_and_says_what_differs(parity: Parity, suite: str) -> None:
    command = ("run", "--suite", suite, "--impl", "numpy-nesterov", "--dtype", "float64", "--out", "out")
    assert "before any number" not in parity(*command).out
    path = Path("out") / CASE_NAME / "numpy-float64-cpu" / MANIFEST
    about = json.loads(path.read_text())
    assert set(about) >= {"settings", "threads", "versions", "platform", "batch_order", "hyper_parameters"}
    about["threads"] = 2
    path.write_text(json.dumps(about))
    result = parity(*command)
    assert (
        result.out.splitlines()[0]
        == f"before any number: threads differs: 1 and 2 ({CASE_NAME}-numpy-nesterov-float64)"
    )
