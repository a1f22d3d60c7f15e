"""Sections on the result as a whole: its limits, an earlier result, what is missing, the machine."""

from __future__ import annotations

import math

from benchmarks import words
from benchmarks.limits import limits
from benchmarks.result import SURE, TOO_FEW, Result, Spread, chance, changes, drift
from benchmarks.sections.pieces import Row, Section, Table, heads


def limits_held(result: Result) -> Section | None:
    """Every limit, what was measured, and whether it holds."""
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
        table=Table(heads("", "what", numbers=("measured", "limit")), rows),
    )


def against(result: Result, earlier: Result) -> Section:
    """What differs from an earlier run beyond the noise, and what does not."""
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
    columns = heads("", "benchmark", numbers=("before", "now", "now over before"))
    rows = {
        change.name: Row(
            (
                change.mark,
                change.name.removeprefix("test_"),
                *(_measured(spread, change.paired) for spread in (change.before, change.now)),
                f"{words.ratio(change.ratio)} ×",
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
        table=Table(columns, shown) if shown else None,
        more=Table(columns, others) if others else None,
    )


def _measured(spread: Spread, paired: bool) -> str:
    """A figure with its spread: a ratio where it is ``paired`` with a peer, else seconds."""
    if paired:
        return words.times(spread)
    return f"{words.seconds(spread.median)} ({words.seconds(spread.low)} – {words.seconds(spread.high)})"


def unmeasured(result: Result) -> Section | None:
    """The benchmarks that gave no figure, and why."""
    if not result.unmeasured:
        return None
    rows = [Row((name.rsplit("::", 1)[-1], reason)) for name, reason in result.unmeasured.items()]
    return Section(
        "What was not measured",
        ["These gave no figure, for the reason beside them."],
        table=Table(heads("benchmark", "reason"), rows),
    )


def machine_and_method(result: Result) -> Section:
    """The machine, the versions, the threads, and how times are taken."""
    machine = result.machine
    rows = [
        Row(("processor", str(machine.get("cpu", {}).get("brand_raw", "unknown")))),
        Row(("cores", str(machine.get("cores", "unknown")))),
        Row(("memory", words.memory(machine["memory_bytes"]) if "memory_bytes" in machine else "unknown")),
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
    return Section("Machine, versions and method", text, table=Table(heads("", ""), rows))
