"""How often something happens, of how often it was seen: exact bounds for a share (Clopper & Pearson 1934)."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
"""The least chance that a bound holds, whatever the true share is."""
HALVINGS = 100
"""So many times an interval is halved: more than a float has bits."""


def upper(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Give the largest share that is not excluded by so few events: an exact, one-sided bound.

    It is the share at which so few events, or fewer, have a chance of no more than ``1 - confidence``. Without events
    that is ``1 - (1 - confidence) ** (1 / trials)``, of which ``3 / trials``, the rule of three, is the approximation
    for a confidence of 95 %. Where each trial has a share of its own, a bound without events is one for their mean.

    Args:
        events: How often it happened.
        trials: How often it could have.
        confidence: The chance, at least, that the true share is no larger.

    Returns:
        The share, between 0 and 1; 1 without trials.

    Raises:
        ValueError: If there are more events than trials, or a number is negative.

    Examples:
        >>> round(upper(0, 64), 4), round(3 / 64, 4)
        (0.0457, 0.0469)
        >>> upper(0, 0)
        1.0
    """
    _check(events, trials)
    if events == trials:
        return 1.0
    if events == 0:
        return -math.expm1(math.log1p(-confidence) / trials)
    return _root(lambda share: at_most(events, trials, share) > 1 - confidence)


def interval(events: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Give the shares that so many events do not exclude: an exact, two-sided interval.

    Args:
        events: How often it happened.
        trials: How often it could have.
        confidence: The chance, at least, that the true share lies within.

    Returns:
        The smallest and the largest share.

    Raises:
        ValueError: If there are more events than trials, or a number is negative.

    Examples:
        >>> [round(share, 4) for share in interval(1, 10)]
        [0.0025, 0.445]
    """
    _check(events, trials)
    each = (1 + confidence) / 2
    if events in (0, trials):
        return (0.0 if events == 0 else (1 - each) ** (1 / trials)), upper(events, trials, each)
    low = _root(lambda share: 1 - at_most(events - 1, trials, share) < 1 - each)
    return low, upper(events, trials, each)


def bounds(events: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Give the shares that are not excluded: from 0 up to the one-sided bound without events, else the interval.

    Args:
        events: How often it happened.
        trials: How often it could have.
        confidence: The chance, at least, that the true share lies within.

    Returns:
        The smallest and the largest share; 0 and 1 without trials.

    Raises:
        ValueError: If there are more events than trials, or a number is negative.

    Examples:
        >>> [round(share, 3) for share in bounds(0, 16)], [round(share, 3) for share in bounds(16, 16)]
        ([0.0, 0.171], [0.794, 1.0])
    """
    return (0.0, upper(events, trials, confidence)) if events == 0 else interval(events, trials, confidence)


def at_most(events: int, trials: int, share: float) -> float:
    """Give the chance of no more than so many events, where each trial has one with a chance of ``share``.

    Args:
        events: How many.
        trials: Of how many.
        share: Between 0 and 1, without both.

    Returns:
        The distribution function of the binomial distribution.

    Examples:
        >>> round(at_most(1, 2, 0.5), 12)
        0.75
    """
    once, never = math.log(share), math.log1p(-share)

    def chance(count: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        return math.exp(ways + count * once + (trials - count) * never)

    return min(1.0, math.fsum(map(chance, range(events + 1))))


def _check(events: int, trials: int) -> None:
    if not 0 <= events <= trials:
        raise ValueError(f"{events} of {trials} is no count of events")


def _root(below: Callable[[float], bool]) -> float:
    """The share up to which ``below`` holds."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if not 0 < middle < 1 or middle in (low, high):
            break
        low, high = (middle, high) if below(middle) else (low, middle)
    return high
