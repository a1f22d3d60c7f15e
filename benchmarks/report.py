"""The report of a benchmark run, one page and one Markdown file: ``python -m benchmarks.report FILE.json``.

Sections are made once, as text, figures and tables; page and Markdown only differ in how they write them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import charts
from benchmarks.result import SURE, TOO_FEW, Benchmark, Result, ResultError, Spread, chance, changes, drift, read
from parity.frameworks import FRAMEWORKS, framework_of
from parity.report.page import PageError, check_page, plotly, render
from parity.suite import rank

TITLE = "How fast is it?"

# What is asked of the figures, each a largest ratio or a largest number of seconds or bytes.
TORCH_LIMIT = 0.9
"""The recorded run of ``torch`` over the document's own listing."""
FASTEST_LIMITS = {
    **dict.fromkeys(("iris-logistic", "linear-regression", "sine-cubic", "mlp-regression", "char-gru"), 0.2),
    **dict.fromkeys(("mnist-softmax", "mnist-mlp"), 0.7),
}
"""The recorded run of the fastest implementation over the document's own listing, by case."""
RECORDING_LIMIT = 1.1
RECORDING_CASES = ("mnist-mlp", "char-gru")
OURS = "parity"
ASKED_VALUES = 10**8
"""The size that the limits of comparing are set for."""
COMPARING_LIMITS = {"numpy.testing.assert_allclose": 0.05, "torch.testing.assert_close": 0.15}
"""Comparing two runs over what the peer of that name takes for the same arrays."""
EQUAL_LIMITS = {"copy": 2.0}
"""Recognising equal bytes over copying as many."""
MEMORY_LIMIT = 64 << 20
COLD_SECONDS, WARM_SECONDS = 240.0, 3.0
PHASES = {"import": "--import", "build": "--build", "train": "--train"}
OWN = {"judging": "--judge", "page": "--page", "everything else": "--rest"}


@dataclass(frozen=True)
class Head:
    text: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """``kind`` says how the first cell reads: good, bad or neither."""

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
    """``text`` are paragraphs: what is measured, how to read it, what is good. ``more`` is folded away on the page."""

    title: str
    text: Sequence[str]
    charts: Sequence[Chart] = ()
    more: Table | None = None
    table: Table | None = None


@dataclass(frozen=True)
class Report:
    """Everything that is said, before it is written as a page or as Markdown."""

    facts: str
    lead: Sequence[str]
    sections: Sequence[Section]


def _heads(*words: str, numbers: Sequence[str] = ()) -> tuple[Head, ...]:
    return (*map(Head, words), *(Head(text, number=True) for text in numbers))


# Numbers as people read them.


def seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value / 1e-9)} ns"


def _three(value: float) -> str:
    """Three digits, or none beyond the point of a whole number."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rate(per_second: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if per_second >= size:
            return f"{_three(per_second / size)} {unit}/s"
    return f"{_three(per_second)} /s"


def times(spread: Spread) -> str:
    """A ratio with its spread."""
    if len(spread.values) == 1:
        return f"{_ratio(spread.median)} ×"
    return f"{_ratio(spread.median)} × ({_ratio(spread.low)} – {_ratio(spread.high)})"


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _bytes(count: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


# The sections.


def build(result: Result, earlier: Result | None = None) -> Report:
    """What there is to say of a run, and of how it differs from an earlier one."""
    sections = [section for part in _parts(result) if (section := part) is not None]
    if earlier is not None:
        sections.insert(0, _against(result, earlier))
    machine = result.machine
    cores, memory = machine.get("cores", "?"), machine.get("memory_bytes")
    facts = [
        str(machine.get("cpu", {}).get("brand_raw", machine.get("machine", "unknown processor"))),
        f"{cores} cores",
        *([f"{_bytes(memory)} of memory"] if memory else []),
        f"Python {machine.get('python_version', '?')}",
        result.date[:16].replace("T", " ") + " UTC",
        *([result.version] if result.version else []),
    ]
    lead = [
        "The project trains the same models in NumPy, PyTorch, TensorFlow and JAX, records every epoch, and compares "
        "the recordings. This page shows what that costs. What is set against a peer was measured beside it in the "
        "same run, and, but for comparisons, in turns, round by round: a ratio is one of the same round, and below 1 "
        "means faster than the peer. A figure is the median of its rounds, beside their smallest and largest.",
    ]
    if result.quick:
        lead.append("This was a quick run: few cases, few rounds. Its spreads are wide, and not all limits are asked.")
    return Report(" · ".join(facts), lead, sections)


def _parts(result: Result) -> Iterator[Section | None]:
    yield _limits(result)
    yield _ratios(result)
    yield _throughput(result)
    yield _first_calls(result)
    yield _recording(result)
    yield _comparison(result)
    yield _scaling(result)
    yield _startup(result)
    yield _matrix(result)
    yield _unmeasured(result)
    yield _machine(result)


def by_case(benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, Benchmark]]:
    """Case to implementation to benchmark, implementations as people look for them."""
    found: dict[str, dict[str, Benchmark]] = {}
    for benchmark in sorted(benchmarks, key=lambda benchmark: rank(benchmark.info["implementation"])):
        found.setdefault(benchmark.info["case"], {})[benchmark.info["implementation"]] = benchmark
    order = list(dict.fromkeys(benchmark.info["case"] for benchmark in benchmarks))
    return {case: found[case] for case in order}


@dataclass(frozen=True)
class Limit:
    """Something that is asked: ``what``, in ``unit`` ×, s or B, must not exceed ``most``."""

    what: str
    figure: Spread
    most: float
    unit: str = "×"

    @property
    def holds(self) -> bool:
        return self.figure.median <= self.most

    @property
    def measured(self) -> str:
        return times(self.figure) if self.unit == "×" else self._said(self.figure.median)

    @property
    def limit(self) -> str:
        return self._said(self.most)

    def _said(self, value: float) -> str:
        return {"s": seconds, "B": _bytes}[self.unit](value) if self.unit in "sB" else f"{value:g} ×"


def limits(result: Result) -> Iterator[Limit]:
    """Everything that is asked and was measured."""
    for case, found in by_case(result.group("training")).items():
        against = {label: ratio for label, b in found.items() if (ratio := b.ratio("listing_seconds"))}
        if "torch" in against:
            yield Limit(f"{case}: torch, over the listing", against["torch"], TORCH_LIMIT)
        if against and case in FASTEST_LIMITS:
            label = min(against, key=lambda label: against[label].median)
            yield Limit(f"{case}: the fastest ({label}), over the listing", against[label], FASTEST_LIMITS[case])
    for case, found in by_case(result.group("recording")).items():
        for label, benchmark in found.items():
            ratio = benchmark.ratio("train_seconds")
            if ratio and case in RECORDING_CASES:
                yield Limit(f"{case}: {label} recorded, over training alone", ratio, RECORDING_LIMIT)
    yield from _comparing_limits(result)
    for benchmark in result.group("matrix"):
        if not benchmark.info.get("arguments"):  # all of it
            again, most = (
                ("for the first time", COLD_SECONDS) if benchmark.name == "test_cold" else ("again", WARM_SECONDS)
            )
            yield Limit(f"parity run: everything, run {again}", benchmark.seconds, most, "s")


def _comparing_limits(result: Result) -> Iterator[Limit]:
    """Of what is compared beside its peers; both stand in the parameter ``peer``."""
    for group, most in (("comparison", COMPARING_LIMITS), ("equal bytes", EQUAL_LIMITS)):
        large = [b for b in result.group(group) if b.info.get("values", 0) >= ASKED_VALUES]
        for what, found in beside_peers(large).items():
            for peer, other in found.items():
                if OURS in found and peer in most and "partial" not in other.info:
                    ratio = Spread((found[OURS].seconds.median / other.seconds.median,))
                    yield Limit(f"{what}: over {peer}", ratio, most[peer])
        taken = [float(b.info["peak_bytes"]) for b in large if b.params.get("peer", OURS) == OURS]
        if taken:
            yield Limit(f"{group}: memory beyond the arrays", Spread((max(taken),)), MEMORY_LIMIT, "B")


def beside_peers(benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, Benchmark]]:
    """What is compared, to who compares it, to the benchmark."""
    found: dict[str, dict[str, Benchmark]] = {}
    for b in benchmarks:
        what = ", ".join((b.group, *(str(value) for name, value in b.params.items() if name != "peer")))
        found.setdefault(what, {})[str(b.params.get("peer", OURS))] = b
    return found


def _limits(result: Result) -> Section | None:
    rows = [
        Row(
            ("holds" if limit.holds else "exceeded", limit.what, limit.measured, limit.limit),
            ("bad", "good")[limit.holds],
        )
        for limit in limits(result)
    ]
    if not rows:
        return None
    held = sum(row.kind == "good" for row in rows)
    return Section(
        "What is asked, and whether it holds",
        [
            f"{held} of {len(rows)} limits hold. Each is the largest ratio or time that the project allows itself; it "
            "holds where the median does not exceed it. The sections below say what each of them is about."
        ],
        table=Table(_heads("", "what", numbers=("measured", "limit")), rows),
    )


def _ratios(result: Result) -> Section | None:
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
    heads = ("recorded over the listing", "without metrics")
    table = Table(
        _heads("case", "the listing trains with", "implementation", numbers=heads),
        [
            Row((case, ways[case], label, times(ratio), times(bare) if bare else "·"))
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


def _bars(
    found: dict[str, dict[str, Benchmark]],
    of: Callable[[Benchmark], float],
    said: Callable[[float], str],
    axis: str,
) -> list[Chart]:
    """A chart a case, a bar an implementation."""
    return [
        Chart(
            case,
            charts.bars(
                {label: of(b) for label, b in here.items()}, said, axis, [charts.colour(label) for label in here]
            ),
        )
        for case, here in found.items()
    ]


def _throughput(result: Result) -> Section | None:
    found = by_case(result.group("training"))
    if not found:
        return None
    drawn = _bars(found, lambda b: 1 / b.per_step.median, rate, "steps per second")
    heads = ("steps", "steps per second", "slowest round", "fastest round")
    table = Table(
        _heads("case", "implementation", numbers=heads),
        [
            Row(
                (
                    case,
                    label,
                    f"{b.info['steps']:,}",
                    *(rate(1 / value) for value in (b.per_step.median, b.per_step.high, b.per_step.low)),
                )
            )
            for case, here in found.items()
            for label, b in here.items()
        ],
    )
    text = [
        "What is measured: updates per second of the recorded run in its steady state, when everything is imported, "
        "built and compiled. One thread, float32.",
        "How to read it: longer is faster. The scale is logarithmic, each grid line ten times the one before. Cases "
        "differ in what a step is, from 75 rows of two numbers to 200 characters through a recurrent network, so "
        "compare within a case.",
    ]
    return Section("Training throughput", text, drawn, table)


def _first_calls(result: Result) -> Section | None:
    found = by_case(result.group("training"))
    if not found:
        return None

    def first(benchmark: Benchmark) -> float:
        return float(benchmark.info["first"]["build"] + benchmark.info["first"]["run"])

    drawn = _bars(found, first, seconds, "build and first run")
    heads = ("import", "build", "first run", "steady run", "first over steady")
    rows = [
        Row(
            (
                case,
                label,
                *(seconds(b.info["first"][part]) for part in ("import", "build", "run")),
                seconds(b.seconds.median),
                f"{_ratio(b.info['first']['run'] / b.seconds.median)} ×",
            )
        )
        for case, here in found.items()
        for label, b in here.items()
    ]
    text = [
        "What is measured: how long the first run takes, from building the model to the last snapshot, tracing and "
        "compiling included. This is what the throughput above leaves out.",
        "How to read it: shorter is better, on a logarithmic scale. NumPy and torch compile nothing; TensorFlow builds "
        "a graph, JAX compiles one for each shape. The import of the framework is not in the bar; the table has it, "
        "where the first case that ran in a framework's process pays for all.",
    ]
    return Section(
        "The first call, compilation included",
        text,
        drawn,
        Table(_heads("case", "implementation", numbers=heads), rows),
    )


def _recording(result: Result) -> Section | None:
    found = by_case(result.group("recording"))
    if not found:
        return None
    rows, drawn = [], []
    for case, here in found.items():
        written = {label: ratio for label, b in here.items() if (ratio := b.ratio("train_seconds"))}
        shades = [charts.colour(label) for label in written]
        drawn.append(Chart(case, charts.marked(written, shades, RECORDING_LIMIT, "recorded over training alone")))
        for label, b in here.items():
            train = Spread(tuple(b.info["train_seconds"]))
            others = (b.ratio("train_seconds", of) for of in ("each_seconds", "evaluate_seconds"))
            shown = (
                seconds(train.median),
                times(written[label]),
                *(times(ratio) if ratio else "·" for ratio in others),
            )
            rows.append(Row((case, label, f"{b.info['steps']:,}", f"{b.info.get('every', 1)}", *shown)))
    heads = ("steps", "epochs a snapshot", "training alone", "recorded on disk", "after every epoch", "and evaluated")
    text = [
        "What is measured: training in one call with nothing kept, and the same training with snapshots of every "
        "parameter, as often as the case has them, written to disk with checksums. The two alternate.",
        "How to read it: 1 means that recording costs nothing; the dotted line is the limit of 10 %, set for "
        f"{' and '.join(RECORDING_CASES)}. In a small case a snapshot is as much work as a step, so that its ratio "
        "says little but how small the step is. The table also has a snapshot after every epoch, where the case has "
        "fewer, and the runs whose accuracies over all rows were taken with each: work that the case asks for.",
    ]
    return Section(
        "What recording costs",
        text,
        drawn,
        Table(_heads("case", "implementation", numbers=heads), rows),
    )


def _plain_name(benchmark: Benchmark) -> str:
    return benchmark.name.removeprefix("test_").split("[")[0].replace("_", " ")


def _comparison(result: Result) -> Section | None:
    found = [*result.group("comparison"), *result.group("equal bytes")]
    if not found:
        return None
    drawn = [
        Chart(
            what,
            charts.bars(
                {peer: b.seconds.median for peer, b in here.items()},
                seconds,
                "time",
                ["--jax" if peer == OURS else "--numpy" for peer in here],
            ),
        )
        for what, here in beside_peers(found).items()
    ]
    heads = ("values", "median", "fastest", "slowest", "parity over it", "memory beyond the arrays")
    table = Table(
        _heads("what", "by", numbers=heads),
        [
            Row(
                (
                    what,
                    peer,
                    f"{b.info['values']:,}" if "values" in b.info else "·",
                    *(seconds(value) for value in (b.seconds.median, b.seconds.low, b.seconds.high)),
                    f"{_ratio(here[OURS].seconds.median / b.seconds.median)} ×" if OURS in here else "·",
                    _bytes(b.info["peak_bytes"]) if "peak_bytes" in b.info else "·",
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


def _scaling(result: Result) -> Section | None:
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
        figure = charts.bars(
            {str(b.params.get("shape", b.name)): b.seconds.median for b in shapes},
            seconds,
            "time",
            ["--jax"] * len(shapes),
        )
        drawn.append(Chart("As many values in other shapes (snapshots, values)", figure))
    rows = [
        Row(
            (
                _plain_name(b),
                f"{b.info['values']:,}",
                seconds(b.seconds.median),
                rate(b.info["values"] / b.seconds.median),
                _bytes(b.info["peak_bytes"]) if "peak_bytes" in b.info else "·",
            )
        )
        for b in (*found, *shapes)
    ]
    heads = ("values", "time", "values per second", "memory beyond the arrays")
    text = [
        "What is measured: the same comparison at growing sizes, its time and the memory that it takes beyond the "
        "arrays that it reads.",
        "How to read it: both scales are logarithmic. Time that grows as the data do is a straight line that climbs "
        "one power of ten for each power of ten. Memory should end flat, below the dotted line at 64 MiB.",
    ]
    return Section("How comparing grows", text, drawn, Table(_heads("what", numbers=heads), rows))


def _startup(result: Result) -> Section | None:
    found = {b.info["command"]: b for b in result.group("start-up")}
    if not found:
        return None
    figure = charts.bars(
        {name: b.seconds.median for name, b in found.items()},
        seconds,
        "time",
        ["--jax" if name.startswith("parity") or name.endswith("parity") else "--numpy" for name in found],
    )
    heads = ("median", "fastest", "slowest", "over import numpy")
    rows = [
        Row(
            (
                name,
                *(seconds(value) for value in (b.seconds.median, b.seconds.low, b.seconds.high)),
                times(ratio) if (ratio := b.ratio("import_numpy_seconds")) else "·",
            )
        )
        for name, b in found.items()
    ]
    text = [
        "What is measured: whole processes from start to end, taking turns: an empty Python, imports, and the commands "
        "that are typed most.",
        "How to read it: shorter is better, on a logarithmic scale. The help should need little more than Python "
        "itself; the import of NumPy is a peer that every reader knows.",
    ]
    return Section(
        "Start-up",
        text,
        [Chart("From start to end", figure)],
        Table(_heads("command", numbers=heads), rows),
    )


def _matrix(result: Result) -> Section | None:
    found = {b.name: b for b in result.group("matrix")}
    if "test_cold" not in found:
        return None
    cold, warm = found["test_cold"], found.get("test_warm")
    breakdown: dict[str, dict[str, float]] = cold.info["breakdown"]
    wall, cores = cold.seconds.median, int(result.machine.get("cores", 1))
    worked = sum(sum(parts.values()) for parts in breakdown.values())
    order = {framework.name: place for place, framework in enumerate(FRAMEWORKS)}
    rows = {name: breakdown[name] for name in sorted(breakdown, key=lambda name: order.get(name, len(order)))}
    own = {name: float(taken) for name, taken in cold.info.get("afterwards", {}).items()}
    own["everything else"] = max(0.0, cores * wall - worked - sum(own.values()))
    shown = {**rows, **{name: {name: taken} for name, taken in own.items()}}
    again = f" Run again, with all of it on disk, it took {seconds(warm.seconds.median)}." if warm else ""
    compiled = _compilation(result)
    what = " ".join(("parity run", *cold.info["arguments"]))
    text = [
        f"What is measured: '{what}' into an empty folder, {cold.info['recorded_runs']} recorded runs, took "
        f"{seconds(wall)} on {cores} cores.{again}",
        "How to read it: the bars are seconds of worker processes, so that two processes side by side fill two seconds "
        "a second. Import is the framework's own, paid once a process; build puts model and data in place; train "
        "includes compiling, recording and evaluating. Judging is what 'parity report' takes to read and judge all of "
        "it again, page what the page takes beyond that. Everything else is what the cores had left: starting "
        "processes, fingerprints, and waiting for the last run to end." + compiled,
    ]
    table = Table(
        _heads("framework", numbers=(*PHASES, "all")),
        [
            *(
                Row((name, *(seconds(parts[phase]) for phase in PHASES), seconds(sum(parts.values()))))
                for name, parts in rows.items()
            ),
            *(Row((name, *[""] * len(PHASES), seconds(taken))) for name, taken in own.items()),
        ],
    )
    figure = charts.stacked(shown, PHASES | OWN, "seconds of all processes")
    return Section("The whole matrix", text, [Chart("Where the time of a first run goes", figure)], table)


def _compilation(result: Result) -> str:
    """What first runs took beyond steady ones, by framework, where training was measured too."""
    extra: dict[str, float] = {}
    for b in result.group("training"):
        name = framework_of(b.info["implementation"]).name
        extra[name] = extra.get(name, 0.0) + max(0.0, b.info["first"]["run"] - b.seconds.median)
    told = ", ".join(f"{name} {seconds(value)}" for name, value in extra.items() if value >= 0.1)
    if not told:
        return ""
    return (
        f" Compiling is part of training: first runs of the float32 cells above took longer than later ones by {told}."
    )


def _unmeasured(result: Result) -> Section | None:
    if not result.unmeasured:
        return None
    rows = [Row((name.rsplit("::", 1)[-1], reason)) for name, reason in result.unmeasured.items()]
    return Section(
        "What was not measured",
        ["These gave no figure, for the reason beside them."],
        table=Table(_heads("benchmark", "reason"), rows),
    )


def _machine(result: Result) -> Section:
    machine = result.machine
    rows = [
        Row(("processor", str(machine.get("cpu", {}).get("brand_raw", "unknown")))),
        Row(("cores", str(machine.get("cores", "unknown")))),
        Row(("memory", _bytes(machine["memory_bytes"]) if "memory_bytes" in machine else "unknown")),
        Row(("system", f"{machine.get('system', '')} {machine.get('release', '')}".strip() or "unknown")),
        Row(("Python", str(machine.get("python_version", "unknown")))),
        *(Row((name, str(version))) for name, version in machine.get("versions", {}).items()),
        *(Row((f"threads, {name}", str(text))) for name, text in machine.get("threads", {}).items()),
    ]
    text = [
        "Frameworks run in processes of their own, one thread each: with more, the order of sums and so the last bits "
        "would change. Each process takes its own time around the work. Short runs are repeated within a round; two "
        "that are compared take turns, so that what else the machine does meets both.",
    ]
    return Section("Machine, versions and method", text, table=Table(_heads("", ""), rows))


def _against(result: Result, earlier: Result) -> Section:
    found = changes(result, earlier)
    marked = [change for change in found if change.mark in ("faster", "slower")]
    few = sum(change.mark == TOO_FEW for change in found)
    told = [change for change in found if change.mark != TOO_FEW]
    expected = sum(chance(len(change.now.values), len(change.before.values)) for change in told)
    when = ", ".join(filter(None, (f"{earlier.date[:16].replace('T', ' ')} UTC", earlier.version)))
    text = [
        f"The earlier run is of {when}. {len(found)} benchmarks are in both: {len(marked)} differ beyond the noise, "
        f"{len(found) - len(marked) - few} do not, {few} have too few rounds to tell.",
        "Noise is what the rounds of each run show: a difference is marked where every round of one run is faster than "
        f"every round of the other, and chance alone would order them so in less than {SURE:.0%} of cases: of as many "
        f"as were compared, it would mark about {expected:.1f}. What has a peer in its own run is compared as the "
        "ratio (×) to that peer, which the speed of the machine does not move.",
    ]
    shift = drift(result, earlier)
    if shift is not None:
        text.append(
            f"The machine itself: the documents' listings took {shift:.2f} times as long as in the earlier run."
        )
    if result.machine.get("cpu", {}).get("brand_raw") != earlier.machine.get("cpu", {}).get("brand_raw"):
        text.append("The earlier run is of another processor: what has no peer beside it cannot be compared.")
    heads = _heads("", "benchmark", numbers=("before", "now", "now over before"))
    rows = {
        change.name: Row(
            (
                change.mark,
                change.name.removeprefix("test_"),
                *(_compared(spread, change.paired) for spread in (change.before, change.now)),
                f"{_ratio(change.ratio)} ×",
            ),
            {"faster": "good", "slower": "bad"}.get(change.mark, ""),
        )
        for change in sorted(found, key=lambda change: -abs(math.log(change.ratio)))
    }
    names = {change.name for change in marked}
    shown = [row for name, row in rows.items() if name in names]
    others = [row for name, row in rows.items() if name not in names]
    return Section(
        "Against the earlier run",
        text,
        table=Table(heads, shown) if shown else None,
        more=Table(heads, others) if others else None,
    )


def _compared(spread: Spread, paired: bool) -> str:
    if paired:
        return times(spread)
    return f"{seconds(spread.median)} ({seconds(spread.low)} – {seconds(spread.high)})"


# Writing.


def page(report: Report) -> str:
    """The report as one page that needs nothing else."""
    return render(
        "benchmarks.html",
        "benchmarks",
        title=TITLE,
        facts=report.facts,
        lead=report.lead,
        sections=report.sections,
        plotly=plotly(),
    )


def markdown(report: Report) -> str:
    """The report as Markdown: every table, and no figures."""
    lines = [f"# {TITLE}", "", _escaped(report.facts), ""]
    for line in report.lead:
        lines += [_escaped(line), ""]
    for section in report.sections:
        lines += [f"## {_escaped(section.title)}", ""]
        for line in section.text:
            lines += [_escaped(line), ""]
        for table in (section.table, section.more):
            lines += [*_table(table), ""] if table else []
    return "\n".join(lines)


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(_escaped(head.text) for head in table.heads)} |"
    yield f"|{'|'.join('---:' if head.number else '---' for head in table.heads)}|"
    for row in table.rows:
        yield f"| {' | '.join(_escaped(cell) for cell in row.cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown takes for nothing but text, on one line."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, f"\\{mark}"))
    return " ".join(text.split())


def write(report: Report, html: Path, text: Path) -> None:
    """Both files, each put in its place whole."""
    for path, content in ((html, page(report)), (text, markdown(report))):
        scratch = path.with_name(f".{path.name}.partial")
        scratch.write_text(content, encoding="utf-8")
        scratch.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("file", type=Path, help="parity-benchmarks.json")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier run's, whose differences are marked")
    asked = parser.parse_args(arguments)
    html, text = asked.file.with_suffix(".html"), asked.file.with_suffix(".md")
    try:
        check_page(html, "plotly")
        write(build(read(asked.file), read(asked.against) if asked.against else None), html, text)
    except (ResultError, PageError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    print(f"wrote {html} and {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
