"""Sections on training: beside the documents' scripts, throughput, the first call, and what recording costs."""

from __future__ import annotations

from benchmarks import words
from benchmarks.limits import FASTEST_LIMITS, RECORDING_CASES, RECORDING_LIMIT, by_case
from benchmarks.result import Benchmark, Result, Spread
from benchmarks.sections import charts
from benchmarks.sections.pieces import (
    Chart,
    Row,
    Section,
    Table,
    heads,
    implementation_bars,
    implementations_table,
    times_or_dot,
)


def ratios(result: Result) -> Section | None:
    """Each recorded run over the script that its document lists."""
    rows = {
        case: {label: ratio for label, b in found.items() if (ratio := b.ratio("listing_seconds"))}
        for case, found in by_case(result.group("training")).items()
    }
    rows = {case: found for case, found in rows.items() if found}
    if not rows:
        return None
    ways = {b.info["case"]: b.info["listing"] for b in result.group("training") if b.info["listing"]}
    text = [
        "What is measured: the time of the recorded run, training with a snapshot of every parameter and the case's "
        "accuracies after every epoch, divided by the time of the plain script that the case's document lists, for "
        "the same number of steps with its printing removed.",
        "How to read it: a mark is an implementation, its bar the spread over the rounds. Left of the solid line at 1 "
        "is faster than the script although everything is recorded; at 0.1 ten times as fast. The dotted line is the "
        "limit that the fastest implementation of the case has to reach. The table also has the runs that take "
        "snapshots and no accuracies.",
    ]
    numbers = ("recorded over the listing", "without metrics")
    table = Table(
        heads("case", "the listing trains with", "implementation", numbers=numbers),
        [
            Row((case, ways[case], label, words.times(ratio), times_or_dot(bare)))
            for case, found in by_case(result.group("training")).items()
            for label, b in found.items()
            if (ratio := b.ratio("listing_seconds"))
            for bare in [b.ratio("listing_seconds", "without_metrics_seconds")]
        ],
    )
    figure = charts.ratios(rows, FASTEST_LIMITS, "recorded over listing: left is faster")
    return Section(
        "Training beside the documents' own scripts", text, [Chart("Recorded run over listing", figure)], table
    )


def throughput(result: Result) -> Section | None:
    """Updates a second in the steady state."""
    found = by_case(result.group("training"))
    if not found:
        return None

    def cells(b: Benchmark) -> tuple[str, ...]:
        rates = (words.rate(1 / value) for value in (b.per_step.median, b.per_step.high, b.per_step.low))
        return f"{b.info['steps']:,}", *rates

    text = [
        "What is measured: updates per second of the recorded run in its steady state, when everything is imported, "
        "built and compiled. One thread, float32.",
        "How to read it: longer is faster. The scale is logarithmic, each grid line ten times the one before. Cases "
        "differ in what a step is, from 75 rows of two numbers to 200 characters through a recurrent network, so "
        "compare within a case.",
    ]
    drawn = implementation_bars(found, lambda b: 1 / b.per_step.median, words.rate, "steps per second")
    numbers = ("steps", "steps per second", "slowest round", "fastest round")
    return Section("Training throughput", text, drawn, implementations_table(found, numbers, cells))


def first_calls(result: Result) -> Section | None:
    """Import, build and the first run, compilation included."""
    found = by_case(result.group("training"))
    if not found:
        return None

    def first(b: Benchmark) -> float:
        return float(b.info["first"]["build"] + b.info["first"]["run"])

    def cells(b: Benchmark) -> tuple[str, ...]:
        parts = (words.seconds(b.info["first"][part]) for part in ("import", "build", "run"))
        return *parts, words.seconds(b.seconds.median), f"{words.ratio(b.info['first']['run'] / b.seconds.median)} ×"

    text = [
        "What is measured: how long the first run takes, from building the model to the last snapshot, tracing and "
        "compiling included. This is what the throughput above leaves out.",
        "How to read it: shorter is better, on a logarithmic scale. NumPy and torch compile nothing; TensorFlow builds "
        "a graph, JAX compiles one for each shape. The import of the framework is not in the bar; the table has it, "
        "where the first case that ran in a framework's process pays for all.",
    ]
    drawn = implementation_bars(found, first, words.seconds, "build and first run")
    numbers = ("import", "build", "first run", "steady run", "first over steady")
    return Section("The first call, compilation included", text, drawn, implementations_table(found, numbers, cells))


def recording(result: Result) -> Section | None:
    """A run recorded on disk over the same training with nothing kept."""
    found = by_case(result.group("recording"))
    if not found:
        return None
    drawn = []
    for case, here in found.items():
        written = {label: ratio for label, b in here.items() if (ratio := b.ratio("train_seconds"))}
        shades = [charts.colour(label) for label in written]
        drawn.append(Chart(case, charts.marked(written, shades, RECORDING_LIMIT, "recorded over training alone")))

    def cells(b: Benchmark) -> tuple[str, ...]:
        train = Spread(tuple(b.info["train_seconds"]))
        ways = (b.ratio("train_seconds", of) for of in ("", "each_seconds", "evaluate_seconds"))
        numbers = f"{b.info['steps']:,}", f"{b.info.get('every', 1)}", words.seconds(train.median)
        return *numbers, *map(times_or_dot, ways)

    text = [
        "What is measured: training in one call with nothing kept, and the same training with snapshots of every "
        "parameter, as often as the case has them, written to disk with checksums. The two alternate.",
        "How to read it: 1 means that recording costs nothing; the dotted line is the limit of 10 %, set for "
        f"{' and '.join(RECORDING_CASES)}. In a small case a snapshot is as much work as a step, so that its ratio "
        "says little but how small the step is. The table also has a snapshot after every epoch, where the case has "
        "fewer, and the runs whose accuracies over all rows were taken with each: work that the case asks for.",
    ]
    numbers = ("steps", "epochs a snapshot", "training alone", "recorded on disk", "after every epoch", "and evaluated")
    return Section("What recording costs", text, drawn, implementations_table(found, numbers, cells))
