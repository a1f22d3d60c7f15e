"""Optimizers that no document uses climb the ladder in every framework."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from parity.frameworks import framework_of
from parity.judging.floors.floor import Floor
from parity.judging.floors.noise import measure
from parity.judging.ladder import Rung, climb, rungs_of
from parity.judging.verdict import Verdict
from parity.spec import Adam, AdamW, Clipping, Publication, Sgd, StepDecay, WarmupCosine
from parity.suite import load_suite

ENTRY = load_suite("impls").entry("iris-logistic")
PLAIN = replace(ENTRY.case, metrics=(), publication=Publication(), epochs=12)
CASES = {
    case.name: case
    for case in (
        replace(PLAIN, name="adam", optimizer=Adam(0.05)),
        replace(PLAIN, name="adamw", optimizer=AdamW(0.05, weight_decay=0.2)),
        # A momentum whose rate falls, a bias that does not decay, elements that are cut off.
        replace(
            PLAIN,
            name="sgd",
            optimizer=Sgd(
                0.05,
                momentum=0.9,
                weight_decay=0.2,
                rates=StepDecay(every=3, factor=0.3),
                decayed=("kernel",),
                clipping=Clipping("value", 2.0),
            ),
        ),
        replace(
            PLAIN,
            name="norms",
            optimizer=AdamW(
                0.05,
                weight_decay=0.2,
                rates=WarmupCosine(start=0.01, end=0.001, warmup_steps=4, steps=6),
                decayed=("dense/kernel",),
                clipping=Clipping("norm", 5.0, epsilon=1e-6),
            ),
        ),
    )
}
LABELS = ("numpy", "torch", "tf1", "keras", "jax", "flax")


@cache
def floors(name: str) -> dict[str, Floor]:
    return dict(measure(ENTRY.implementations["numpy"].build, CASES[name], CASES[name].epochs))


def climbed(label: str, name: str, dtype: str) -> tuple[Rung, ...]:
    """The way up the ladder of the document's model with another optimizer, in the process of its framework."""
    build, reference = (ENTRY.implementations[which].build for which in (label, "numpy"))
    return tuple(climb(build, reference, CASES[name], dtype, "cpu", floors(name)[dtype]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("--parity-framework")
    labels = [label for label in LABELS if not chosen or framework_of(label).name in chosen]
    cells = [(label, name, dtype) for label in labels for name in CASES for dtype in ("float32", "float64")]
    # Each optimizer once and each dtype once, unless all is asked for. JAX compiles for seconds each: its two labels,
    # which share a trainer, share those as well.
    quick = {("adam", "float64"), ("adamw", "float32"), ("sgd", "float64"), ("norms", "float32")}
    left_out = {("jax", "adamw", "float32"), ("flax", "adam", "float64"), ("flax", "sgd", "float64")}
    left_out |= {("jax", "norms", "float32")}
    marked = [
        pytest.param(*cell, marks=() if cell[1:] in quick and cell not in left_out else pytest.mark.slow)
        for cell in cells
    ]
    metafunc.parametrize(("label", "name", "dtype"), marked, ids=map("-".join, cells))


@pytest.mark.asks(question=climbed)
def test_optimizers_that_no_document_has_climb_the_ladder(
    label: str, name: str, dtype: str, answer: tuple[Rung, ...]
) -> None:
    assert tuple(step.rung for step in answer) == rungs_of(CASES[name], dtype)
    assert not [step.message for step in answer if step.verdict is not Verdict.PASS]
