"""Figures as plain data in the terms of plotly.js. A colour ``--name`` is a variable of the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.result import Spread
from parity.frameworks import framework_of

Figure = dict[str, Any]

ROW, HEAD = 22, 76
"""The height of a bar, and of all else in a figure, in pixels."""
SYMBOLS = ("circle", "diamond", "square", "x", "triangle-up")


def colour(label: str) -> str:
    """An implementation's colour: its framework's."""
    return f"--{framework_of(label).name}"


def _text(text: str) -> str:
    """A name, escaped: plotly takes text for markup."""
    return escape(text)


def _figure(traces: list[Figure], height: int, **layout: Any) -> Figure:
    axis = {
        "gridcolor": "--line",
        "zerolinecolor": "--line",
        "linecolor": "--line",
        "automargin": True,
        "fixedrange": True,
    }
    for name in ("xaxis", "yaxis"):
        layout[name] = {**axis, **layout.get(name, {})}
    common = {
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "--ink", "family": "system-ui, sans-serif", "size": 12},
        "hoverlabel": {"bgcolor": "--wash", "bordercolor": "--line", "font": {"color": "--ink"}},
        "showlegend": False,
        "bargap": 0.3,
    }
    return {"data": traces, "layout": common | layout}


def _line(
    x: float, low: float = 0, high: float = 1, *, dash: str = "dot", across: bool = True, of: str = "--ink"
) -> Figure:
    """A vertical line at ``x``, across the whole figure or between two heights."""
    shape = {"type": "line", "x0": x, "x1": x, "y0": low, "y1": high, "line": {"color": of, "width": 1.5, "dash": dash}}
    return shape | ({"yref": "paper"} if across else {})


LOG = {"type": "log", "dtick": 1, "exponentformat": "power"}


def bars(rows: Mapping[str, float], say: Callable[[float], str], title: str, colours: Sequence[str]) -> Figure:
    """Horizontal bars on a logarithmic scale, the first on top. ``say`` puts a value into words."""
    values = list(rows.values())
    # A bar on a log scale has no foot: all stand on the power of ten below the shortest.
    low, high = math.floor(math.log10(min(values)) - 0.05), math.log10(max(values)) + 0.35
    powers = [10.0**power for power in range(low, math.floor(high) + 1)]
    xaxis = {
        "type": "log",
        "range": [low, high],
        "tickvals": powers,
        "ticktext": [say(value) for value in powers],
        "title": {"text": title},
    }
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": [_text(name) for name in rows],
        "text": [say(value) for value in values],
        "textposition": "auto",
        "insidetextanchor": "end",
        "insidetextfont": {"color": "--paper"},
        "marker": {"color": list(colours)},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    return _figure([bar], HEAD + ROW * len(rows), xaxis=xaxis, yaxis={"autorange": "reversed", "ticksuffix": "  "})


def ratios(rows: Mapping[str, Mapping[str, Spread]], limits: Mapping[str, float], title: str) -> Figure:
    """A row for each case, in it a mark for each implementation with its spread; a dotted mark at each case's limit."""
    labels = list(dict.fromkeys(label for found in rows.values() for label in found))
    ways: dict[str, int] = {}
    traces = []
    for place, label in enumerate(labels):
        shift = 0.8 * ((place + 0.5) / len(labels) - 0.5)
        here = [(number, found[label]) for number, found in enumerate(rows.values()) if label in found]
        way = ways[colour(label)] = ways.get(colour(label), -1) + 1
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _text(label),
                "x": [spread.median for _, spread in here],
                "y": [number + shift for number, _ in here],
                "marker": {"color": colour(label), "size": 9, "symbol": SYMBOLS[way % len(SYMBOLS)]},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [spread.high - spread.median for _, spread in here],
                    "arrayminus": [spread.median - spread.low for _, spread in here],
                    "color": colour(label),
                    "thickness": 1.5,
                    "width": 3,
                },
                "hovertemplate": _text(label) + ": %{x:.3g} ×<extra></extra>",
            }
        )
    shapes = [_line(1, dash="solid")]
    shapes += [
        _line(limits[case], number - 0.45, number + 0.45, across=False, of="--bad")
        for number, case in enumerate(rows)
        if case in limits
    ]
    shapes += [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": n - 0.5, "y1": n - 0.5, "line": {"color": "--line"}}
        for n in range(1, len(rows))
    ]
    yaxis = {
        "tickvals": list(range(len(rows))),
        "ticktext": [_text(case) for case in rows],
        "range": [len(rows) - 0.5, -0.5],
        "ticksuffix": "  ",
        "showgrid": False,
        "zeroline": False,
    }
    return _figure(
        traces,
        140 + max(46, 9 * len(labels)) * len(rows),
        xaxis={"type": "log", "title": {"text": title}, "tickformat": "~g", "dtick": "D2"},
        yaxis=yaxis,
        shapes=shapes,
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
    )


def stacked(rows: Mapping[str, Mapping[str, float]], shades: Mapping[str, str], title: str) -> Figure:
    """A bar for each row, made of its parts; ``shades`` gives each part its colour."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": _text(part),
            "x": [parts.get(part, 0.0) for parts in rows.values()],
            "y": [_text(name) for name in rows],
            "marker": {"color": shade},
            "hovertemplate": _text(part) + ": %{x:.1f} s<extra>%{y}</extra>",
        }
        for part, shade in shades.items()
    ]
    return _figure(
        traces,
        HEAD + 40 + 30 * len(rows),
        barmode="stack",
        xaxis={"title": {"text": title}},
        yaxis={"autorange": "reversed", "ticksuffix": "  "},
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )


def lines(series: Mapping[str, Sequence[tuple[float, float]]], xtitle: str, ytitle: str, level: float = 0) -> Figure:
    """Series of (x, y) on two log scales; ``level`` draws a limit."""
    palette = ("--jax", "--torch", "--numpy", "--tensorflow", "--keras")
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _text(name),
            "x": [x for x, _ in points],
            "y": [y for _, y in points],
            "line": {"color": palette[place % len(palette)], "width": 2},
            "marker": {"size": 7, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        }
        for place, (name, points) in enumerate(series.items())
    ]
    shapes = []
    if level:
        line = {"color": "--bad", "width": 1.5, "dash": "dot"}
        shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line}]
    return _figure(
        traces,
        400,
        xaxis=LOG | {"title": {"text": xtitle}},
        yaxis=LOG | {"title": {"text": ytitle}},
        shapes=shapes,
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
    )


def marked(rows: Mapping[str, Spread], colours: Sequence[str], limit: float, title: str) -> Figure:
    """A mark with its spread for each row, and the limit as a line."""
    spreads = list(rows.values())
    far = max(spread.high for spread in spreads) > 5
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [spread.median for spread in spreads],
        "y": [_text(name) for name in rows],
        "marker": {"color": list(colours), "size": 10},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [spread.high - spread.median for spread in spreads],
            "arrayminus": [spread.median - spread.low for spread in spreads],
            "color": "--faint",
            "thickness": 1.5,
            "width": 3,
        },
        "hovertemplate": "%{y}: %{x:.3g} ×<extra></extra>",
    }
    return _figure(
        [trace],
        HEAD + ROW * len(rows),
        xaxis={"title": {"text": title}} | ({"type": "log", "dtick": "D2", "tickformat": "~g"} if far else {}),
        yaxis={"autorange": "reversed", "ticksuffix": "  "},
        shapes=[_line(1, dash="solid"), _line(limit, of="--bad")],
    )
