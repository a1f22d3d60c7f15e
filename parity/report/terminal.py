"""What commands print: progress while the matrix fills, verdicts, log lines side by side, a diff, an explanation."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from parity.judging.checkpoints import Begin
from parity.judging.diff import Comparison
from parity.judging.moments import UPDATE, moment_of
from parity.judging.outcome import Outcome
from parity.judging.published import log_lines, missed, sources
from parity.judging.tensors.correspondence import first_few
from parity.judging.verdict import Judgement, Verdict
from parity.report.foreign import foreign, foreign_in
from parity.report.words import LOOKS, explained, share, totals
from parity.running.cells import Cell
from parity.running.versions import Availability
from parity.spec import Case
from parity.suite import rank
from parity.tolerance import FACTOR

COLUMN = 10
"""The width of a column of the matrix, in characters."""
SHOWN = 8
"""So many names or places of a list are shown."""
WIDE = 170
"""The width of a line where nobody watches, in characters."""


class _Plain(Console):
    """A console that shows every text as the letters that it is: no markup, no emoji, no control of the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(foreign(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=foreign(segment.text, lines=True))


def make_console(stderr: bool = False) -> Console:
    """A console on standard output or error, which shows texts that are not ours as they are: see ``foreign``.

    A file or a pipe has no width, and gets a wide one: wrapped lines help nobody.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return _Plain(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def as_text(show: Callable[[Console], None]) -> str:
    """What is printed on a console, as plain text: see ``make_console``."""
    stream = io.StringIO()
    show(_Plain(file=stream, width=WIDE, force_terminal=False, color_system=None, markup=False, emoji=False))
    return stream.getvalue()


def progress_on(console: Console, **options: Any) -> Progress:
    """Progress in a line: what is counted, a bar, how many are done, how long it took, and what runs ``now``."""
    now = TextColumn("{task.fields[now]}", style="dim", markup=False)  # names may have brackets
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), now
    return Progress(*columns, console=console, **options)


@contextmanager
def bytes_read(console: Console) -> Iterator[Begin]:
    """A bar of bytes in a terminal, with their speed and the time that is left, from when it is told how many."""
    name = TextColumn("{task.fields[now]}", style="dim", markup=False)
    columns = TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), name
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def begin(size: int) -> Callable[[int, str], None]:
            task = progress.add_task("", total=size, now="")
            return lambda read, name: progress.update(task, advance=read, now=foreign(name))

        yield begin


def plain_table(*headings: str) -> Table:
    """A table without lines, its headings bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


class Watch:
    """Progress on standard error: a bar in a terminal, else a line for every finished cell.

    With ``cells``, the matrix stands above the bar and fills: verdicts, and how far the runs under way are. Where
    ``each`` is false, no line is written of a cell.
    """

    def __init__(self, console: Console, total: int, cells: Sequence[Cell] = (), each: bool = True) -> None:
        self.console, self.cells, self.each = console, cells, each
        self.waiting: set[Cell] = set()
        self.progress = progress_on(console)
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
        if not of:
            self._waits(cell)
            return
        self.progress.update(self.task, now=f"{cell.name} {epoch}/{of}")
        self._put(_row(cell), cell.implementation, Text(f"{epoch / of:.0%}", "cyan"))

    def _waits(self, cell: Cell) -> None:
        """Another process makes the same run, or measures the same floor."""
        self.progress.update(self.task, now=f"{cell.name} waits for another process")
        if self.live is None and cell not in self.waiting:
            self.console.print(f"{cell.name}: waits for another process that makes the same", highlight=False)
        self.waiting.add(cell)

    def outcome(self, outcome: Outcome) -> None:
        self.progress.advance(self.task)
        self._put((outcome.folder, outcome.dtype), outcome.implementation, _cell(outcome))
        if self.live is None and self.each and not outcome.cached:
            self.console.print(f"{outcome.name}: {outcome.judgement.verdict}")

    def _put(self, row: tuple[str, str], implementation: str, text: Text) -> None:
        # Noise floors and the reference's own check are not cells of the matrix.
        if implementation in self.rows.get(row, {}):
            self.last = row
            self.rows[row][implementation] = text

    def _view(self) -> Group:
        """The bar, and as many rows of the matrix as fit, around the one last heard of."""
        tables = len(_tables(self.console.width, self.rows)) if self.rows else 1
        room = (self.console.height - 2) // tables - 2
        if self.last is None or room < 1:
            return Group(self.progress)
        names = list(self.rows)
        start = max(0, min(names.index(self.last) - room // 2, len(names) - room))
        shown = {name: self.rows[name] for name in names[start : start + room]}
        return Group(*_tables(self.console.width, shown, self.rows), self.progress)


Rows = dict[tuple[str, str], dict[str, Text]]
"""The texts of the matrix, by case and dtype, then by implementation."""


def _row(cell: Cell) -> tuple[str, str]:
    return cell.entry.folder, cell.dtype


def print_matrix(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the matrix: a row for each case and dtype, in each cell the verdict and the share of the tolerance used.

    Where the terminal is too narrow for all implementations, several tables stand below each other.
    """
    rows: Rows = {}
    for outcome in outcomes:
        rows.setdefault((outcome.folder, outcome.dtype), {})[outcome.implementation] = _cell(outcome)
    for table in _tables(console.width, rows):
        console.print(table)
    notes = {outcome.folder: outcome.note for outcome in outcomes}
    for folder, note in notes.items():
        if note:
            console.print(f"{folder}: {note}", soft_wrap=True)


def _tables(width: int, rows: Rows, whole: Rows | None = None) -> list[Table]:
    """The rows as tables that fit into ``width``, with the columns of the ``whole`` matrix."""
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
        return Text(LOOKS[verdict].mark, LOOKS[verdict].style)
    return Text(f"{verdict} {share(ratio)}", LOOKS[verdict].style)


def print_summary(console: Console, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Print what did not pass and why, how many cells passed, and how many published figures were reproduced."""
    for outcome in outcomes:
        if outcome.judgement.verdict is not Verdict.PASS:
            line = Text(f"{outcome.judgement.verdict} ", LOOKS[outcome.judgement.verdict].style)
            console.print(line + Text(f"{outcome.name}: {outcome.judgement.reason}", ""), soft_wrap=True)
            if sentence := explained(outcome):
                console.print(Text(f"     {sentence}"), soft_wrap=True)
    for outcome in outcomes:
        if outcome.judgement.verdict is Verdict.PASS and outcome.judgement.note:
            console.print(f"{outcome.name}: {outcome.judgement.note}", soft_wrap=True)
    for outcome in outcomes:
        for verdict, sentence in missed(outcome.figures):
            line = Text(f"{verdict} ", LOOKS[verdict].style) + Text(f"{outcome.name}: {sentence}")
            console.print(line, soft_wrap=True)
    counted, *others = totals(outcomes)
    console.print(f"\n{counted} ({seconds:.1f} s)")
    for said in others:
        console.print(said)


def print_list(console: Console, rows: Sequence[tuple[str, Availability, str]]) -> None:
    """Print each case and implementation, and whether it can run here or why it cannot."""
    table = plain_table("case", "implementation", "framework", "here")
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


def print_log(console: Console, case: Case, outcome: Outcome) -> None:
    """Print the source's log lines from our run, the published ones beside them, differences marked.

    Where the source shows no output, ours stands alone. It is printed as it is, for it is what a script prints.
    """
    console.print(Text(case.name, "bold") + Text(f", {outcome.implementation}, {outcome.dtype}"))
    if case.publication.source:
        console.print(case.publication.source, style="dim")
    if case.display.note:
        console.print(case.display.note, soft_wrap=True)
    lines = log_lines(case, outcome.figures, outcome.run)
    table = plain_table("ours", "published", "")
    for line in lines:
        style = "" if line.verdict is None else LOOKS[line.verdict].style
        table.add_row(Text(line.ours), Text(line.published), Text(line.mark, style))
    if any(line.verdict is not None for line in lines):
        console.print(table)
        for source in sources(case, outcome.dtype):
            console.print(source, style="dim", soft_wrap=True)
        return
    if case.publication.source:
        unshown = "shows no output of this log" if lines else "printed no figures of this run"
        console.print(f"The source {unshown}.")
    for line in lines:
        console.print(line.ours, soft_wrap=True)


def print_data(console: Console, case: Case) -> None:
    """Print the rows to train on as a data frame prints itself, its first and its last five."""
    data = case.data()
    rows = np.concatenate([data.x, data.y], 1)
    table = plain_table("", *case.display.columns)
    for column in table.columns:
        column.justify = "right"
    ends = [*range(min(5, len(rows))), *range(max(5, len(rows) - 5), len(rows))]
    for place, row in enumerate(ends):
        if place == 5 and len(rows) > 10:
            table.add_row(*("…" for _ in table.columns))
        table.add_row(str(row), *(f"{value:.6f}" for value in rows[row]))
    console.print(table)
    console.print(f"[{len(rows)} rows x {rows.shape[1]} columns]")


def print_texts(console: Console, weights: str, epochs: int, texts: Mapping[Cell, str | BaseException]) -> None:
    """Print each text once, under the names of the implementations that wrote it, and whose parameters they had."""
    written: dict[str, list[str]] = {}
    for cell, text in texts.items():
        label = f"{cell.implementation} {cell.dtype}"
        if isinstance(text, BaseException):
            console.print(f"{label}: {text}", soft_wrap=True)
        else:
            written.setdefault(text, []).append(label)
    whose = f"what {weights} trained" if weights else "its own parameters"
    for text, labels in written.items():
        console.print(f"{', '.join(labels)}, with {whose} after {epochs} epochs:", style="bold")
        console.print(text, soft_wrap=True)


def print_preflight(console: Console, notes: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print what would make the numbers meaningless, before any number: each note once, and which runs it is of."""
    about: dict[str, list[str]] = {}
    for name, said in notes:
        for note in said:
            about.setdefault(note, []).append(name)
    for note, names in about.items():
        whose = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        line = Text("before any number: ", "yellow") + Text(foreign(note)) + Text(foreign(f" ({whose})"), "dim")
        console.print(line, soft_wrap=True)


def print_diff(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print one comparison in full, or several as a table with the reasons of failures below it."""
    print_preflight(console, [(f"{found.a} and {found.b}", found.preflight) for found in comparisons])
    if len(comparisons) == 1:
        _print_one(console, comparisons[0])
        return
    table = plain_table("a", "b", "verdict", "tolerance used", "largest relative")
    for column in table.columns:
        column.no_wrap = True
    for found in comparisons:
        relative = "" if found.relative is None else f"{found.relative.relative:.1e}"
        verdict = Text(found.judgement.verdict, LOOKS[found.judgement.verdict].style)
        used = share(found.judgement.ratio)
        table.add_row(*(f"{p.parent.name}/{p.name}" for p in (found.a, found.b)), verdict, used, relative)
    console.print(table)
    for found in comparisons:
        if found.judgement.verdict is not Verdict.PASS:
            console.print(f"{found.a} and {found.b}: {found.judgement.reason}", soft_wrap=True)
    passed = sum(found.judgement.verdict is Verdict.PASS for found in comparisons)
    console.print(f"{passed} of {len(comparisons)} pairs agree")


def print_unpaired(console: Console, unpaired: Mapping[Path, Sequence[Path]]) -> None:
    """Print how many runs of each folder have no counterpart and were not compared, and name the first of them."""
    if not any(unpaired.values()):
        return
    said = []
    for root, runs in unpaired.items():
        names = [f"{run.parent.name}/{run.name}" for run in runs[:3]] + (["…"] if len(runs) > 3 else [])
        said.append(f"{len(runs)} of {root}" + (f" ({', '.join(names)})" if names else ""))
    line = f"not compared, for want of a counterpart: {', '.join(said)}"
    console.print(line, soft_wrap=True)


def _print_one(console: Console, found: Comparison) -> None:
    judgement = found.judgement
    console.print(Text(judgement.verdict, LOOKS[judgement.verdict].style), soft_wrap=True)
    lines = [judgement.reason] if judgement.reason else []
    for kind in ("absolute", "relative", "ulp"):
        worst = getattr(found, kind)
        if worst is not None:
            size = _ulp(worst.ulp) if kind == "ulp" else f"{getattr(worst, kind):.3g}"
            place = f"{worst.tensor}{list(worst.index)}"
            when = moment_of(found.unit, worst.epoch, worst.tensor)
            lines.append(f"largest {kind} difference {size}: {when}, {place}: {worst.a!s} and {worst.b!s}")
    if found.absolute is None and judgement.verdict is Verdict.PASS:
        lines.append("no loss and no parameter differs")
    if judgement.ratio is not None and found.absolute is not None:
        when = moment_of(found.unit, judgement.epoch or 0, judgement.parameter)
        where = "" if judgement.verdict is Verdict.FAIL else f", at {when} in {judgement.parameter}"
        lines.append(
            f"smallest tolerance that passes: {judgement.ratio:.3g} of the measured one{where}, "
            f"or {found.absolute.absolute:.3g} absolute everywhere"
        )
    print_lines(console, (*lines, *(f"note: {note}" for note in found.notes)))


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print texts, each on a line that no name in it can end."""
    for line in lines:
        console.print(foreign(line), soft_wrap=True)


def _ulp(count: int) -> str:
    return f"{count:,} ULP" if count < 10**9 else f"{count:.2g} ULP"


def print_explanation(console: Console, title: str, judgement: Judgement, found: Mapping[str, Any] | None) -> None:
    """Print one run on one screen: the verdict, where it parts, what that looks like, and the mistakes tried."""
    # A line break in a stranger's name could write a line of ours, such as another verdict.
    verdict = Text(f"{judgement.verdict} ", LOOKS[judgement.verdict].style)
    console.print(verdict + Text(foreign(title), "bold"), soft_wrap=True)
    agrees = "it agrees with the reference: there is nothing to explain"
    console.print(foreign(judgement.reason or agrees), soft_wrap=True)
    if found is None:
        return
    found = foreign_in(dict(found))
    console.print()
    doubt = "the verdict is INCONCLUSIVE; single updates part by most at "
    first = doubt if judgement.verdict is Verdict.INCONCLUSIVE else "first differs at "
    console.print(Text(first) + Text(found["place"], "bold"), soft_wrap=True)
    for phase, floors in found["agreed"].items():
        console.print(Text(f"  {phase} agrees, to {floors:.2g} of the noise floor", "green"))
    worst = found["difference"]
    if worst is not None:
        ulp = "" if worst["ulp"] is None else f", {_ulp(worst['ulp'])}"
        console.print(
            f"  {found['parameter']}{worst['index'] or ''}: ours {worst['ours']:.9g}, reference "
            f"{worst['reference']:.9g}: {worst['absolute']:.3g} apart, {found['floors']:.3g} noise floors{ulp}",
        )
    others = [name for name, _ in found["parts"][1:]]
    if others:
        console.print(f"  so do {first_few(others, SHOWN)}", soft_wrap=True)
    if found["pattern"]:
        console.print(f"  pattern: {found['pattern']}")
    if found["growth"]:
        console.print(f"  the distance {found['growth']}")
    if found["note"]:
        console.print(f"  {found['note']}", soft_wrap=True)
    for other in found["others"][:SHOWN]:
        console.print(f"  parts by itself, too: {other}", soft_wrap=True)
    _print_more(console, len(found["others"]), "  places part by themselves")
    console.print()
    console.print(Text(found["why"], "bold"), soft_wrap=True)
    print_layers(console, found)
    if found["untouched"] is None:
        return
    table = plain_table("mistake replayed", "phase", "leaves, in noise floors")
    table.columns[-1].justify = "right"
    for replay in found["replays"][:8]:
        style = "green" if replay["floors"] <= FACTOR else ""
        table.add_row(" and ".join(replay["names"]), replay["phase"], f"{replay['floors']:.3g}", style=style)
    table.add_row("none", "", f"{found['untouched']:.3g}", style="dim")
    console.print(table)
    more = len(found["replays"]) - 8
    counted = "updates" if found.get("unit") == UPDATE else "epochs"
    tried = f"{len(found['replays'])} replayed over the first {found['epochs']} {counted}" if more > 0 else ""
    late = "; time ran out before all were" if found["unfinished"] else ""
    console.print(f"{tried}{late}", style="dim")


def print_layers(console: Console, found: Mapping[str, Any]) -> None:
    """Print in which layers two runs part beside the first, and how layers that agree are set otherwise."""
    layers = found.get("layer")
    if layers is None:
        return
    said = [parting["sentence"] for parting in layers["partings"] if parting["sentence"] != found["why"]]
    for sentence in said[:SHOWN]:
        console.print(
            Text("parts too: " if found["why"] in layers["sentence"] else "layers: ", "dim") + Text(sentence),
            soft_wrap=True,
        )
    _print_more(console, len(said), "layers part")
    for sentence in layers["differences"][:SHOWN]:
        console.print(Text(f"set otherwise, and its output agrees: {sentence}", "dim"), soft_wrap=True)
    _print_more(console, len(layers["differences"]), "layers are set otherwise")
    for sentence in layers["behind"][:SHOWN]:
        console.print(Text(f"set otherwise, after what parts: {sentence}", "dim"), soft_wrap=True)
    _print_more(console, len(layers["behind"]), "layers are set otherwise")
    for which, names in zip(("first", "second"), layers["alone"], strict=True):
        if names:
            alone = f"of the {which} run without a partner: {first_few(names, SHOWN)}"
            console.print(Text(alone, "dim"), soft_wrap=True)


def _print_more(console: Console, count: int, what: str) -> None:
    """Print how many of a list are not shown."""
    if count > SHOWN:
        console.print(Text(f"{what}, too: {count - SHOWN} more", "dim"))
