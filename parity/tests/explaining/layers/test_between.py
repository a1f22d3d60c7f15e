"""What models compute between their layers is told from the tensors before and behind, in both runs, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.explaining.layers.find import find_layers
from parity.explaining.layers.functions.positions import sinusoids_of
from parity.explaining.layers.functions.resized import METHODS, resized_together
from parity.explaining.layers.parting import Parting
from parity.nn.positions import sinusoidal_positions
from parity.nn.resizing import resize
from parity.recording.reader import read
from parity.running.executor import Environment
from parity.tests.explaining.layers.between import BETWEEN, OTHERS, recorded
from parity.tests.warm import Warm

QUICK = ("residual missing", "last for last valid", "embedding scaled", "antialias")
DTYPES = ("float32", "float64")


def both(name: str, dtype: str, warm: Warm, factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The runs of a plant, the wrong one and the right one."""
    made = [
        warm.ask(
            recorded,
            Environment("torch"),
            {"name": name, "wrong": wrong, "dtype": dtype},
            folder=lambda: factory.mktemp("between"),
        )
        for wrong in (True, False)
    ]
    wrong, right = (Path(one.result()) for one in made)
    return wrong, right


def first(one: Path, other: Path) -> Parting:
    found = find_layers(read(one), read(other))
    assert found is not None
    assert found.partings
    return found.partings[0]


def cases(names: dict[str, object]) -> list[object]:
    return [
        pytest.param(name, dtype, id=f"{name}, {dtype}", marks=[pytest.mark.slow] * (name not in QUICK))
        for name in names
        for dtype in DTYPES
    ]


@pytest.mark.parametrize(("name", "dtype"), cases(BETWEEN))
def test_a_function_between_layers_is_said_of_both_runs(
    name: str, dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong, right = both(name, dtype, warm, tmp_path_factory)
    plant = BETWEEN[name]
    for folders, said, names in (
        ((wrong, right), plant.said, plant.names[:1]),
        ((right, wrong), plant.said[::-1], plant.names[1:]),
    ):
        found = first(*folders)
        one, _, other = found.note.partition(", the second ")
        assert said[0] in one, found.note
        assert said[1] in other, found.note
        if names:
            assert found.mistake is not None
            assert (found.mistake.names, found.mistake.which) == (names, "first")
        else:
            assert found.mistake is None or found.mistake.names == plant.names[:1], found.sentence


@pytest.mark.parametrize(("name", "dtype"), cases(OTHERS))
def test_nothing_else_is_said(name: str, dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> None:
    wrong, right = both(name, dtype, warm, tmp_path_factory)
    for one, other in ((wrong, right), (right, wrong)):
        found = first(one, other)
        assert found.mistake is None, found.sentence
        assert "computes" not in found.note, found.note


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 9),
    st.integers(2, 8),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([10.0, 100.0, 10000.0, 500000.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from(["float32", "float64"]),
)
def test_sines_and_cosines_are_read_off_a_table(
    places: int, half: int, interleaved: bool, start: int, base: float, times: float, dtype: str
) -> None:
    at = np.arange(places) + start
    table = (times * sinusoidal_positions(at, 2 * half, base=base, interleaved=interleaved)).astype(dtype)
    floor = 4 * times * float(np.finfo(dtype).eps)
    found = list(sinusoids_of(table.astype(np.float64), floor))
    for how, place, _, number, _ in found:
        assert (how, place) == (interleaved, start)
        assert number == pytest.approx(times, rel=1e-4)
    assert places < 3 or len(found) == 1
    noise = np.random.default_rng(places).normal(size=table.shape)
    assert not list(sinusoids_of(noise, floor))


def pairs() -> st.SearchStrategy[tuple[int, int]]:
    numbers = st.integers(0, len(METHODS) - 1)
    return st.tuples(numbers, numbers)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.integers(5, 9), st.integers(4, 14), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_two_resizes_of_one_unknown_image_tell_each_other(
    pair: tuple[int, int], size: int, wanted: int, seed: int, dtype: str
) -> None:
    """The right pair is among those that fit, if what both see of the image is enough to tell any."""
    image = np.random.default_rng(seed).normal(size=(4, size, size, 2))
    made = [resize(image, output_size=(wanted, wanted), **METHODS[number][1]).astype(dtype) for number in pair]
    floor = 8 * float(np.finfo(dtype).eps)
    found = resized_together(made[0], made[1], image.size, floor)
    alike = [
        all(
            np.allclose(resize(image, output_size=(wanted, wanted), **METHODS[number][1]), one, atol=64 * floor)
            for number, one in zip(each[:2], made, strict=True)
        )
        for each in found
    ]
    if np.abs(made[0] - made[1]).max() > 100 * floor and 2 * wanted > size + 3:
        assert any(alike), (pair, found)
