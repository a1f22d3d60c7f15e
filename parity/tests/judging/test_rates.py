"""Bounds on a share: against tables, against exact fractions, and against what they promise."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.judging.rates import at_most, bounds, interval, upper

# Clopper and Pearson's 95 % intervals, to three decimals, as tables print them.
TABLE = {
    (0, 10): (0.000, 0.308),
    (1, 10): (0.003, 0.445),
    (2, 10): (0.025, 0.556),
    (5, 10): (0.187, 0.813),
    (10, 10): (0.692, 1.000),
    (1, 20): (0.001, 0.249),
    (3, 20): (0.032, 0.379),
    (10, 100): (0.049, 0.176),
}


@pytest.mark.parametrize(("count", "known"), TABLE.items(), ids=str)
def test_the_interval_is_that_of_the_tables(count: tuple[int, int], known: tuple[float, float]) -> None:
    assert interval(*count) == pytest.approx(known, abs=5.1e-4)


@pytest.mark.parametrize(("trials", "known"), [(1, 0.95), (10, 0.2589), (30, 0.0950), (59, 0.0495), (300, 0.00994)])
def test_without_events_the_bound_is_exact_and_the_rule_of_three_is_near(trials: int, known: float) -> None:
    assert upper(0, trials) == pytest.approx(known, abs=5e-5)
    assert (1 - upper(0, trials)) ** trials == pytest.approx(0.05, rel=1e-12)
    assert upper(0, trials) <= 3 / trials


def exact(events: int, trials: int, share: float) -> float:
    p = Fraction(share)
    return float(sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(events + 1)))


@settings(deadline=None)
@given(st.integers(1, 60), st.data(), st.floats(1e-6, 1 - 1e-6))
def test_the_binomial_distribution_is_that_of_exact_fractions(trials: int, data: st.DataObject, share: float) -> None:
    events = data.draw(st.integers(0, trials))
    assert at_most(events, trials, share) == pytest.approx(exact(events, trials, share), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_a_bound_is_where_the_count_becomes_too_unlikely(trials: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, trials))
    low, high = interval(events, trials)
    assert 0 <= low <= events / trials <= high <= 1
    assert events == trials or exact(events, trials, high) == pytest.approx(0.025, rel=1e-6)
    assert events == 0 or 1 - exact(events - 1, trials, low) == pytest.approx(0.025, rel=1e-6)
    if 0 < events < trials:
        assert exact(events, trials, upper(events, trials)) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_it_holds_as_often_as_it_promises(share: float) -> None:
    """Over every count that may be seen, weighted by its chance."""
    trials = 40
    chances = [exact(k, trials, share) - (exact(k - 1, trials, share) if k else 0.0) for k in range(trials + 1)]
    assert sum(chance for k, chance in enumerate(chances) if upper(k, trials) >= share) >= 0.95
    assert sum(c for k, c in enumerate(chances) if bounds(k, trials)[0] <= share <= bounds(k, trials)[1]) >= 0.95


def test_without_trials_nothing_is_excluded() -> None:
    assert bounds(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("events", "trials"), [(3, 2), (-1, 2), (1, 0)])
def test_what_is_no_count_is_refused(events: int, trials: int) -> None:
    for bound in (upper, interval, bounds):
        with pytest.raises(ValueError, match="no count of events"):
            bound(events, trials)


def test_many_trials_are_no_matter_of_minutes() -> None:
    low, high = interval(500, 20_000)
    assert (low, high) == pytest.approx((0.02288, 0.02726), abs=5e-6)
