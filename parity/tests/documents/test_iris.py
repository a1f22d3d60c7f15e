"""How tightly the nine digits hold that the post prints of its TF1 weights."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from impls import FLOORS
from parity.judging.floors.floor import Floor, load
from parity.judging.published import figures
from parity.judging.verdict import Verdict
from parity.running.keys import mark
from parity.suite import load_suite
from parity.trajectory import Trajectory

SUITE = load_suite("impls")
ENTRY = SUITE.entry("iris-logistic-minibatch")
PRINTED = {"weights[0]": "3.31176686", "weights[1]": "-2.40808702", "bias": "-0.01001291"}
"""As the post prints them, nine digits of float32."""
PLACES = {"weights[0]": ("dense/kernel", (0, 0)), "weights[1]": ("dense/kernel", (1, 0)), "bias": ("dense/bias", (0,))}
WIDEST = {"weights[0]": 2 * 2.0**-22, "weights[1]": 2 * 2.0**-22, "bias": 1.1e-7}
"""How far the eleven implementations are from them at most: two units in the last place, and 1.03e-7 in the bias. The
farthest is ``tf1-session``, the post's own listing."""


@pytest.fixture(scope="module")
def floor() -> Floor:
    kept = load(FLOORS / f"{ENTRY.case.name}.safetensors", mark(SUITE, ENTRY, ENTRY.case.epochs))
    assert kept is not None, "the committed noise floor is of another case"
    return kept["float32"]


def verdicts(floor: Floor, printed: dict[str, str], off: dict[str, float]) -> dict[str, Verdict]:
    """What becomes of ``printed`` weights where ours are ``off`` from what the post printed."""
    count = ENTRY.case.epochs + 1
    params = {name: np.zeros((count, *value.shape), np.float32) for name, value in ENTRY.case.initial().items()}
    for name, (tensor, index) in PLACES.items():
        params[tensor][(-1, *index)] = float(PRINTED[name]) + off[name]
    losses = np.zeros((ENTRY.case.epochs, 7), np.float32)
    run = Trajectory({"dtype": "float32"}, np.arange(count), losses, params, {})
    ours = {f.quantity: f for f in ENTRY.case.publication.figures if f.quantity in printed and "float32" in f.dtypes}
    changed = tuple(replace(ours[name], values={15: text}) for name, text in printed.items())
    case = replace(ENTRY.case, publication=replace(ENTRY.case.publication, figures=changed))
    return {figure.quantity: figure.verdict for figure in figures(case, run, "float32", floor)}


def test_the_case_publishes_what_the_post_prints() -> None:
    published = [f for f in ENTRY.case.publication.figures if f.quantity in PRINTED and "float32" in f.dtypes]
    assert {figure.quantity: dict(figure.values) for figure in published} == {n: {15: t} for n, t in PRINTED.items()}
    assert {(figure.rule, figure.format) for figure in published} == {("floor", "%.8f")}


@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_the_printed_weights_pass_as_far_off_as_ours_are(floor: Floor, sign: int) -> None:
    off = {name: sign * far for name, far in WIDEST.items()}
    assert set(verdicts(floor, PRINTED, off).values()) == {Verdict.PASS}


@pytest.mark.parametrize("change", ["2e-6", "-2e-6", "1e-5", "-1e-5"])
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_a_weight_changed_by_2e_6_fails_in_every_implementation(floor: Floor, change: str, sign: int) -> None:
    changed = {name: str(Decimal(text) + Decimal(change)) for name, text in PRINTED.items()}
    off = {name: sign * far for name, far in WIDEST.items()}
    assert set(verdicts(floor, changed, off).values()) == {Verdict.FAIL}
