"""Runs that people record from loops of their own, in every framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.frameworks import FRAMEWORKS
from parity.layout import Slot
from parity.recorder import Recorder
from parity.recording.format import batch_order_hash
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.spec import Adam, optimizer_from
from parity.tests.by_hand import BATCHES, ROWS, SCHEDULE, params, record
from parity.tests.command import Parity
from parity.tests.loops import adams, dtypes_of, tiny
from parity.tests.suites import each_framework

pytest_generate_tests = each_framework


@given(epochs=st.integers(1, 5), every=st.integers(1, 3))
def test_what_is_recorded_is_what_was_there(tmp_path_factory: Any, epochs: int, every: int) -> None:
    found = record(tmp_path_factory.mktemp("run") / "run", epochs, every)
    assert found.epochs.tolist() == sorted({0, *range(every, epochs + 1, every), epochs})
    assert found.loss.tolist() == np.arange(epochs * BATCHES).reshape(epochs, BATCHES).tolist()
    assert found.loss.dtype == np.float32
    np.testing.assert_array_equal(found.params["dense/kernel"][:, 0, 0], BATCHES * found.epochs)
    np.testing.assert_array_equal(found.metrics["accuracy"][1:], found.epochs[1:] / 8)
    assert found.meta["batch_order"] == batch_order_hash(SCHEDULE, ROWS, epochs)
    assert found.meta["complete"] is True


def test_without_rows_nothing_is_said_of_the_order(tmp_path: Path) -> None:
    assert record(tmp_path / "run", rows=False).meta["batch_order"] is None


@pytest.mark.parametrize("deep", [1, 2, 3, 4, 7, 12, 50])
def test_deep_updates_are_whole_wherever_they_end(tmp_path: Path, deep: int) -> None:
    steps = steps_of(record(tmp_path / "run", deep=deep))
    assert len(steps) == min(deep, 4 * BATCHES)
    for k, step in enumerate(steps):
        assert (step.before.params["dense/kernel"] == k).all()
        assert (step.after.params["dense/kernel"] == k + 1).all()
        assert (float(step.loss), float(step.trained)) == (k, k)
    np.testing.assert_array_equal(steps[0].prediction, steps[0].rows * 0.5)


def test_a_snapshot_says_the_state_that_the_last_deep_update_leaves(tmp_path: Path) -> None:
    """Full batches: each update ends an epoch, and no step need repeat what the snapshot has said."""
    with Recorder(tmp_path / "run", "float32", deep=2) as run:
        run.snapshot(params(0))
        for k in range(3):
            run.step(0.0, rows=[0], prediction=[0.0], gradients=params(1), params=params(k) if k < 2 else None)
            run.snapshot(params(k + 1), slots={"momentum": params(k)})
    first, second = steps_of(read(tmp_path / "run"))
    assert (second.after.params["dense/kernel"] == 2).all()
    assert set(second.after.slots) == {"momentum/dense/kernel", "momentum/dense/bias"}
    assert set(first.after.slots) == set(second.after.slots), "what step does not say of a state the snapshot has said"


def test_a_layout_brings_the_frameworks_own_tensors_into_the_canonical_one(tmp_path: Path) -> None:
    layout = (Slot("dense/kernel", "weight", axes=(1, 0)), Slot("dense/bias", "bias"))
    own = {"weight": np.arange(6.0).reshape(2, 3), "bias": np.zeros(2)}
    with Recorder(tmp_path / "run", "float64", layout=layout, deep=1, optimizer=Adam(0.1), case="mine") as run:
        run.snapshot(own)
        run.step(1.0, rows=[0], prediction=[0.0], gradients=own, params=own, slots={"first_moment": own})
        run.snapshot(own)
    found = read(tmp_path / "run")
    np.testing.assert_array_equal(found.params["dense/kernel"][1], own["weight"].T)
    (step,) = steps_of(found)
    for kept in (step.gradients["dense/kernel"], step.before.slots["first_moment/dense/kernel"]):
        np.testing.assert_array_equal(kept, own["weight"].T)
    assert optimizer_from(found.meta["hyper_parameters"]["optimizer"]) == Adam(0.1)
    assert (found.meta["case"], found.meta["versions"]["numpy"]) == ("mine", np.__version__)


@pytest.mark.asks(question=tiny)
def test_every_frameworks_tensors_are_recorded_in_every_dtype(framework: str, answer: str) -> None:
    for dtype in dtypes_of(framework):
        found = read(Path(answer, dtype))
        assert found.meta["dtype"] == dtype
        np.testing.assert_array_equal(found.params["dense/kernel"][:], [[[1.5, -2.0]], [[0.5, 0]], [[0.5, 1]]])
        np.testing.assert_array_equal(found.loss, [[0.25], [0.25]])
        assert [step.rows.tolist() for step in steps_of(found)] == [[0, 3], [1, 3]]
        assert next(iter(known(framework).packages.values()))[0] in found.meta["versions"]
        assert set(found.meta["settings"]) >= {*known(framework).environment}


@pytest.mark.asks(question=adams, framework="keras")
def test_kerass_own_adam_is_named(parity: Parity, answer: str) -> None:
    """By what Keras itself computes: the mistakes that are made of it are worked out in NumPy."""
    for way, dtype, name in (
        ("keras", "float32", "adam-of-keras"),
        ("keras", "float64", "adam-of-keras-in-float64"),
        ("epsilon", "float64", "adam-of-keras-in-float64-but-epsilon"),
    ):
        result = parity("explain", Path(answer, f"{way}-{dtype}"), Path(answer, f"own-{dtype}"))
        assert f"explained by {name} (" in result.out, result.out


def known(name: str) -> Any:
    return next(framework for framework in FRAMEWORKS if framework.name == name)
