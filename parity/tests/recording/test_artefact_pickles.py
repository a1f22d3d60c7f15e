"""A pickle that is taken apart gives what pickle gives, of plain data, and no object of any other."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.recording.artefacts.pickled import Machine
from parity.recording.artefacts.torch_files import FUNCTIONS
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5),
    ),
    max_leaves=30,
)


def taken_apart(data: bytes) -> object:
    return Machine(Path("file"), Budget(), FUNCTIONS, lambda name: False, lambda found: found).run(data)


@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_data_is_what_pickle_gives(value: object, protocol: int) -> None:
    twice = [value, value]  # the second is taken from the memo
    assert taken_apart(pickle.dumps(twice, protocol)) == twice


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=5), st.sampled_from([2, 3, 4, 5]))
def test_an_ordered_dictionary_keeps_its_order(value: dict, protocol: int) -> None:
    found = taken_apart(pickle.dumps(OrderedDict(value), protocol))
    assert list(found.items()) == list(value.items())


OBJECTS = (np.float64(1), np.zeros(2), Path("a"), {1}, complex(1), len, Machine, TrajectoryError("a"))


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", [2, 5])
def test_any_object_is_refused(value: object, protocol: int) -> None:
    with pytest.raises(TrajectoryError, match=r"file: its pickle (names|has the instruction)"):
        taken_apart(pickle.dumps({"a": value}, protocol))
