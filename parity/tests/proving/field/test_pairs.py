"""The pairs of the field as data: each is whole, and says only what there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import parity.explaining.updates.compared as compared
from parity.explaining.recordings import SENTENCES
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.proving.field.pair import BY_HAND, WATCHED, Pair
from parity.proving.field.pairs import PAIRS
from parity.proving.field.prove import SUBSET
from parity.proving.field.setup import ROWS, Setup, batches, data_of, weights_of
from parity.recording.steps import Phase
from parity.spec import AdamW, Sgd

NAMES = {*SENTENCES, *compared.SAID, *(mistake.name for mistake in REPLAYED)}
OPTIONS = {option.name for option in fields(Setup)}


def test_there_are_pairs_of_every_phase_and_between_all_frameworks() -> None:
    assert len(PAIRS) >= 60
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)
    assert {pair.phase for pair in PAIRS} >= {Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT, Phase.UPDATE, Phase.STATE}
    assert {environment for pair in PAIRS for environment in pair.environments} == {"torch", "jax", "keras"}
    assert {pair.by for pair in PAIRS} == {WATCHED, BY_HAND}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_pair_is_whole(pair: Pair) -> None:
    assert pair.differs.endswith(".")
    assert pair.address.startswith("https://")
    assert pair.fault.keys() | pair.setup.keys() <= OPTIONS
    assert all(
        pair.options(wrong=False).get(name, getattr(Setup(), name)) != value for name, value in pair.fault.items()
    )
    assert pair.sides[0] != pair.sides[1]
    assert pair.names or pair.words, "nothing would name it rightly"
    for wrong in (False, True):
        setup = Setup(**pair.options(wrong))
        data = data_of(setup, "float32")
        assert len(data.x) == len(data.y) == ROWS
        assert all(value.dtype == np.float32 for value in weights_of(setup, "float32").values())


def test_names_that_are_right_are_known_ones() -> None:
    said = {name for pair in PAIRS for name in pair.names}
    assert sorted(said - NAMES) == []


def test_the_subset_has_every_phase_and_two_frameworks() -> None:
    chosen = [pair for pair in PAIRS if pair.name in SUBSET]
    assert len(chosen) == len(SUBSET)
    assert {str(pair.phase) for pair in chosen} == {"prediction", "loss", "gradient", "update"}
    assert {environment for pair in chosen for environment in pair.environments} == {"torch", "jax"}


def test_every_run_of_a_pair_has_the_same_data_batches_and_weights() -> None:
    setup = Setup(model="transformer", loss="classes")
    one, other = data_of(setup, "float64"), data_of(setup, "float64")
    np.testing.assert_array_equal(one.x, other.x)
    assert [rows.tolist() for rows in batches(10)] == [rows.tolist() for rows in batches(10)]
    right, moved = weights_of(setup, "float32"), weights_of(setup, "float32", stirred=1)
    assert right.keys() == moved.keys()
    assert any(not np.array_equal(value, moved[name]) for name, value in right.items())
    assert all(np.allclose(value, moved[name], rtol=1e-6) for name, value in right.items())


def test_a_loop_says_its_optimizer_where_the_spec_has_words() -> None:
    assert Setup(momentum=0.5).said == Sgd(Setup().rate, 0.5)
    assert Setup(optimizer="adam", decay=0.25).said == AdamW(Setup().rate, weight_decay=0.25)
    for setup in (
        Setup(optimizer="rmsprop"),
        Setup(rates=(0.1,)),
        Setup(optimizer="adam", decay=1, decay_by="gradient"),
    ):
        assert setup.said is None


def test_the_pairs_lie_in_the_package_that_is_installed() -> None:
    import parity.proving.field as field

    assert Path(field.__file__).parent.joinpath("torch_side.py").exists()
