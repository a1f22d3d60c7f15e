"""Of a loop recorded by hand the last layer's gradients say what its loss is, as far as they can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.explaining.losses.apart import losses_apart, missing
from parity.explaining.losses.given import gradient_of
from parity.explaining.losses.last_layer import labelled, signs_of, smoothing_of
from parity.nn.activations import log_softmax
from parity.recording.steps import Step
from parity.trainer import State
from parity.typing import Array

DTYPES = ("float32", "float64")


def step(
    draw: np.random.Generator,
    dtype: str,
    loss: str,
    rows: int = 6,
    outputs: int = 3,
    share: float = 0.0,
    weights: tuple[float, ...] = (),
    over: str = "rows",
) -> Step:
    """An update of a linear layer behind features that nobody recorded."""
    h, kernel, bias = draw.normal(size=(rows, 5)), draw.normal(size=(5, outputs)), draw.normal(size=outputs)
    z = h @ kernel + bias
    if loss == "entropy":
        labels = draw.integers(0, outputs, rows)
        own = np.array(weights or (1.0,) * outputs)[labels]
        divided = own / (own.sum() if over == "weights" else rows)
        targets = (1 - share) * np.eye(outputs)[labels] + share / outputs
        logarithm = log_softmax(z)
        value = -(divided[:, None] * targets * logarithm).sum()
        back = divided[:, None] * (np.exp(logarithm) - targets)
    else:
        far = z - draw.normal(size=z.shape)
        value, back = (np.abs(far).mean(), np.sign(far)) if loss == "absolute" else ((far**2).mean(), 2 * far)
        back = back / z.size
    gradients = {"head/kernel": h.T @ back, "head/bias": back.sum(0)}
    return _as_step(z, value, gradients, {"head/kernel": kernel, "head/bias": bias}, dtype)


def _as_step(z: Array, value: float, gradients: dict[str, Array], params: dict[str, Array], dtype: str) -> Step:
    narrow = {name: of.astype(dtype) for name, of in gradients.items()}
    before = State({name: of.astype(dtype) for name, of in params.items()}, {}, 0)
    loss = np.asarray(value, dtype)
    return Step(
        before=before,
        rows=np.arange(len(z)),
        prediction=z.astype(dtype),
        loss=loss,
        gradients=narrow,
        trained=loss,
        after=before,
    )


def steps(seed: int, dtype: str, loss: str, count: int = 4, **options: Any) -> list[Step]:
    draw = np.random.default_rng(seed)
    return [step(draw, dtype, loss, **options) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.1, 0.125, 0.2, 0.15]),
    st.integers(3, 9),
    st.integers(5, 16),
)
def test_smoothing_is_told_by_counts(seed: int, dtype: str, share: float, outputs: int, rows: int) -> None:
    found = smoothing_of(steps(seed, dtype, "entropy", outputs=outputs, rows=rows, share=share), dtype)
    if found is not None:  # else a gradient was lost to rounding
        assert found.share == pytest.approx(share, abs=1e-3)
        assert (found.counts.sum(1) == rows).all()
    others = smoothing_of(steps(seed, dtype, "squared", outputs=outputs, rows=rows), dtype)
    assert others is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.integers(2, 5), st.integers(3, 12))
def test_signs_are_told_from_other_gradients(seed: int, dtype: str, outputs: int, rows: int) -> None:
    assert signs_of(steps(seed, dtype, "absolute", outputs=outputs, rows=rows), dtype) == (
        "head/bias",
        rows * outputs,
    )
    for loss in ("squared", "entropy"):
        assert signs_of(steps(seed, dtype, loss, outputs=outputs, rows=rows), dtype) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.sampled_from(["rows", "weights"]))
def test_weights_are_told_by_every_way_to_label_a_small_batch(seed: int, dtype: str, over: str) -> None:
    weights = (0.5, 1.0, 2.0)
    one = step(np.random.default_rng(seed), dtype, "entropy", weights=weights, over=over)
    found = labelled(one, dtype)
    assert found is not None
    draw = np.random.default_rng(seed)
    for size in ((6, 5), (5, 3), 3):  # as the step drew before its labels
        draw.normal(size=size)
    labels = draw.integers(0, 3, 6)
    np.testing.assert_array_equal(found.classes, labels)
    own = np.array(weights)[labels]
    total = own.sum() if over == "weights" else 6
    np.testing.assert_allclose(found.shares, own / total, rtol=1e-3)
    assert labelled(step(np.random.default_rng(seed), dtype, "squared"), dtype) is None


def test_too_many_ways_to_label_a_batch_are_not_tried() -> None:
    assert labelled(step(np.random.default_rng(0), "float64", "entropy", rows=30), "float64") is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_are_told_apart_or_what_is_missing_is_said(dtype: str) -> None:
    pairs = list(zip(steps(1, dtype, "entropy", share=0.1875), steps(1, dtype, "entropy", share=0.125), strict=True))
    found = losses_apart(pairs, (dtype, dtype))
    assert found is not None
    assert found.names == ("smoothing-over-the-other-classes",)
    assert "hand it to Recorder.step" in missing(pairs)
    same = list(zip(steps(1, dtype, "entropy"), steps(1, dtype, "entropy"), strict=True))
    assert losses_apart(same, (dtype, dtype)) is None


def test_a_loop_may_hand_over_the_gradient_for_its_prediction() -> None:
    one = step(np.random.default_rng(0), "float64", "squared")
    assert gradient_of(one) is None
    handed = replace(one, activation_gradients={"prediction": np.ones_like(one.prediction)})
    assert gradient_of(handed) is not None
