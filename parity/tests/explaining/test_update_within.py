"""An update that its gradients do not explain is the place, though it stays within its tensor's tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.explaining.pairs import walk_pair
from parity.recording.reader import read
from parity.recording.steps import Phase
from parity.tests.command import Parity
from parity.tests.judging.networks import Loop


@pytest.mark.parametrize("rate", [2.0**-5, 2.0**-7, 2.0**-8, 2.0**-10])
def test_an_epsilon_that_moves_small_values_alone_is_put_into_the_update(rate: float, tmp_path: Path) -> None:
    """What it adds up to is seen in a gradient eight updates later, or never beyond a tolerance."""
    right = Loop(rule="adam", rate=rate)
    wrong = right.with_(other=True, adam_epsilon=1e-7).record(tmp_path / "wrong")
    place = walk_pair(read(wrong), read(right.record(tmp_path / "right")))
    assert place is not None
    assert (place.phase, place.epoch, place.batch) == (Phase.UPDATE, 1, 0)
    assert place.check is not None
    assert place.check.tensor == "output/kernel"


def test_no_update_of_right_twins_is_a_place(tmp_path: Path) -> None:
    for seed in range(6):
        for axis in (0, 1):
            loop = Loop(rule="adam", rate=2.0**-8, axis=axis, seed=seed)
            one, other = loop.with_(other=True).record(tmp_path / "b"), loop.record(tmp_path / "a")
            place = walk_pair(read(one), read(other))
            assert (
                place is None
                or place.phase is not Phase.UPDATE
                or not place.parts
                or "by more than rounding" not in place.note
            )


def test_the_words_name_the_update_and_where_it_shows(tmp_path: Path, parity: Parity) -> None:
    right = Loop(rule="adam", rate=2.0**-8)
    wrong = right.with_(other=True, adam_epsilon=1e-7).record(tmp_path / "wrong")
    said = parity("explain", wrong, right.record(tmp_path / "right"))
    assert said.status == 1
    assert "first differs at epoch 1, batch 0, update of output/kernel" in said.out
    assert "is the first beyond its tolerance" in said.out
