"""The layers of a suite's deep runs: recorded where a model has modules, and named by explain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.explaining.layers.find import find_layers
from parity.recording import steps
from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.tests import toy
from parity.tests.command import Parity
from parity.tests.suites import CASE as CASE_NAME
from parity.tests.suites import write_suite
from parity.trainer import innermost, record, verbs
from parity.trajectory import gather
from parity.watching.inside import LayersOfTrainer

TORCH = """
import torch
from torch import nn

from parity import Slot
from parity.trainers.torch_trainer import module_trainer

LAYOUT = (Slot("dense/kernel", "fc.weight", axes=(1, 0)), Slot("dense/bias", "fc.bias"))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(3, 3), {activation}

    def forward(self, x):
        return self.act(self.fc(x))

def build(case, dtype, device):
    return module_trainer(case, dtype, device, LAYOUT, Net())
"""
FLAX = """
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity import Slot
from parity.trainers.jax_trainer import JaxTrainer

LAYOUT = (Slot("dense/kernel", "first/kernel"), Slot("dense/bias", "first/bias"))

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=x.dtype, param_dtype=x.dtype, name="first")(x)

def forward(params, x):
    return Net().apply({"params": unflatten_dict(params, sep="/")}, x)

def build(case, dtype, device):
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
"""
KERAS = """
import keras

from parity import Slot
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (Slot("dense/kernel", "only/kernel"), Slot("dense/bias", "only/bias"))

def build(case, dtype, device):
    model = keras.Sequential([keras.layers.Dense(3, dtype=dtype, name="only")], name="net")
    return KerasTrainer(case, dtype, device, model, LAYOUT)
"""


@pytest.fixture
def suite(parity: Parity, tmp_path: Path) -> str:
    right, wrong = TORCH.format(activation="nn.Identity()"), TORCH.format(activation="nn.LeakyReLU(0.5)")
    return write_suite(tmp_path, torch=right, torch_leaky=wrong, flax=FLAX, keras=KERAS)


def folder(out: str, label: str) -> Path:
    return Path(out) / CASE_NAME / f"{label}-float64-cpu"


def test_layers_are_recorded_where_a_model_has_them_and_explain_names_them(parity: Parity, suite: str) -> None:
    command = ("run", "--suite", suite, "--dtype", "float64", "--out")
    assert parity(*command, "deep", "--deep", "2").status == 1  # the leaky one is wrong
    names = {
        label: [layer.name for layer in layers_of(read(folder("deep", label)))]
        for label in ("torch", "torch-leaky", "flax", "keras", "numpy")
    }
    assert names == {
        "torch": ["fc"],  # what hands on its input is no layer
        "torch-leaky": ["fc", "act"],
        "flax": ["first"],
        "keras": ["only"],
        "numpy": [],
    }
    run, other = (read(folder("deep", label)) for label in ("torch", "flax"))
    for step, its in zip(steps_of(run), steps_of(other), strict=True):
        np.testing.assert_allclose(step.activations["fc"], its.activations["first"], rtol=1e-12)
        np.testing.assert_array_equal(step.activations["fc"], step.prediction)
        np.testing.assert_allclose(step.activation_gradients["fc"], its.activation_gradients["first"], rtol=1e-12)
    result = parity("explain", folder("deep", "torch-leaky"), folder("deep", "keras"))
    assert "act (LeakyReLU)" in result.out
    # A run that nobody looks into keeps its path to the last bit, and no layer.
    assert parity(*command, "plain", "--impl", "torch", "--impl", "flax").status == 0
    for label in ("torch", "flax"):
        plain, deep = (read(folder(out, label)) for out in ("plain", "deep"))
        np.testing.assert_array_equal(plain.loss, deep.loss)
        for name, values in plain.params.items():
            np.testing.assert_array_equal(np.asarray(values), np.asarray(deep.params[name]))
        assert "layers" not in json.loads((folder("plain", label) / "trajectory.json").read_text())


def test_a_trainer_of_no_framework_has_no_layers_however_its_verbs_are_replaced() -> None:
    trainer = toy.build(toy.MOMENTUM, "float64", "cpu")
    assert innermost(verbs(verbs(trainer))) is trainer
    seen = LayersOfTrainer(verbs(trainer))
    assert seen(np.ones((2, 3)), np.ones((2, 3))) == {}
    assert seen.said == {}


def test_looking_at_layers_ends_when_it_takes_too_long_but_not_before_the_first_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    from parity import Slot
    from parity.trainers.torch_trainer import module_trainer

    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3, affine=False))
    layout = (Slot("dense/kernel", "0.weight", axes=(1, 0)), Slot("dense/bias", "0.bias"))
    trainer = module_trainer(toy.MOMENTUM, "float64", "cpu", layout, module)
    monkeypatch.setattr("parity.watching.inside.SECONDS", 0.0)
    watched = steps.watched(trainer, toy.MOMENTUM, 2, LayersOfTrainer(trainer))
    drawn, statistics = torch.get_rng_state(), module[2].running_mean.clone()
    found = LayersOfTrainer(trainer)
    x, y = np.ones((2, 3)), np.ones((2, 3))
    assert [name for name in found(x, y) if name.startswith("activations")] == [
        "activations/0",
        "activations/1",
        "activations/2",
    ]
    assert found(x, y) == {}
    assert found.said["notes"][0].startswith("layers are recorded of the first update alone")
    # It leaves no trace: no random number is drawn, and no running statistics move.
    assert torch.equal(drawn, torch.get_rng_state())
    assert torch.equal(statistics, module[2].running_mean)
    run = gather(record(watched.trainer, toy.MOMENTUM, 1))
    run = replace(run, steps=watched.take(), meta={**run.meta, "dtype": "float64", **found.said})
    first, second = steps_of(run)
    assert first.activations
    assert not second.activations
    assert find_layers(run, run) is not None
