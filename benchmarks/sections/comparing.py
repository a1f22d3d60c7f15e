"""Sections on comparing two runs: beside its peers, and as the runs grow."""

from __future__ import annotations

from benchmarks import words
from benchmarks.limits import MEMORY_LIMIT, OURS, beside_peers
from benchmarks.result import Benchmark, Result
from benchmarks.sections import charts
from benchmarks.sections.pieces import Chart, Row, Section, Table, heads, memory_or_dot, spread_cells, time_bars


def comparison(result: Result) -> Section | None:
    """Comparing two runs, beside what its peers take for the same arrays."""
    found = [*result.group("comparison"), *result.group("equal bytes")]
    if not found:
        return None
    drawn = [
        time_bars(what, {peer: b.seconds.median for peer, b in here.items()}, (OURS,))
        for what, here in beside_peers(found).items()
    ]
    numbers = ("values", "median", "fastest", "slowest", "parity over it", "memory beyond the arrays")
    table = Table(
        heads("what", "by", numbers=numbers),
        [
            Row(
                (
                    what,
                    peer,
                    f"{b.info['values']:,}" if "values" in b.info else "·",
                    *spread_cells(b.seconds),
                    f"{words.ratio(here[OURS].seconds.median / b.seconds.median)} ×" if OURS in here else "·",
                    memory_or_dot(b),
                )
            )
            for what, here in beside_peers(found).items()
            for peer, b in here.items()
        ],
    )
    text = [
        "What is measured: finding everything that a verdict needs in two recorded runs, the largest absolute, "
        "relative and ULP difference with their places, what exceeds the tolerance and what is not finite, beside the "
        "comparisons that test suites use, and a plain copy, which is the limit that the memory sets. The runs differ "
        "by rounding, in a few values, in all of them, or hold values that are not finite; or they are equal.",
        "How to read it: shorter is faster, on a logarithmic scale. The coloured bar is this project's, the grey ones "
        "are its peers'.",
    ]
    text += [
        f"{what}: {peer} does a part of the work alone, so no limit is set there: {b.info['partial']}."
        for what, here in beside_peers(found).items()
        for peer, b in here.items()
        if "partial" in b.info
    ]
    return Section("Comparing two runs", text, drawn, table)


def scaling(result: Result) -> Section | None:
    """Time and memory of comparing as the runs grow, and in other shapes."""
    found, shapes = result.group("scaling"), result.group("shapes")
    if not found:
        return None
    time_of: dict[str, list[tuple[float, float]]] = {}
    memory_of: dict[str, list[tuple[float, float]]] = {}
    for b in sorted(found, key=lambda b: float(b.info["values"])):
        time_of.setdefault(_plain_name(b), []).append((b.info["values"], b.seconds.median))
        if "peak_bytes" in b.info:
            memory_of.setdefault(_plain_name(b), []).append((b.info["values"], b.info["peak_bytes"]))
    drawn = [Chart("Time", charts.lines(time_of, "values in each run", "seconds"))]
    if memory_of:
        figure = charts.lines(memory_of, "values in each run", "bytes beyond the arrays", MEMORY_LIMIT)
        drawn.append(Chart("Memory", figure))
    if shapes:
        by_shape = {str(b.params.get("shape", b.name)): b.seconds.median for b in shapes}
        drawn.append(time_bars("As many values in other shapes (snapshots, values)", by_shape, by_shape))
    rows = [
        Row(
            (
                _plain_name(b),
                f"{b.info['values']:,}",
                words.seconds(b.seconds.median),
                words.rate(b.info["values"] / b.seconds.median),
                memory_or_dot(b),
            )
        )
        for b in (*found, *shapes)
    ]
    numbers = ("values", "time", "values per second", "memory beyond the arrays")
    text = [
        "What is measured: the same comparison at growing sizes, its time and the memory that it takes beyond the "
        "arrays that it reads.",
        "How to read it: both scales are logarithmic. Time that grows as the data do is a straight line that climbs "
        "one power of ten for each power of ten. Memory should end flat, below the dotted line at 64 MiB.",
    ]
    return Section("How comparing grows", text, drawn, Table(heads("what", numbers=numbers), rows))


def _plain_name(benchmark: Benchmark) -> str:
    """A test's name in words, without its parameters."""
    return benchmark.name.removeprefix("test_").split("[")[0].replace("_", " ")
