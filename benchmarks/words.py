"""Numbers as people read them."""

from __future__ import annotations

from benchmarks.result import Spread


def seconds(value: float) -> str:
    """A time with its unit: ``1.23 s``, ``456 ms``, ``7.89 µs``, ``12 ns``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value / 1e-9)} ns"


def rate(per_second: float) -> str:
    """A number of steps or values a second: ``1.23 G/s``, ``456 /s``."""
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if per_second >= size:
            return f"{_three(per_second / size)} {unit}/s"
    return f"{_three(per_second)} /s"


def times(spread: Spread) -> str:
    """A ratio with its spread over the rounds: ``0.52 × (0.49 – 0.61)``; a single round has none."""
    if len(spread.values) == 1:
        return f"{ratio(spread.median)} ×"
    return f"{ratio(spread.median)} × ({ratio(spread.low)} – {ratio(spread.high)})"


def ratio(value: float) -> str:
    """A ratio without its sign: ``123``, ``1.23``, ``0.012``."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def memory(count: float) -> str:
    """A number of bytes: ``1.5 GiB``, ``512 B``."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _three(value: float) -> str:
    """Three digits; a whole number, or one from 100 on, has no decimals."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
