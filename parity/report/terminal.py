"""The terminal's view: progress while the matrix fills, the table of verdicts, log lines side by side, a diff."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from parity.judging.diff import Comparison
from parity.judging.outcome import Outcome
from parity.judging.published import Figure, log_lines
from parity.judging.verdict import Judgement, Verdict
from parity.report.words import count_cells, count_published, missed, share
from parity.running.cells import Cell
from parity.running.versions import Availability
from parity.spec import Case
from parity.suite import rank
from parity.tolerance import FACTOR

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
COLUMN = 10
WIDE = 170


def make_console(stderr: bool = False) -> Console:
    """A console that is wide where nobody watches: a file or a pipe has no width, and wrapped lines help nobody."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE)


class Watch:
    """Progress on standard error: a bar where someone watches, a line for every finished cell where nobody does.

    Given its ``cells``, the bar has the matrix above it, which fills: verdicts, and how far the runs under way are.
    """

    def __init__(self, console: Console, total: int, cells: Sequence[Cell] = ()) -> None:
        self.console, self.cells = console, cells
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=console,
        )
        self.task = self.progress.add_task("cells", total=total, now="")
        self.rows: Rows = {}
        for cell in cells:
            self.rows.setdefault(_row(cell), {})[cell.implementation] = Text("…", "dim")
        self.last = next(iter(self.rows), None)
        self.live = Live(get_renderable=self._view, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Watch:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def epoch(self, cell: Cell, epoch: int, of: int) -> None:
        self.progress.update(self.task, now=f"{cell.name} {epoch}/{of}")
        self._put(_row(cell), cell.implementation, Text(f"{epoch / of:.0%}", "cyan"))

    def outcome(self, outcome: Outcome) -> None:
        self.progress.advance(self.task)
        self._put((outcome.folder, outcome.dtype), outcome.implementation, _cell(outcome))
        if self.live is None and not outcome.cached:
            self.console.print(f"{outcome.name}: {outcome.judgement.verdict}", highlight=False)

    def _put(self, row: tuple[str, str], implementation: str, text: Text) -> None:
        # Floors and the reference's own check are no cells of the matrix.
        if implementation in self.rows.get(row, {}):
            self.last = row
            self.rows[row][implementation] = text

    def _view(self) -> Group:
        """The progress, and as many rows of the matrix as there is room for, around the one last heard of."""
        tables = len(_tables(self.console.width, self.rows)) if self.rows else 1
        room = (self.console.height - 2) // tables - 2
        if self.last is None or room < 1:
            return Group(self.progress)
        names = list(self.rows)
        start = max(0, min(names.index(self.last) - room // 2, len(names) - room))
        shown = {name: self.rows[name] for name in names[start : start + room]}
        return Group(*_tables(self.console.width, shown, self.rows), self.progress)


Rows = dict[tuple[str, str], dict[str, Text]]
"""What stands in the matrix: by case and dtype, then by implementation."""


def _row(cell: Cell) -> tuple[str, str]:
    return cell.entry.folder, cell.dtype


def print_matrix(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Cases × implementations, a row for each dtype; each cell its verdict and the share of its tolerance used.

    Where the terminal is too narrow for all implementations, they stand in several tables below each other.
    """
    rows: Rows = {}
    for outcome in outcomes:
        rows.setdefault((outcome.folder, outcome.dtype), {})[outcome.implementation] = _cell(outcome)
    for table in _tables(console.width, rows):
        console.print(table)
    notes = {outcome.folder: outcome.note for outcome in outcomes}
    for folder, note in notes.items():
        if note:
            console.print(f"{folder}: {note}", markup=False, highlight=False, soft_wrap=True)


def _tables(width: int, rows: Rows, whole: Rows | None = None) -> list[Table]:
    """The rows as tables that fit into ``width``; the columns are those of the ``whole`` matrix."""
    whole = rows if whole is None else whole
    labels = sorted({label for row in whole.values() for label in row}, key=rank)
    heading = max(len(case) for case, _ in whole)
    each = max(1, (width - heading - len("float32") - 4) // COLUMN)
    return [_table(rows, labels[start : start + each], heading) for start in range(0, len(labels), each)]


def _table(rows: Rows, labels: Sequence[str], heading: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("case", vertical="bottom", no_wrap=True, min_width=heading)
    table.add_column("dtype", vertical="bottom", no_wrap=True)
    for label in labels:
        # Two words stand above each other, so that the whole matrix fits on a page.
        table.add_column(label.replace("-", "-\n"), justify="right", vertical="bottom", no_wrap=True, width=COLUMN - 1)
    last = ""
    for (case, dtype), row in rows.items():
        found = (row.get(label, Text("·", "dim")) for label in labels)
        table.add_row("" if case == last else case, dtype, *found)
        last = case
    return table


def _cell(outcome: Outcome) -> Text:
    verdict, ratio = outcome.judgement.verdict, outcome.judgement.ratio
    if verdict is Verdict.INCONCLUSIVE:
        return Text("?", STYLES[verdict])
    return Text(f"{verdict} {share(ratio)}", STYLES[verdict])


def print_summary(console: Console, outcomes: Sequence[Outcome], seconds: float) -> None:
    """What did not pass and why, the count of verdicts, and how the published figures came out."""
    for outcome in outcomes:
        if outcome.judgement.verdict is not Verdict.PASS:
            line = Text(f"{outcome.judgement.verdict} ", STYLES[outcome.judgement.verdict])
            console.print(line + Text(f"{outcome.name}: {outcome.judgement.reason}", ""), soft_wrap=True)
            if outcome.explanation is not None:
                console.print(Text(f"     {outcome.explanation['sentence']}"), soft_wrap=True)
    for outcome in outcomes:
        if outcome.judgement.verdict is Verdict.PASS and outcome.judgement.note:
            console.print(f"{outcome.name}: {outcome.judgement.note}", markup=False, soft_wrap=True)
    for outcome in outcomes:
        for verdict, sentence in missed(outcome):
            line = Text(f"{verdict} ", STYLES[verdict]) + Text(f"{outcome.name}: {sentence}")
            console.print(line, soft_wrap=True)
    console.print(f"\n{count_cells(outcomes)} ({seconds:.1f} s)", highlight=False)
    if published := count_published(outcomes):
        console.print(published, highlight=False)


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
    console.print(escape(case.publication.source), style="dim", highlight=False)
    if case.display.note:
        console.print(case.display.note, markup=False, highlight=False, soft_wrap=True)
    if not case.publication.figures:
        console.print("The source printed no figures of this run.", highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ours")
    table.add_column("published")
    table.add_column("")
    for line in log_lines(case, figures):
        table.add_row(Text(line.ours), Text(line.published), Text(line.mark, STYLES[line.verdict]))
    console.print(table)


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


def print_preflight(console: Console, notes: Iterable[tuple[str, Sequence[str]]]) -> None:
    """What would make numbers meaningless, before there are any: each once, and whom it is about."""
    about: dict[str, list[str]] = {}
    for name, said in notes:
        for note in said:
            about.setdefault(note, []).append(name)
    for note, names in about.items():
        whose = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        line = Text("before any number: ", "yellow") + Text(note) + Text(f" ({whose})", "dim")
        console.print(line, soft_wrap=True)


def print_diff(console: Console, comparisons: Sequence[Comparison]) -> None:
    """One comparison in full, several as a table with what failed spelled out below."""
    print_preflight(console, [(f"{found.a} and {found.b}", found.preflight) for found in comparisons])
    if len(comparisons) == 1:
        _print_one(console, comparisons[0])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("a", "b", "verdict", "tolerance used", "largest relative"):
        table.add_column(heading, no_wrap=True)
    for found in comparisons:
        relative = "" if found.relative is None else f"{found.relative.relative:.1e}"
        verdict = Text(found.judgement.verdict, STYLES[found.judgement.verdict])
        used = share(found.judgement.ratio)
        table.add_row(*(f"{p.parent.name}/{p.name}" for p in (found.a, found.b)), verdict, used, relative)
    console.print(table)
    for found in comparisons:
        if found.judgement.verdict is not Verdict.PASS:
            console.print(f"{found.a} and {found.b}: {found.judgement.reason}", markup=False, soft_wrap=True)
    passed = sum(found.judgement.verdict is Verdict.PASS for found in comparisons)
    console.print(f"{passed} of {len(comparisons)} pairs agree", highlight=False)


def print_unpaired(console: Console, unpaired: Mapping[Path, Sequence[Path]]) -> None:
    """How many runs of each folder were not compared, for want of a counterpart, and the first of them."""
    if not any(unpaired.values()):
        return
    said = []
    for root, runs in unpaired.items():
        names = [f"{run.parent.name}/{run.name}" for run in runs[:3]] + (["…"] if len(runs) > 3 else [])
        said.append(f"{len(runs)} of {root}" + (f" ({', '.join(names)})" if names else ""))
    line = f"not compared, for want of a counterpart: {', '.join(said)}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_one(console: Console, found: Comparison) -> None:
    judgement = found.judgement
    console.print(Text(judgement.verdict, STYLES[judgement.verdict]), soft_wrap=True)
    lines = [judgement.reason] if judgement.reason else []
    for kind in ("absolute", "relative", "ulp"):
        worst = getattr(found, kind)
        if worst is not None:
            size = f"{worst.ulp:,} ULP" if kind == "ulp" else f"{getattr(worst, kind):.3g}"
            place = f"{worst.tensor}{list(worst.index)}"
            lines.append(f"largest {kind} difference {size}: epoch {worst.epoch}, {place}: {worst.a!s} and {worst.b!s}")
    if found.absolute is None and judgement.verdict is Verdict.PASS:
        lines.append("no loss and no parameter differs")
    if judgement.ratio is not None and found.absolute is not None:
        where = "" if judgement.verdict is Verdict.FAIL else f", at epoch {judgement.epoch} in {judgement.parameter}"
        lines.append(
            f"smallest tolerance that passes: {judgement.ratio:.3g} of the measured one{where}, "
            f"or {found.absolute.absolute:.3g} absolute everywhere"
        )
    for line in (*lines, *(f"note: {note}" for note in found.notes)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _ulp(count: int) -> str:
    return f"{count:,} ULP" if count < 10**9 else f"{count:.2g} ULP"


def print_explanation(console: Console, title: str, judgement: Judgement, found: Mapping[str, Any] | None) -> None:
    """One failed run on one screen: the verdict, where it parts, what that looks like, and the mistakes tried."""
    console.print(Text(f"{judgement.verdict} ", STYLES[judgement.verdict]) + Text(title, "bold"), soft_wrap=True)
    agrees = "it agrees with the reference: there is nothing to explain"
    console.print(judgement.reason or agrees, markup=False, soft_wrap=True)
    if found is None:
        return
    console.print()
    console.print(Text("first differs at ") + Text(found["place"], "bold"), soft_wrap=True)
    for phase, floors in found["agreed"].items():
        console.print(Text(f"  {phase} agrees, to {floors:.2g} of the noise floor", "green"))
    worst = found["difference"]
    if worst is not None:
        ulp = "" if worst["ulp"] is None else f", {_ulp(worst['ulp'])}"
        console.print(
            f"  {found['parameter']}{worst['index'] or ''}: ours {worst['ours']:.9g}, reference "
            f"{worst['reference']:.9g}: {worst['absolute']:.3g} apart, {found['floors']:.3g} noise floors{ulp}",
            markup=False,
            highlight=False,
        )
    others = [name for name, _ in found["parts"][1:]]
    if others:
        console.print(f"  so do {', '.join(others)}", markup=False, highlight=False, soft_wrap=True)
    if found["pattern"]:
        console.print(f"  pattern: {found['pattern']}", markup=False, highlight=False)
    if found["growth"]:
        console.print(f"  the distance {found['growth']}", markup=False, highlight=False)
    if found["note"]:
        console.print(f"  {found['note']}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print(Text(found["why"], "bold"), soft_wrap=True)
    if found["untouched"] is None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("mistake replayed")
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
