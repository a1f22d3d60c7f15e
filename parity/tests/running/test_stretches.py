"""Where a run in lockstep is longer than its noise floor, the floors of the stretches that part are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.judging.floors.floor import load, mark_of, save
from parity.tests.command import Parity
from parity.tests.suites import strict_json, write_suite

# From epoch 9 on the inputs are large and cancel, so that the loss is known less well than in the first four epochs.
SPEC = """
from dataclasses import replace
import numpy as np
from parity.explaining.updates.played import OneByOne
from parity.spec import Dataset, Policy, Sgd
from parity.tests import toy

generator = np.random.default_rng(0)
x = generator.normal(size=(12, 3)) * np.where(np.arange(12) < 8, 1, 300)[:, None]
y = x @ toy.initial()["dense/kernel"] + toy.initial()["dense/bias"] + generator.normal(size=(12, 3))
policy = Policy(float32_parameters="lockstep", reason="a test", floor_epochs=4)
CASES = (
    replace(toy.case(Sgd(1e-6)), data=lambda: Dataset(x, y), schedule=OneByOne(), epochs=12, policy=policy),
)
"""
BACKWARDS = """
from parity.tests import toy
from parity.trainers.numpy_trainer import NumpyTrainer

def forward(params, x):
    return x[:, ::-1] @ params["dense/kernel"][::-1] + params["dense/bias"], x

def build(case, dtype, device):
    return NumpyTrainer(case, dtype, forward, toy.backward)
"""
LATE = """
import numpy as np
from parity.tests import toy
from parity.trainers.numpy_trainer import NumpyTrainer

def forward(params, x):
    found, kept = toy.forward(params, x)
    return (found * (1 + 1e-9) if np.abs(x).max() > 100 else found), kept

def build(case, dtype, device):
    return NumpyTrainer(case, dtype, forward, toy.backward)
"""


pytestmark = pytest.mark.slow  # each starts processes of its own


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    package = write_suite(tmp_path, numpy_right=BACKWARDS, numpy_late=LATE)
    (tmp_path / package / "toy" / "spec.py").write_text(SPEC)
    return (
        "run",
        "--suite",
        package,
        "--out",
        "out",
        "--dtype",
        "float64",
        "--lockstep",
        "2",
        "--jobs",
        "1",
        "--json",
        "-",
    )


def test_a_right_run_passes_beyond_its_floor_and_a_mistake_that_comes_late_fails(
    parity: Parity, tmp_path: Path, command: tuple[str, ...]
) -> None:
    for _ in ("measured", "read"):
        result = parity(*command)
        cells = {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}
        verdicts = {name: cell["verdict"] for name, cell in cells.items()}
        assert verdicts == {"numpy": "PASS", "numpy-right": "PASS", "numpy-late": "FAIL"}
        assert "at epoch 9" in cells["numpy-late"]["reason"]
    assert list((tmp_path / "out" / "floors").glob("*-from8.safetensors"))
    reported = parity("report", "out", "--suite", command[2])
    assert "2 PASS, 1 FAIL" in reported.out


def test_a_floor_that_could_not_see_a_gross_mistake_is_not_believed(
    parity: Parity, tmp_path: Path, command: tuple[str, ...]
) -> None:
    parity(*command)
    for path in (tmp_path / "out" / "floors").glob("*-from*.safetensors"):
        mark = mark_of(path)
        assert mark is not None
        floors = load(path, mark)
        assert floors is not None
        for floor in floors.values():
            floor.loss[:] = 1e30
        save(floors, path, mark)
    result = parity(*command)
    cells = {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}
    assert cells["numpy-late"]["verdict"] == "INCONCLUSIVE"
    assert "measured up to epoch 4 and carried on from there" in cells["numpy-late"]["reason"]
    # The right ones stray by about what is carried on: on which side of it, the machine's own roundings tell.
    assert {cells[name]["verdict"] for name in ("numpy", "numpy-right")} <= {"PASS", "INCONCLUSIVE"}
    result = parity(*command, "--fresh")
    verdicts = {cell["implementation"]: cell["verdict"] for cell in strict_json(result.out, "run")["cells"]}
    assert verdicts == {"numpy": "PASS", "numpy-right": "PASS", "numpy-late": "FAIL"}
