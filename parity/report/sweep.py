"""What a sweep over seeds has found, in the terminal and as one page that needs nothing else."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parity.judging.outcome import Outcome
from parity.judging.rates import CONFIDENCE
from parity.judging.verdict import Verdict
from parity.report.foreign import foreign
from parity.report.markup import Html, element, joined, table
from parity.report.page import policy, render, resource
from parity.report.pair import STYLE
from parity.report.strips import Strip, strips
from parity.report.terminal import plain_table, print_lines
from parity.report.words import LOOKS, share
from parity.running.cells import Cell
from parity.running.sweep import Count, Row, Seeded, Sweep

IN_A_LINE = 64
"""Up to so many seeds each have a mark in the terminal's table."""
NAMED = 12
"""So many seeds that did not pass are named in a line, and so many reasons given."""


def of_draws(console: Console, cells: Sequence[Cell]) -> Callable[[Outcome], None]:
    """Say of each case and seed how many of its cells pass, as soon as the last is judged."""
    left = Counter(cell.entry.folder for cell in cells)
    passed: Counter[str] = Counter()
    totals = dict(left)

    def outcome(one: Outcome) -> None:
        left[one.folder] -= 1
        passed[one.folder] += one.judgement.verdict is Verdict.PASS
        if not left[one.folder]:
            of = totals[one.folder]
            console.print(f"{one.folder}: {passed[one.folder]} of {of} cells pass", highlight=False)

    return outcome


def print_sweep(console: Console, sweep: Sweep, seconds: float) -> None:
    """Print a row for each cell with a mark for each seed, what did not pass and why, and how often that may be."""
    table = _table(sweep, marks=len(sweep.seeds) <= IN_A_LINE)
    # Without a wider limit a table claims to fit.
    if Measurement.get(console, console.options.update(max_width=1 << 16), table).maximum > console.width:
        table = _table(sweep, marks=False)
    console.print(table)
    for row in sweep.rows:
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            _print_of(console, row, verdict)
    console.print()
    print_lines(console, totals(sweep))
    console.print(f"{seconds:.0f} s", style="dim")


def _table(sweep: Sweep, marks: bool) -> Table:
    """The rows: how many seeds have each verdict, the shares of the tolerance that they used, and a mark for each."""
    counted = [LOOKS[verdict].mark for verdict in Verdict]
    heads = ("case", "implementation", "dtype", *counted, "median", "most", "seed")
    table = plain_table(*heads, *(["seeds"] if marks else []))
    for column in table.columns:
        column.no_wrap = True
    last = ""
    for row in sweep.rows:
        counts = [str(len(row.of(verdict)) or "") for verdict in Verdict]
        first, last = ("" if row.folder == last else row.folder), row.folder
        strip = [_strip(row)] if marks else []
        table.add_row(first, row.implementation, row.dtype, *counts, *_used(row), *strip)
    return table


def _used(row: Row) -> tuple[str, str, str]:
    """The median and the largest share of the tolerance that a row's seeds used, and the seed of the largest."""
    if not row.shares:
        return "", "", ""
    ratio, seed = row.shares[-1]
    return share(statistics.median(ratio for ratio, _ in row.shares)), share(ratio), str(seed)


def _strip(row: Row) -> Text:
    return Text("").join(Text(LOOKS[cell.verdict].mark, LOOKS[cell.verdict].style) for cell in row.cells)


def _print_of(console: Console, row: Row, verdict: Verdict) -> None:
    found = row.of(verdict)
    if not found:
        return
    named = Text(foreign(f"{row.name}: {seeds_of(found, row)}"))
    console.print(Text(f"{verdict} ", LOOKS[verdict].style) + named, soft_wrap=True)
    if verdict is Verdict.FAIL:
        console.print(f"     {chance(row.count, 'seeds')}", soft_wrap=True)
    reasons = _reasons(found)
    for said, cells in reasons[:NAMED]:
        more = f" and {len(cells) - 1} more" if cells[1:] else ""
        console.print(foreign(f"     seed {cells[0].seed}{more}: {said}"), soft_wrap=True)
    if len(reasons) > NAMED:
        console.print(f"     … and {len(reasons) - NAMED} reasons more")


def _reasons(found: Sequence[Seeded]) -> list[tuple[str, list[Seeded]]]:
    """The reasons why cells did not pass, each once, with what explains it and the cells that have it."""
    said: dict[str, list[Seeded]] = {}
    for cell in found:
        said.setdefault("; ".join(filter(None, (cell.reason, cell.explanation))), []).append(cell)
    return list(said.items())


def seeds_of(found: Sequence[Seeded], row: Row) -> str:
    """Name the seeds of some of a row's cells.

    >>> cells = tuple(Seeded(seed, Verdict.FAIL, 2.0, 1, "loss") for seed in (2, 7))
    >>> seeds_of(cells, Row("line", None, "torch", "float64", "cpu", cells))
    '2 of 2 seeds: 2, 7'
    """
    names = [str(cell.seed) for cell in found]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(found)} of {len(row.cells)} seeds: {', '.join(names[:NAMED])}{more}"


def chance(count: Count, what: str) -> str:
    """Say how often something fails, as far as a count of failures knows.

    >>> chance(Count(0, 64), "draws")
    'at most 4.6 % of all draws fail, at a confidence of 95 %: 0 of 64 did'
    >>> chance(Count(3, 20), "seeds")
    '3.2 % to 38 % of all seeds fail, at a confidence of 95 %: 3 of 20 did'
    """
    low, high = (f"{100 * bound:.2g} %" for bound in count.between)
    between = f"at most {high}" if not count.failed else f"{low} to {high}"
    sure = f"at a confidence of {100 * CONFIDENCE:g} %"
    return f"{between} of all {what} fail, {sure}: {count.failed} of {count.trials} did"


def totals(sweep: Sweep) -> list[str]:
    """The result in a few lines: how many cells, how much of the tolerance they used, and the bound."""
    cells = [cell for row in sweep.rows for cell in row.cells]
    counts = [f"{n} {verdict}" for verdict in Verdict if (n := sum(cell.verdict is verdict for cell in cells))]
    lines = [f"{len(cells)} cells with {len(sweep.seeds)} seeds, from {sweep.seeds[0]} on: {', '.join(counts)}"]
    lines += [f"{dtype}: {said}" for dtype, said in _shares(sweep)]
    draws = sweep.draws
    if draws.trials:
        lines.append(f"{chance(draws, 'draws')}; a draw is a case with a seed, and fails where any of its cells does")
    if not draws.failed and draws.trials:
        lines.append("if these implementations are right, that bounds how often one is called wrong: the false alarms")
    elif draws.failed:
        lines.append(
            "a failure is a fault of the implementation or a false alarm: its reason above says where it parts"
        )
    return lines


def _shares(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Of each dtype, how the shares of the tolerance are distributed."""
    for dtype in dict.fromkeys(row.dtype for row in sweep.rows):
        known = sorted(
            (ratio, seed, row.name) for row in sweep.rows if row.dtype == dtype for ratio, seed in row.shares
        )
        if known:
            middle, tenth = (share(known[int(part * (len(known) - 1))][0]) for part in (0.5, 0.9))
            ratio, seed, name = known[-1]
            yield (
                dtype,
                f"half of the cells used up to {middle} of the tolerance, nine of ten up to {tenth}, {name} with seed "
                f"{seed} most, {share(ratio)}",
            )


def page(sweep: Sweep) -> str:
    """The sweep as one HTML page that needs nothing else: verdicts by seed, and the shares of the tolerance drawn."""
    look = LOOKS[sweep.verdict]
    return render(
        "sweep.html",
        policy=policy(),
        style=resource(STYLE),
        verdict=element("p", f"{look.mark} {sweep.verdict}", class_=f"verdict {look.kind}"),
        totals=element("ul", *(element("li", line) for line in totals(sweep))),
        matrix=_matrix(sweep),
        failures=joined(
            *(_told(row, verdict) for row in sweep.rows for verdict in Verdict if verdict is not Verdict.PASS)
        ),
        figures=element("div", *_figures(sweep), class_="figures"),
    )


def _matrix(sweep: Sweep) -> Html:
    """A row for each implementation, case and dtype, in it a mark for each seed that says more where one points."""
    rows = []
    for row in sweep.rows:
        middle, most, seed = _used(row)
        high = row.count.between[1]
        marks = [
            element("span", LOOKS[cell.verdict].mark, class_=LOOKS[cell.verdict].kind, title=_pointed_at(cell))
            for cell in row.cells
        ]
        cells = [
            element("td", element("code", row.folder)),
            element("td", row.implementation),
            element("td", row.dtype),
        ]
        cells += [element("td", f"{row.count.failed} of {row.count.trials}", class_="number")]
        cells += [element("td", f"{100 * high:.2g} %" if row.count.trials else "", class_="number")]
        cells += [element("td", middle, class_="number")]
        cells += [element("td", f"{most} (seed {seed})" if seed else "", class_="number")]
        cells += [element("td", *marks, class_="seeds")]
        rows.append(element("tr", *cells, class_="bad" if row.count.failed else None))
    heads = ("case", "implementation", "dtype", "failed", f"at most, {100 * CONFIDENCE:g} %", "used: median", "most")
    return table((*heads, f"seeds {sweep.seeds[0]} to {sweep.seeds[-1]}"), rows)


def _pointed_at(cell: Seeded) -> str:
    used = f", {share(cell.ratio)} of the tolerance" if cell.ratio is not None else ""
    return f"seed {cell.seed}: {cell.verdict}{used}{f'; {cell.reason}' if cell.reason else ''}"


def _told(row: Row, verdict: Verdict) -> Html:
    found = row.of(verdict)
    if not found:
        return Html("")
    said = [f"seed {', '.join(str(cell.seed) for cell in cells)}: {reason}" for reason, cells in _reasons(found)]
    what = element("strong", f"{verdict} {row.name}", class_=LOOKS[verdict].kind)
    count = f"; {chance(row.count, 'seeds')}" if verdict is Verdict.FAIL else ""
    more = [f"… and {len(said) - NAMED} reasons more"] if len(said) > NAMED else []
    listed = element("ul", *(element("li", line) for line in [*said[:NAMED], *more]), class_="notes")
    return joined(element("p", what, f": {seeds_of(found, row)}{count}"), listed)


def _figures(sweep: Sweep) -> Iterator[Html]:
    """For each case and dtype, the share of the tolerance that each seed used, a line for each implementation."""
    for (folder, dtype), rows in groupby(sorted(sweep.rows, key=_of_case), _of_case):
        lines = [Strip(row.implementation, [ratio for ratio, _ in row.shares]) for row in rows]
        yield strips(f"{folder}, {dtype}", lines, limit=1.0)


def _of_case(row: Row) -> tuple[str, str]:
    return row.folder, row.dtype
