"""What a section is made of: text, tables and figures, before they are written as a page or as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import words
from benchmarks.result import Benchmark, Spread
from benchmarks.sections import charts


@dataclass(frozen=True)
class Head:
    """A column's heading. The cells of a column of numbers stand to the right."""

    text: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """A row of cells. ``kind``, good, bad or "", says how the first cell reads."""

    cells: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    heads: Sequence[Head]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Chart:
    caption: str
    figure: charts.Figure


@dataclass(frozen=True)
class Section:
    """A title, and paragraphs: what is measured, how to read it, what is good.

    ``more`` is a table that the page folds away.
    """

    title: str
    text: Sequence[str]
    charts: Sequence[Chart] = ()
    more: Table | None = None
    table: Table | None = None


def heads(*texts: str, numbers: Sequence[str] = ()) -> tuple[Head, ...]:
    """Headings: those of texts, then those of numbers."""
    return (*map(Head, texts), *(Head(text, number=True) for text in numbers))


def implementations_table(
    found: Mapping[str, Mapping[str, Benchmark]],
    numbers: Sequence[str],
    cells: Callable[[Benchmark], Sequence[str]],
) -> Table:
    """A table with a row for each case and implementation: ``found`` as ``limits.by_case`` gives it.

    ``numbers`` are the headings of what ``cells`` says of a benchmark.
    """
    rows = [Row((case, label, *cells(b))) for case, here in found.items() for label, b in here.items()]
    return Table(heads("case", "implementation", numbers=numbers), rows)


def implementation_bars(
    found: Mapping[str, Mapping[str, Benchmark]],
    of: Callable[[Benchmark], float],
    say: Callable[[float], str],
    axis: str,
) -> list[Chart]:
    """A chart for each case, with a bar for each implementation."""
    return [
        Chart(
            case,
            charts.bars(
                {label: of(b) for label, b in here.items()}, say, axis, [charts.colour(label) for label in here]
            ),
        )
        for case, here in found.items()
    ]


def time_bars(caption: str, seconds: Mapping[str, float], ours: Container[str]) -> Chart:
    """A chart of seconds with a bar for each name, the project's own in colour and their peers in grey."""
    colours = ["--jax" if name in ours else "--numpy" for name in seconds]
    return Chart(caption, charts.bars(seconds, words.seconds, "time", colours))


def spread_cells(spread: Spread) -> tuple[str, str, str]:
    """The cells under median, fastest and slowest."""
    return words.seconds(spread.median), words.seconds(spread.low), words.seconds(spread.high)


def times_or_dot(ratio: Spread | None) -> str:
    """A ratio with its spread, and a dot where there is none."""
    return words.times(ratio) if ratio else "·"


def memory_or_dot(benchmark: Benchmark) -> str:
    """The largest memory that a benchmark took beyond its arrays, and a dot where it was not traced."""
    return words.memory(benchmark.info["peak_bytes"]) if "peak_bytes" in benchmark.info else "·"
