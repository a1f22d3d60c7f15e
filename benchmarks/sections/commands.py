"""Sections on commands as processes: start-up, and the whole matrix."""

from __future__ import annotations

from benchmarks import words
from benchmarks.result import Result
from benchmarks.sections import charts
from benchmarks.sections.pieces import Chart, Row, Section, Table, heads, spread_cells, time_bars, times_or_dot
from parity.frameworks import FRAMEWORKS, framework_of

PHASES = {"import": "--import", "build": "--build", "train": "--train"}
"""The phases of a worker, each with the colour of its part of a bar."""
OWN = {"judging": "--judge", "page": "--page", "everything else": "--rest"}
"""What the command itself does, likewise."""


def startup(result: Result) -> Section | None:
    """Whole processes from start to end."""
    found = {b.info["command"]: b for b in result.group("start-up")}
    if not found:
        return None
    taken = {name: b.seconds.median for name, b in found.items()}
    ours = [name for name in found if name.startswith("parity") or name.endswith("parity")]
    numbers = ("median", "fastest", "slowest", "over import numpy")
    rows = [
        Row((name, *spread_cells(b.seconds), times_or_dot(b.ratio("import_numpy_seconds"))))
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
        [time_bars("From start to end", taken, ours)],
        Table(heads("command", numbers=numbers), rows),
    )


def matrix(result: Result) -> Section | None:
    """Where the time of ``parity run`` goes."""
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
    again = f" Run again, with all of it on disk, it took {words.seconds(warm.seconds.median)}." if warm else ""
    compiled = _compilation(result)
    what = " ".join(("parity run", *cold.info["arguments"]))
    text = [
        f"What is measured: '{what}' into an empty folder, {cold.info['recorded_runs']} recorded runs, took "
        f"{words.seconds(wall)} on {cores} cores.{again}",
        "How to read it: the bars are seconds of worker processes, so that two processes side by side fill two seconds "
        "a second. Import is the framework's own, paid once a process; build puts model and data in place; train "
        "includes compiling, recording and evaluating. Judging is what 'parity report' takes to read and judge all of "
        "it again, page what the page takes beyond that. Everything else is what the cores had left: starting "
        "processes, fingerprints, and waiting for the last run to end." + compiled,
    ]
    table = Table(
        heads("framework", numbers=(*PHASES, "all")),
        [
            *(
                Row((name, *(words.seconds(parts[phase]) for phase in PHASES), words.seconds(sum(parts.values()))))
                for name, parts in rows.items()
            ),
            *(Row((name, *[""] * len(PHASES), words.seconds(taken))) for name, taken in own.items()),
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
    told = ", ".join(f"{name} {words.seconds(value)}" for name, value in extra.items() if value >= 0.1)
    if not told:
        return ""
    return (
        f" Compiling is part of training: first runs of the float32 cells above took longer than later ones by {told}."
    )
