"""Curves as SVG within a page: no script draws them, and any background will do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.report.markup import Html, element
from parity.typing import Array

BINS = 100
"""A longer series is thinned to its extremes in each of this many stretches."""
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 480, 180, 64, 10, 24
"""The size of a figure, and what its labels take of it."""
LARGE = 1e300
"""Larger values are drawn as this."""
DECADES = 18
"""A logarithmic axis shows at most so many powers of ten below its largest value."""


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Attributes:
        label: What it is, in the legend; a line without one is not in it.
        kind: Its classes in the page's style: ``a``, ``b`` or ``limit``, and ``thin`` for one of many.
        x: (n,), ascending.
        y: (n,). A value that is not finite leaves a gap.
    """

    label: str
    kind: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Band:
    """What lies between two lines of a figure.

    Attributes:
        label: What it is, in the legend.
        kind: Its class in the page's style: ``a`` or ``b``.
        x: (n,), ascending.
        low: (n,), the lower edge. A place where an edge is not finite is left out.
        high: (n,), the upper edge.
    """

    label: str
    kind: str
    x: Array
    low: Array
    high: Array


def drawn(*measures: Array) -> Array:
    """The places of a series that are drawn.

    Args:
        measures: Arrays of shape (n,). A long series keeps, in each of BINS stretches, the places where each of them
            is largest, and its first and last place. NaN counts as largest.

    Returns:
        The places in order, integers of shape (m,); all n of a short series.
    """
    count = len(measures[0])
    width = math.ceil(count / BINS)
    if width <= 2:
        return np.arange(count)
    found = [np.array([0, count - 1])]
    starts = np.arange(0, count, width)
    for measure in measures:
        padded = np.full(len(starts) * width, -np.inf)
        padded[:count] = measure
        found.append(starts + padded.reshape(-1, width).argmax(1))
    return np.unique(np.concatenate(found))


def figure(
    caption: str, lines: Sequence[Line], x_label: str, logarithmic: bool = False, bands: Sequence[Band] = ()
) -> Html:
    """Draw lines over one axis.

    Args:
        caption: What is shown.
        lines: The lines; those without a finite value are left out.
        x_label: What the horizontal axis counts.
        logarithmic: Whether heights are powers of ten. Zeros lie at the bottom.
        bands: Areas that are drawn below the lines.

    Returns:
        The figure with its legend; the caption alone if there is nothing to draw.
    """
    shown = [replace(line, y=_drawable(line.y)) for line in lines if np.isfinite(line.y).any()]
    if not shown:
        return element("figure", element("figcaption", f"{caption}: nothing to draw"))
    areas = [replace(band, low=_drawable(band.low), high=_drawable(band.high)) for band in bands]
    axis = _Axis.over(
        [line.y for line in shown] + [edge for band in areas for edge in (band.low, band.high)], logarithmic
    )
    last = max(float(line.x[-1]) for line in shown) or 1.0
    marks = [
        element("line", x1=LEFT, x2=WIDTH, y1=f"{at:.1f}", y2=f"{at:.1f}", class_="grid") for at, _ in axis.marks()
    ]
    marks += [element("text", said, x=LEFT - 6, y=f"{at + 4:.1f}", text_anchor="end") for at, said in axis.marks()]
    marks += [
        element("text", f"{x_label} {0}" if not at else f"{at:g}", x=f"{x:.1f}", y=HEIGHT - 4, text_anchor=anchor)
        for at, x, anchor in ((0, LEFT, "start"), (last, WIDTH, "end"))
    ]
    paths = [
        element("polygon", points=points, class_=f"band {band.kind}")
        for band in areas
        if (points := _outline(band, last, axis))
    ]
    paths += [
        element("polyline", points=points, class_=f"line {line.kind}")
        for line in shown
        for points in _points(line, last, axis)
    ]
    box = f"0 0 {WIDTH} {HEIGHT}"
    svg = element("svg", *marks, *paths, viewBox=box, role="img", aria_label=caption)
    named: list[Line | Band] = [*shown, *areas]
    legend = [
        element("span", one.label, class_=f"key {one.kind}{' area' * isinstance(one, Band)}")
        for one in named
        if one.label
    ]
    return element("figure", element("figcaption", caption), svg, element("p", *legend, class_="keys"))


def _drawable(values: Array) -> Array:
    """The values in float64, none so large that an axis would overflow."""
    wide = np.asarray(values, np.float64)
    result: Array = np.where(np.isfinite(wide), np.clip(wide, -LARGE, LARGE), np.nan)
    return result


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[Array], logarithmic: bool) -> _Axis:
        known = np.concatenate([each[np.isfinite(each)] for each in values])
        if logarithmic:
            known = np.log10(known[known > 0]) if (known > 0).any() else np.array([-1.0])
            high = math.ceil(known.max())
            low = max(math.floor(known.min()), high - DECADES)
            return cls(low - 0.4, max(high, low + 1), True)
        low, high = float(known.min()), float(known.max())
        return cls(low, high if high > low else low + (abs(low) or 1.0), False)

    def heights(self, values: Array) -> Array:
        """The places of values on the picture; what is below the axis lies on it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.log10(values) if self.logarithmic else values
        part = (np.maximum(scaled, self.low) - self.low) / (self.high - self.low)
        result: Array = np.where(np.isfinite(values), (HEIGHT - BOTTOM) * (1 - part) + TOP * part, np.nan)
        return result

    def marks(self) -> Iterator[tuple[float, str]]:
        """The heights that are named, and their names."""
        if self.logarithmic:
            first, last = math.ceil(self.low), math.floor(self.high)
            powers = range(last, first - 1, -max(1, math.ceil((last - first) / 4)))
            named = [(10.0**power, f"1e{power}") for power in powers]
        else:
            named = [(value, f"{value:.3g}") for value in np.linspace(self.low, self.high, 3).tolist()]
        for value, name in named:
            yield float(self.heights(np.array([value]))[0]), name


def _outline(band: Band, last: float, axis: _Axis) -> str:
    """The corners of a band, along its lower edge and back along the upper one; "" without any."""
    low, high = axis.heights(band.low), axis.heights(band.high)
    kept = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    across = LEFT + (WIDTH - LEFT) * np.asarray(band.x, np.float64) / last
    ways = [(across[at], low[at]) for at in kept] + [(across[at], high[at]) for at in kept[::-1]]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in ways)


def _points(line: Line, last: float, axis: _Axis) -> Iterator[str]:
    """The points of each stretch of a line that is finite."""
    places = drawn(line.y, -line.y)
    heights = axis.heights(line.y[places])
    across = LEFT + (WIDTH - LEFT) * np.asarray(line.x, np.float64)[places] / last
    for stretch in np.split(np.arange(len(places)), np.flatnonzero(~np.isfinite(heights))):
        kept = [place for place in stretch if np.isfinite(heights[place])]
        if kept:
            points = [(across[place], heights[place]) for place in kept]
            if len(points) == 1:  # a dot
                points.append((points[0][0] + 1, points[0][1]))
            yield " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
