"""Projections: their sums are those of their definition, and distances lie within the bounds that are stated."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from parity.recording import projected
from parity.recording.projected import BUCKETS, ROWS, SEED, Distance, Projection, distance, rounding
from parity.typing import Array


def projection(values: Array) -> Array:
    found = Projection()
    found.add(values)
    return found.finished()


def by_definition(values: Array) -> Array:
    """Each number, with a sign, in one bucket of each row."""
    found = np.zeros((ROWS, BUCKETS))
    for place, value in enumerate(values):
        group, within = divmod(place, BUCKETS)
        signs, turns = (np.random.Philox(key=SEED + one, counter=group).random_raw(ROWS) for one in (0, 1))
        for row in range(ROWS):
            sign = 1 - 2 * (int(signs[row]) >> within & 1)
            found[row, (within + (int(turns[row]) >> 58)) % BUCKETS] += sign * value
    return found


@pytest.mark.parametrize("size", [0, 1, 64, 65, 640, 1000])
def test_a_projection_is_what_is_defined(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(projected, "CHUNK", 256)
    values = np.random.default_rng(size).integers(-100, 100, size).astype(np.float64)  # whose sums are exact
    assert np.array_equal(projection(values), by_definition(values))


def dense(draw: np.random.Generator) -> Array:
    return draw.normal(size=3000)


def sparse(draw: np.random.Generator) -> Array:
    found = np.zeros(3000)
    found[draw.choice(3000, 2, replace=False)] = 1.0
    return found


def column(draw: np.random.Generator) -> Array:
    found = np.zeros((40, BUCKETS))
    found[:, draw.integers(BUCKETS)] = draw.normal(size=40)
    return found.reshape(-1)


def one_group(draw: np.random.Generator) -> Array:
    found = np.zeros((40, BUCKETS))
    found[draw.choice(40, 2, replace=False)] = 1.0
    return found.reshape(-1)


@pytest.mark.parametrize("make", [dense, sparse, column, one_group])
def test_distances_lie_within_their_bounds(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Array]) -> None:
    """Simulated, with other signs and buckets each time: no bias, a variance of 2/BUCKETS at most, bounds that hold."""
    monkeypatch.setattr(projected, "CHUNK", 4096)
    draw, times, chance = np.random.default_rng(7), 600, 0.05
    squares, wrong = [], np.zeros(2, int)
    for time in range(times):
        monkeypatch.setattr(projected, "SEED", 2 * time)
        values = make(draw)
        norm = float(np.linalg.norm(values))
        found = distance(projection(values), np.zeros((ROWS, BUCKETS)))
        squares.append((found.estimate / norm) ** 2)
        low, high = found.between(chance)
        wrong += (low > norm * (1 + 1e-9), high < norm * (1 - 1e-9))
    variance = 2 / BUCKETS / ROWS
    assert abs(np.mean(squares) - 1) < 5 * math.sqrt(variance / times)
    assert np.var(squares) < variance * 1.5, "more than six of its own standard deviations above what is derived"
    assert (wrong <= chance * times).all(), f"bounds were wrong {wrong} times of {times}"


def test_the_bounds_are_as_derived() -> None:
    low, high = Distance(1.0, 1.0, 1.0).between(5e-4)
    for square, k in ((1 / low**2, 1 / low**2 - 1), (1 / high**2, 1 - 1 / high**2)):
        assert square > 0
        assert (1 / (1 + k**2 * BUCKETS / 2)) ** ROWS == pytest.approx(5e-4)
    assert Distance(1.0, 1.0, 1.0).between(1e-9)[1] == math.inf


def test_sums_that_overflow_are_no_distance() -> None:
    huge = projection(np.full(100_000, 1e308))
    assert math.isnan(distance(huge, projection(np.zeros(100_000))).estimate)
    assert distance(projection(np.array([1e300])), projection(np.array([-1e300]))).estimate == pytest.approx(2e300)


@pytest.mark.parametrize("size", [5_000, 70_000, 300_000])
def test_roundings_stay_below_their_bound(size: int) -> None:
    values = np.random.default_rng(size).uniform(-1, 1, size)
    upper = np.round(values * 2**20) / 2**20  # whose sums are exact
    error = projection(values) - projection(upper) - projection(values - upper)
    assert 0 < np.linalg.norm(error, axis=1).max() < 3 * rounding(size, 1.0)
