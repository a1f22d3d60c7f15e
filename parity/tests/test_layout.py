"""A layout takes canonical tensors to a framework's and back, whatever its slots do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.layout import Slot, to_canonical, to_framework


def grouped(draw: np.random.Generator, shape: tuple[int, ...]) -> dict:
    """An order of axes, some merged, some of length 1 more, some backwards."""
    axes: list = []
    for axis in draw.permutation(len(shape)).tolist():
        if axes and draw.random() < 0.4:
            axes[-1] = (*(axes[-1] if isinstance(axes[-1], tuple) else (axes[-1],)), axis)
        else:
            axes.append(axis)
    if draw.random() < 0.3:
        axes.insert(int(draw.integers(len(axes) + 1)), ())
    flip = tuple(np.flatnonzero(draw.integers(0, 2, len(shape))).tolist())
    return {"axes": tuple(axes), "shape": shape, "flip": flip}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["one", "gates", "blocks", "stack"]), st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_what_goes_to_a_framework_comes_back(kind: str, seed: int, stacked: int) -> None:
    draw = np.random.default_rng(seed)
    shape = (*draw.integers(1, 4, size=draw.integers(0, 3)).tolist(), 6)
    params = {"x": draw.normal(size=shape)}
    if kind == "blocks":
        lengths = (1, 3, 2) if draw.random() < 0.5 else (2, 2, 2)
        blocks = 3 if lengths == (2, 2, 2) else lengths
        layout = [
            replace(Slot("x", f"own{k}", block=(k, blocks)), **grouped(draw, (*shape[:-1], length)))
            for k, length in enumerate(lengths)
        ]
    elif kind == "stack":
        params["y"] = draw.normal(size=shape)
        way = grouped(draw, shape)
        layout = [Slot(name, "own", index=index, **way) for index, name in enumerate("xy")]
    else:
        gates = tuple(draw.permutation(3).tolist()) if kind == "gates" else None
        layout = [Slot("x", "own", gates=gates, **grouped(draw, shape))]
    there = to_framework(layout, params)
    back = to_canonical(layout, there)
    assert all(np.array_equal(back[name], value) and back[name].shape == value.shape for name, value in params.items())
    lead = (2,) * stacked
    many = {name: np.broadcast_to(value, (*lead, *value.shape)) for name, value in there.items()}
    for name, value in to_canonical(layout, many, stacked).items():
        np.testing.assert_array_equal(value, np.broadcast_to(params[name], (*lead, *shape)))


def test_a_slot_that_merges_axes_says_how_long_they_are() -> None:
    with pytest.raises(ValueError, match="shape must say how long each of its axes is"):
        Slot("kernel", "weight", axes=(1, (0, 2)))
    slot = Slot("kernel", "weight", axes=(2, (0, 1)), shape=(2, 3, 4))
    with pytest.raises(ValueError, match="kernel has shape"):
        to_framework([slot], {"kernel": np.zeros((3, 2, 4))})
    with pytest.raises(ValueError, match="weight has shape"):
        to_canonical([slot], {"weight": np.zeros((4, 5))})
