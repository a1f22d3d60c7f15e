"""The noise floors that are kept with the documents' cases fit them, follow their runs, and are no false alarm."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from parity.dtypes import DTYPES
from parity.judging.floors.floor import Floor, load, too_narrow
from parity.judging.floors.noise import stirred
from parity.judging.policy import asserts_parameters
from parity.judging.verdict import Verdict, judge_run
from parity.recording.places import floor_name
from parity.running.keys import mark
from parity.suite import load_suite
from parity.tolerance import FACTOR, RUNS
from parity.trainer import record
from parity.trajectory import Trajectory, gather

SUITE = load_suite("impls")
QUICK = ["iris-logistic", "linear-minibatch"]
SLOW = [
    "linear-sgd-cyclic",
    "activations",
    "iris-logistic-minibatch",
    "linear-gd",
    "linear-regression",
    "linear-sgd-randomized",
    "mlp-regression",
    "sine-cubic",
    "sine-legendre",
    "synthetic-logistic",
]


@cache
def kept(name: str, lockstep: bool = False) -> dict[str, Floor]:
    entry = SUITE.entries[name]
    assert SUITE.floors is not None
    path = SUITE.floors / floor_name(name, entry.case.stretch if lockstep else None, "float64")
    found = load(path, mark(SUITE, entry, entry.case.floor_length(entry.case.epochs)))
    assert found is not None, f"{path} is of another case or reference: measure it with 'parity floor'"
    return found


@cache
def reference(name: str) -> Trajectory:
    case = SUITE.entries[name].case
    return gather(
        record(SUITE.implementation(SUITE.entries[name], "numpy").build(case, "float64", "cpu"), case, case.epochs)
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("mnist")) for name in SUITE.entries]
)
def test_every_case_keeps_the_floor_that_it_has_today(name: str) -> None:
    assert set(kept(name)) == set(DTYPES)
    if not asserts_parameters(SUITE.entries[name].case, "float32"):
        assert set(kept(name, lockstep=True)) == set(DTYPES)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_right_runs_of_other_roundings_are_no_false_alarm(name: str) -> None:
    """The reference, stirred by seeds that no floor was measured on, uses a quarter of its tolerance at most."""
    entry = SUITE.entries[name]
    build = SUITE.implementation(entry, "numpy").build
    for dtype, floor in kept(name).items():
        assert too_narrow(floor, reference(name), dtype) == ""
        for seed in range(RUNS + 1, RUNS + 9):
            trainer, case = stirred(build, entry.case, dtype, seed)
            run = gather(record(trainer, case, case.epochs), {"dtype": dtype})
            found = judge_run(run, reference(name), floor, params=asserts_parameters(case, dtype))
            assert found.verdict is Verdict.PASS, (dtype, seed, found.reason)
            assert found.ratio is not None
            assert found.ratio <= 0.25, (dtype, seed, found.parameter, found.epoch)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("sine-cubic", 0.006), ("linear-regression", 4e-4), ("linear-minibatch", 2e-8), ("linear-sgd-cyclic", 2e-7)],
)
def test_the_tolerance_of_a_last_float32_loss_follows_the_run_down(name: str, allowed: float) -> None:
    """Of the largest loss of its run each keeps less than a millionth, where 64 roundings are four."""
    found = FACTOR * float(kept(name)["float32"].loss[-1, -1])
    assert found <= allowed
    assert found <= 1e-6 * float(np.max(reference(name).loss))
