"""What ``parity prove --field`` found, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from parity.dtypes import DTYPES
from parity.judging.verdict import Verdict
from parity.proving.field.judged import UNEXPLAINED, Found
from parity.proving.field.judged import WRONG as NAMED_WRONG
from parity.proving.field.pairs import PAIRS
from parity.proving.field.prove import FieldEvidence
from parity.report.terminal import plain_table
from parity.report.words import LOOKS

BAD, ODD = LOOKS[Verdict.FAIL].style, LOOKS[Verdict.INCONCLUSIVE].style


def print_field(console: Console, evidence: FieldEvidence) -> None:
    """Print a line for each pair and dtype, what is odd about it, and the totals.

    Args:
        console: Where it goes.
        evidence: What was found.
    """
    sides = {pair.name: f"{pair.sides[0]}, {pair.sides[1]}" for pair in PAIRS}
    table = plain_table("pair", "in", "dtype", "right", "wrong", "located at", "named")
    for one in evidence.found:
        located = Text(one.place or "nowhere", "" if one.located else ODD)
        named = Text(f"{one.named}{f': {one.name}' if one.name else ''}", _style(one))
        verdicts = (Text(str(each), LOOKS[each].style) for each in (one.right, one.wrong))
        table.add_row(Text(one.pair), Text(sides[one.pair]), Text(one.dtype), *verdicts, located, named)
    console.print(table)
    console.print()
    for one in evidence.found:
        if one.right is Verdict.FAIL:
            console.print(Text("FALSE ALARM ", BAD) + Text(f"{one.pair} {one.dtype}: {one.reason}"), soft_wrap=True)
        if one.named == NAMED_WRONG:
            console.print(Text("WRONG NAME ", BAD) + Text(f"{one.pair} {one.dtype}: {one.words}"), soft_wrap=True)
    for failure in evidence.failures:
        console.print(Text("could not be run: ", BAD) + Text(failure), soft_wrap=True)
    for name, why in evidence.left_out.items():
        console.print(Text(f"left out: {name}: {why}"), soft_wrap=True)
    for line in field_totals(evidence):
        console.print(line, soft_wrap=True)
    console.print(f"{evidence.seconds:.0f} s", style="dim")


def _style(one: Found) -> str:
    return {NAMED_WRONG: BAD, UNEXPLAINED: ODD}.get(one.named, "")


def field_totals(evidence: FieldEvidence) -> Iterator[str]:
    """Say the result in a few lines.

    Args:
        evidence: What was found.

    Yields:
        A line for each dtype.
    """
    for dtype in DTYPES:
        n = evidence.counts(dtype)
        if n["pairs"]:
            yield (
                f"{dtype}: {n['pairs']} pairs; right: {n['right_pass']} PASS, {n['right_inconclusive']} INCONCLUSIVE, "
                f"{n['right_fail']} FAIL; wrong: {n['caught']} FAIL, {n['located']} located; named: "
                f"{n['named_right']} rightly, {n['narrowed']} as one of several, {n['named_wrong']} wrongly, "
                f"{n['unexplained']} unexplained"
            )
