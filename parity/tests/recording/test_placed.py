"""Tensors read block by block in another order of their axes than they lie in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.recording import placed
from parity.recording.artefacts import read_artefact
from parity.recording.placed import Turned, blocks_of
from parity.tests.recording.safetensors_by_hand import write_safetensors

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).flatmap(
    lambda shape: st.tuples(st.just(tuple(shape)), st.permutations(range(len(shape))))
)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 40), st.integers(1, 400), st.booleans())
def test_a_turned_tensor_is_the_transposed_one(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[tuple[int, ...], list[int]], most: int, band: int, half: bool
) -> None:
    shape, axes = made
    values = (np.arange(math.prod(shape)) % 251).astype(np.float32).reshape(shape)  # which two bytes hold
    path: Path = tmp_path_factory.mktemp("turned") / "a.safetensors"
    tensor = read_artefact(write_safetensors(path, {"a": values}, half)).tensors.entries["a"].placed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placed, "BAND", band)
        turned = Turned(tensor, tuple(axes))
        expected = values.transpose(axes)
        assert turned.shape == expected.shape
        assert turned.files() == tensor.files()
        found = np.empty(values.size, turned.dtype)
        for block in blocks_of(turned.shape, most):
            turned.read(block, found[block.start :][: block.size])
    if half:
        found = (found.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(found.reshape(expected.shape), expected)
