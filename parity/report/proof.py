"""What ``parity prove`` found, in the terminal and as one page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.text import Text

from parity.judging.verdict import Verdict
from parity.proving.experiments import Planted
from parity.proving.prove import Evidence, confusion
from parity.report.page import render
from parity.report.terminal import plain_table, progress_on
from parity.report.words import LOOKS, most_used

BAD, ODD = LOOKS[Verdict.FAIL].style, LOOKS[Verdict.INCONCLUSIVE].style


class Steps:
    """Progress on standard error: a bar in a terminal, else a line for every finished job."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = progress_on(console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task("experiments", total=None, now="planning")

    def __enter__(self) -> Steps:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def plan(self, jobs: int) -> None:
        self.progress.update(self.task, total=jobs)

    def step(self, name: str) -> None:
        self.progress.update(self.task, now=name)

    def job(self, name: str) -> None:
        self.progress.advance(self.task)
        if not self.console.is_terminal:
            self.console.print(f"{name}: done")


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """The confusion matrix as texts: a row for each mistake."""
    return [
        {
            "name": name,
            "phase": phase,
            "where": ", ".join(dict.fromkeys(plant.case for plant in plants)),
            "in": ", ".join(f"{label} {n}" for label, n in Counter(p.implementation for p in plants).items()),
            "caught": _count([plant.caught for plant in plants]),
            "located": _count([plant.phase_right for plant in plants]),
            "named": _count([plant.name_right for plant in plants]) + (" tied" if any(p.tied for p in plants) else ""),
            "taken": ", ".join(taken),
            "whole": all(plant.caught and plant.phase_right and plant.name_right for plant in plants),
        }
        for name, phase, plants, taken in confusion(evidence.plants)
    ]


def _count(right: Sequence[bool]) -> str:
    """How many are right, of how many."""
    return f"{sum(right)}/{len(right)}"


def totals(evidence: Evidence) -> list[str]:
    """The result in a few lines."""
    plants: list[Planted] = evidence.plants
    count = max(1, len(plants))

    def percent(found: Sequence[bool]) -> str:
        return f"{sum(found)} of {len(plants)} ({100 * sum(found) / count:.1f} %)"

    tied = sum(plant.tied for plant in plants)
    lines = [
        f"{percent([p.caught for p in plants])} plants of {len({p.hypothesis for p in plants})} mistakes caught",
        f"{percent([p.phase_right for p in plants])} in the right phase",
        f"{percent([p.name_right for p in plants])} under the right name, of them {tied} tied with others",
        f"{len(evidence.false_alarms)} false alarms in {len(evidence.clean)} right runs with other seeds and initial "
        "weights" + most_used(run["ratio"] for run in evidence.clean),
        *_smallest(evidence),
    ]
    if evidence.unseen:
        lines.append(f"{len(evidence.unseen)} plants left out in float32, whose noise floor hides them")
    if evidence.impossible:
        lines.append(f"{len(evidence.impossible)} plants left out that no such run can have")
    if evidence.subset and evidence.nowhere:
        lines.append(f"left to the whole proof: {len(evidence.nowhere)} mistakes")
    elif evidence.nowhere:
        idle = {name for name, _ in evidence.without_effect}
        for what, names in (
            ("no case of the suite can have", [name for name in evidence.nowhere if name not in idle]),
            ("would change nothing in any case of the suite", [name for name in evidence.nowhere if name in idle]),
        ):
            lines += [f"{what}: {', '.join(names)}"] if names else []
    return lines


def _smallest(evidence: Evidence) -> Iterator[str]:
    """For each dtype, the smallest change that fails in the most and in the least sensitive case."""
    for dtype in ("float64", "float32"):
        seen = {case: found[dtype] for case, found in evidence.smallest.items()}
        known = sorted((change, case) for case, change in seen.items() if change is not None)
        if known:
            (least, where), (most, there) = known[0], known[-1]
            blind = "" if len(known) == len(seen) else f"; {len(seen) - len(known)} cases see none up to 1"
            yield (
                f"{dtype}: a learning rate off by {_small(least)} of itself fails in {where}, by {_small(most)} in "
                f"{there}, the others between{blind}"
            )


def print_evidence(console: Console, evidence: Evidence) -> None:
    """The confusion matrix, the smallest changes seen, and the totals."""
    table = plain_table("mistake", "phase", "planted in", "caught", "phase right", "name right", "else taken for")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows(evidence):
        style = "" if row["whole"] else ODD
        cells = (row[key] for key in ("name", "phase", "in", "caught", "located", "named", "taken"))
        table.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(table)
    console.print()
    changes = plain_table("smallest change of the learning rate that fails", "float64", "float32", "followed for")
    for texts in _changes(evidence):
        changes.add_row(*texts)
    console.print(changes)
    console.print()
    for run in evidence.false_alarms:
        what = f"{run['case']} {run['implementation']} {run['dtype']} seed {run['seed']}: {run['reason']}"
        console.print(Text("FALSE ALARM ", BAD) + Text(what), soft_wrap=True)
    for failure in evidence.failures:
        console.print(Text("could not be run: ", BAD) + Text(failure), soft_wrap=True)
    for line in totals(evidence):
        console.print(line, soft_wrap=True)
    console.print(f"{evidence.seconds:.0f} s", style="dim")


def _changes(evidence: Evidence) -> Iterator[tuple[str, str, str, str]]:
    """Each case, the smallest change of its learning rate that fails in float64 and in float32, and how far it ran."""
    for case, found in evidence.smallest.items():
        yield case, _small(found["float64"]), _small(found["float32"]), evidence.cut.get(case, "the whole run")


def _small(change: float | None) -> str:
    return "none up to 1" if change is None else f"{change:.1e}"


def page(evidence: Evidence) -> str:
    """The evidence as one HTML page that needs nothing else."""
    return render(
        "evidence.html",
        evidence=evidence,
        rows=rows(evidence),
        totals=totals(evidence),
        changes=list(_changes(evidence)),
        proved=evidence.proved,
    )
