"""A recording's shard, piece by piece: to the byte what safetensors itself writes."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from parity.recording.pieces import pieces_of

DTYPES = (np.float16, np.float32, np.float64, np.int64)
VALUES = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)


@given(st.dictionaries(st.text("aZ09/._-", min_size=1, max_size=6), VALUES, max_size=6))
def test_the_pieces_are_what_safetensors_writes(tensors: dict[str, np.ndarray]) -> None:
    header, pieces = pieces_of(tensors)
    # NumPy makes an array of no axes contiguous with one.
    whole = save({name: np.asarray(value, order="C") for name, value in tensors.items()})
    assert b"".join((header, *pieces)) == whole


def test_an_array_whose_axes_are_turned_is_written_in_its_own_order() -> None:
    turned = np.arange(6.0).reshape(2, 3).T
    _, pieces = pieces_of({"a": turned})
    assert b"".join(pieces) == turned.tobytes()


def test_bits_of_bfloat16_are_called_so() -> None:
    header, pieces = pieces_of({"a": np.array([0x3F80], "<u2"), "b": np.zeros(1, np.float16)}, {"a"})
    assert b'"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}' in header
    assert b"".join(pieces) == b"\x80\x3f\0\0"


def test_a_dtype_that_no_recording_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="a is int32"):
        pieces_of({"a": np.zeros(1, np.int32)})
