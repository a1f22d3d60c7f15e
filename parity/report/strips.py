"""Distributions as SVG within a page: a line of dots for each of several samples, over one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from parity.report.curves import LARGE, WIDTH
from parity.report.markup import Html, element

ROW, LABEL, FOOT = 20, 118, 22
"""The height of a sample, the width of its label, and the height of the axis, in the units of the picture."""
BELOW, ABOVE = 4, 2
"""The axis reaches no more than so many powers of ten below and above the limit: what is beyond lies at its ends."""


@dataclass(frozen=True)
class Strip:
    """A sample.

    Attributes:
        label: What it is a sample of.
        values: Its values, 0 or more, or infinite.
    """

    label: str
    values: Sequence[float]


def strips(caption: str, samples: Sequence[Strip], limit: float) -> Html:
    """Draw every value of some samples as a dot, and the median of each as a tick.

    Args:
        caption: What is shown.
        samples: The samples.
        limit: A value above 0 that is marked, and what is beyond it.

    Returns:
        The figure; the caption alone if there are no values.

    >>> drawn = strips("used", [Strip("torch", [0.1, 0.2]), Strip("jax", [])], limit=1.0)
    >>> drawn.count("<circle"), "median .15" in drawn
    (2, True)
    """
    known = [value for sample in samples for value in sample.values if 0 < value < LARGE]
    if not any(len(sample.values) for sample in samples):
        return element("figure", element("figcaption", f"{caption}: nothing to draw"))
    powers = [math.log10(value / limit) for value in known]
    beyond = any(value > limit for sample in samples for value in sample.values)
    # One more than is needed, so that the mark of the limit is no edge.
    high = min(math.floor(max([*powers, 0.0])) + 1, ABOVE) if beyond else 0
    low = max(math.floor(min([*powers, -1.0])), -BELOW)

    def across(value: float) -> float:
        power = high if not value < LARGE else low if value <= 0 else math.log10(value / limit)
        return LABEL + (WIDTH - LABEL - 8) * (min(max(power, low), high) - low) / (high - low)

    height = ROW * len(samples) + FOOT
    parts = []
    for power in range(low, high + 1):
        x = f"{across(limit * 10.0**power):.1f}"
        anchor = "end" if power == high else "middle"
        parts.append(element("line", x1=x, x2=x, y1=0, y2=height - FOOT, class_="grid"))
        said = f"{limit * 10.0**power:g}" + (" or more" if power == ABOVE else "")
        parts.append(element("text", said, x=x, y=height - 6, text_anchor=anchor))
    at = f"{across(limit):.1f}"
    parts.append(element("line", x1=at, x2=at, y1=0, y2=height - FOOT, class_="line limit"))
    for place, sample in enumerate(samples):
        parts += _sample(sample, ROW * place + ROW / 2, across, limit)
    return element(
        "figure",
        element("figcaption", caption),
        element("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=caption),
        element("p", element("span", "the whole tolerance", class_="key limit"), class_="keys"),
    )


def _sample(sample: Strip, y: float, across: Callable[[float], float], limit: float) -> list[Html]:
    """The label of a sample, its dots and the tick of its median, at a height ``y``."""
    parts = [element("text", sample.label, x=0, y=f"{y + 4:.1f}")]
    for number, value in enumerate(sample.values):
        # Dots that lie on each other are told apart by a shift that repeats.
        shifted = y + 4 * math.sin(2.4 * number)
        kind = "dot" if value <= limit else "dot beyond"
        parts.append(element("circle", cx=f"{across(value):.1f}", cy=f"{shifted:.1f}", r=2.4, class_=kind))
    if len(sample.values):
        middle = float(np.median(sample.values))
        x = f"{across(middle):.1f}"
        title = element("title", f"{sample.label}: median {middle:.2g}".replace(" 0.", " ."))
        parts.append(
            element("g", title, element("line", x1=x, x2=x, y1=f"{y - 8:.1f}", y2=f"{y + 8:.1f}", class_="tick"))
        )
    return parts
