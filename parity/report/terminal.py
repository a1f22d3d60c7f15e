"""The terminal's view: progress while the matrix fills, the table of verdicts, log lines side by side, a diff."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from parity.crosscheck import Comparison
from parity.matrix import Availability, Cell, Outcome
from parity.published import Figure
from parity.spec import Case
from parity.suite import rank
from parity.tolerance import FACTOR
from parity.verdict import Judgement, Verdict

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
NEAR = {"floor": "≈ within the noise floor", "envelope": "≈ within the spread of other draws"}
COLUMN = 9
WIDE = 160


def make_console(stderr: bool = False) -> Console:
    """A console that is wide where nobody watches: a file or a pipe has no width, and wrapped lines help nobody."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE)


class Watch:
    """Progress on standard error: a bar where someone watches, a line for every finished cell where nobody does."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("cells", total=total, now="")

    def __enter__(self) -> Watch:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def epoch(self, cell: Cell, epoch: int, of: int) -> None:
        self.progress.update(self.task, now=f"{cell.name} {epoch}/{of}")

    def outcome(self, outcome: Outcome) -> None:
        self.progress.advance(self.task)
        if not self.console.is_terminal and not outcome.cached:
            self.console.print(f"{outcome.cell.name}: {outcome.judgement.verdict}", highlight=False)


def print_matrix(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Cases × implementations, a row for each dtype; each cell its verdict and the share of its tolerance used.

    Where the terminal is too narrow for all implementations, they stand in several tables below each other.
    """
    rows: dict[tuple[str, str], dict[str, Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.cell.entry.folder, outcome.cell.dtype), {})[outcome.cell.implementation] = outcome
    labels = list(dict.fromkeys(outcome.cell.implementation for outcome in outcomes))
    labels.sort(key=lambda label: rank(label))
    heading = max(len(case) for case, _ in rows) + len("float32") + 4
    each = max(1, (console.width - heading) // COLUMN)
    for start in range(0, len(labels), each):
        console.print(_table(rows, labels[start : start + each]))
    notes = {outcome.cell.entry.folder: outcome.cell.entry.case.note for outcome in outcomes}
    for folder, note in notes.items():
        if note:
            console.print(f"{folder}: {note}", markup=False, highlight=False, soft_wrap=True)


def _table(rows: dict[tuple[str, str], dict[str, Outcome]], labels: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("case", vertical="bottom", no_wrap=True)
    table.add_column("dtype", vertical="bottom", no_wrap=True)
    for label in labels:
        # Two words stand above each other, so that the whole matrix fits on a page.
        table.add_column(label.replace("-", "-\n"), justify="right", vertical="bottom", no_wrap=True, width=COLUMN - 1)
    last = ""
    for (case, dtype), row in rows.items():
        found = (_cell(row[label]) if label in row else Text("·", "dim") for label in labels)
        table.add_row("" if case == last else case, dtype, *found)
        last = case
    return table


def _cell(outcome: Outcome) -> Text:
    verdict, ratio = outcome.judgement.verdict, outcome.judgement.ratio
    if verdict is Verdict.INCONCLUSIVE:
        return Text("?", STYLES[verdict])
    return Text(f"{verdict} {_share(ratio)}", STYLES[verdict])


def _share(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}".removeprefix("0") if ratio < 10 else f"{ratio:.0e}".replace("e+0", "e").replace("e+", "e")


def print_summary(console: Console, outcomes: Sequence[Outcome], seconds: float) -> None:
    """What did not pass and why, the count of verdicts, and how the published figures came out."""
    for outcome in outcomes:
        if outcome.judgement.verdict is not Verdict.PASS:
            line = Text(f"{outcome.judgement.verdict} ", STYLES[outcome.judgement.verdict])
            console.print(line + Text(f"{outcome.cell.name}: {outcome.judgement.reason}", ""), soft_wrap=True)
            if outcome.explanation is not None:
                console.print(Text(f"     {outcome.explanation['sentence']}"), soft_wrap=True)
    for outcome in outcomes:
        if outcome.judgement.verdict is Verdict.PASS and outcome.judgement.note:
            console.print(f"{outcome.cell.name}: {outcome.judgement.note}", markup=False, soft_wrap=True)
    for outcome in outcomes:
        for figures in _by_quantity(outcome.figures).values():
            missed = [figure for figure in figures if figure.verdict is not Verdict.PASS]
            if missed:
                first = missed[0]
                many = f", and {len(missed) - 1} more of {len(figures)}" if len(missed) > 1 else ""
                sentence = (
                    f"{outcome.cell.name}: published {first.quantity} of epoch {first.epoch} is {first.published}, "
                    f"ours {first.ours}{many}"
                )
                console.print(Text(f"{first.verdict} ", STYLES[first.verdict]) + Text(sentence), soft_wrap=True)
    counts = [f"{_count(outcomes, verdict)} {verdict}" for verdict in Verdict if _count(outcomes, verdict)]
    shares = [outcome.judgement.ratio or 0.0 for outcome in outcomes if outcome.judgement.verdict is Verdict.PASS]
    most = f", at most {max(shares):.2f} of the tolerance used" if shares else ""
    console.print(f"\n{len(outcomes)} cells: {', '.join(counts)}{most} ({seconds:.1f} s)", highlight=False)
    published = [figure for outcome in outcomes for figure in outcome.figures]
    if published:
        held = sum(figure.verdict is Verdict.PASS for figure in published)
        console.print(f"{held} of {len(published)} published figures reproduced", highlight=False)


def _by_quantity(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure.quantity, []).append(figure)
    return found


def _count(outcomes: Sequence[Outcome], verdict: Verdict) -> int:
    return sum(outcome.judgement.verdict is verdict for outcome in outcomes)


def print_list(console: Console, rows: Sequence[tuple[str, Availability, str]]) -> None:
    """Cases × implementations: what can run here, and why not where it cannot."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("case", "implementation", "framework", "here"):
        table.add_column(heading)
    last = ""
    for case, availability, absent in rows:
        here = (
            Text(availability.reason or "yes", "green")
            if availability.available and not absent
            else Text(absent or availability.reason, "yellow")
        )
        table.add_row("" if case == last else case, availability.implementation, availability.framework, here)
        last = case
    console.print(table)


def print_log(console: Console, case: Case, label: str, dtype: str, figures: Sequence[Figure]) -> None:
    """The source's own log lines from our run, the published ones beside them, differences marked."""
    console.print(f"[bold]{escape(case.name)}[/bold], {label}, {dtype}", highlight=False)
    console.print(escape(case.source), style="dim", highlight=False)
    if case.note:
        console.print(case.note, markup=False, highlight=False, soft_wrap=True)
    if not case.published:
        console.print("The source printed no figures of this run.", highlight=False)
        return
    by_epoch: dict[int, dict[str, Figure]] = {}
    for figure in figures:
        by_epoch.setdefault(figure.epoch, {})[figure.quantity] = figure
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ours")
    table.add_column("published")
    table.add_column("")
    shown: set[tuple[int, str]] = set()
    for epoch, line in sorted(by_epoch.items()):
        try:
            ours, theirs = (
                case.log.format(
                    epoch=epoch, step=epoch - 1, **{name: getattr(figure, side) for name, figure in line.items()}
                )
                for side in ("ours", "published")
            )
        except KeyError:
            continue  # This epoch has figures, but not all that the log line prints.
        used = [name for name in line if "{" + name + "}" in case.log]
        shown |= {(epoch, name) for name in used}
        table.add_row(*_pair(ours, theirs, [line[name] for name in used]))
    for figure in figures:
        if (figure.epoch, figure.quantity) not in shown:
            name = f"{figure.quantity} (epoch {figure.epoch})"
            table.add_row(*_pair(f"{name}: {figure.ours}", figure.published, [figure]))
    console.print(table)


def _pair(ours: str, theirs: str, figures: Sequence[Figure]) -> tuple[Text, Text, Text]:
    worst = next((f.verdict for f in figures if f.verdict is not Verdict.PASS), Verdict.PASS)
    if worst is Verdict.PASS:
        near = {f.rule for f in figures if f.ours != f.published}
        mark = "=" if not near else " and ".join(sorted(NEAR[rule] for rule in near))
    else:
        mark = "≠ " + ", ".join(f.quantity for f in figures if f.verdict is not Verdict.PASS)
    return Text(ours), Text(theirs), Text(mark, STYLES[worst])


def print_texts(console: Console, weights: str, epochs: int, texts: Mapping[Cell, str | BaseException]) -> None:
    """Each text once, under the names of those that wrote it, and whose trained parameters they had."""
    written: dict[str, list[str]] = {}
    for cell, text in texts.items():
        label = f"{cell.implementation} {cell.dtype}"
        if isinstance(text, BaseException):
            console.print(f"{label}: {text}", markup=False, soft_wrap=True)
        else:
            written.setdefault(text, []).append(label)
    whose = f"what {weights} trained" if weights else "its own parameters"
    for text, labels in written.items():
        console.print(
            f"{', '.join(labels)}, with {whose} after {epochs} epochs:", style="bold", markup=False, highlight=False
        )
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_diff(console: Console, comparisons: Sequence[Comparison]) -> None:
    """One comparison in full, several as a table with what failed spelled out below."""
    if len(comparisons) == 1:
        _print_one(console, comparisons[0])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("a", "b", "verdict", "tolerance used", "largest relative"):
        table.add_column(heading, no_wrap=True)
    for found in comparisons:
        relative = "" if found.relative is None else f"{found.relative.relative:.1e}"
        verdict = Text(found.judgement.verdict, STYLES[found.judgement.verdict])
        share = _share(found.judgement.ratio)
        table.add_row(*(f"{p.parent.name}/{p.name}" for p in (found.a, found.b)), verdict, share, relative)
    console.print(table)
    for found in comparisons:
        if found.judgement.verdict is not Verdict.PASS:
            console.print(f"{found.a} and {found.b}: {found.judgement.reason}", markup=False, soft_wrap=True)
    passed = sum(found.judgement.verdict is Verdict.PASS for found in comparisons)
    console.print(f"{passed} of {len(comparisons)} pairs agree", highlight=False)


def _print_one(console: Console, found: Comparison) -> None:
    judgement = found.judgement
    console.print(Text(judgement.verdict, STYLES[judgement.verdict]), soft_wrap=True)
    lines = [judgement.reason] if judgement.reason else []
    for kind in ("absolute", "relative", "ulp"):
        worst = getattr(found, kind)
        if worst is not None:
            size = f"{worst.ulp:,} ULP" if kind == "ulp" else f"{getattr(worst, kind):.3g}"
            place = f"{worst.tensor}{list(worst.index)}"
            lines.append(f"largest {kind} difference {size}: epoch {worst.epoch}, {place}: {worst.a} and {worst.b}")
    if found.absolute is None and judgement.verdict is Verdict.PASS:
        lines.append("no value differs")
    if judgement.ratio is not None and found.absolute is not None:
        where = "" if judgement.verdict is Verdict.FAIL else f", at epoch {judgement.epoch} in {judgement.parameter}"
        lines.append(
            f"smallest tolerance that passes: {judgement.ratio:.3g} of the measured one{where}, "
            f"or {found.absolute.absolute:.3g} absolute everywhere"
        )
    for line in (*lines, *(f"note: {note}" for note in found.notes)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_explanation(console: Console, title: str, judgement: Judgement, found: Mapping[str, Any] | None) -> None:
    """One failed run on one screen: the verdict, where it parts, what that looks like, and the mistakes tried."""
    console.print(Text(f"{judgement.verdict} ", STYLES[judgement.verdict]) + Text(title, "bold"), soft_wrap=True)
    console.print(judgement.reason or "it agrees with the reference: there is nothing to explain", markup=False)
    if found is None:
        return
    console.print()
    place = f"epoch {found['epoch']}, batch {found['batch']}, {found['phase']}"
    if found["parameter"] and found["parameter"] != found["phase"]:
        place += f" of {found['parameter']}"
    console.print(Text("first differs at ") + Text(place, "bold"), soft_wrap=True)
    for phase, floors in found["agreed"].items():
        console.print(Text(f"  {phase} agrees, to {floors:.2g} of the noise floor", "green"))
    worst = found["difference"]
    if worst is not None:
        ulp = "" if worst["ulp"] is None else f", {worst['ulp']:,} ULP"
        console.print(
            f"  {found['parameter']}{worst['index']}: ours {worst['ours']:.9g}, reference {worst['reference']:.9g}: "
            f"{worst['absolute']:.3g} apart, {found['floors']:.3g} noise floors{ulp}",
            markup=False,
            highlight=False,
        )
    others = [name for name, _ in found["parts"][1:]]
    if others:
        console.print(f"  so do {', '.join(others)}", markup=False, highlight=False, soft_wrap=True)
    if found["pattern"]:
        console.print(f"  pattern: {found['pattern']}", markup=False, highlight=False)
    if found["note"]:
        console.print(f"  {found['note']}", markup=False, highlight=False)
    console.print()
    console.print(Text(found["why"], "bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("mistake replayed on the reference")
    table.add_column("phase")
    table.add_column("leaves, in noise floors", justify="right")
    for replay in found["replays"][:8]:
        style = "green" if replay["floors"] <= FACTOR else ""
        table.add_row(" and ".join(replay["names"]), replay["phase"], f"{replay['floors']:.3g}", style=style)
    table.add_row("none", "", f"{found['untouched']:.3g}", style="dim")
    console.print(table)
    more = len(found["replays"]) - 8
    tried = f"{len(found['replays'])} replayed over the first {found['epochs']} epochs" if more > 0 else ""
    late = "; time ran out before all were" if found["unfinished"] else ""
    console.print(f"{tried}{late}", style="dim", highlight=False)
