"""What ``parity match`` prints: which tensors are the same, how that was found, and a layout to paste."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from parity.judging.tensors.correspondence import Correspondence, pasted
from parity.layout import Slot
from parity.report.terminal import plain_table, print_lines
from parity.report.words import proven


def print_match(console: Console, a: Path, b: Path, found: Correspondence) -> None:
    """Print a correspondence: a table, the sentence, what is ambiguous, and both runs' layouts.

    Args:
        console: Where it goes.
        a: The first run's folder.
        b: The second run's.
        found: The correspondence.
    """
    table = plain_table(str(a), str(b), "how", "proven")
    for pairing in found.pairings:
        ours, theirs = (" + ".join(names) for names in pairing.names)
        table.add_row(ours, theirs, pairing.how, proven(pairing))
    console.print(table)
    print_lines(console, found.lines)
    for name, folder, layout in (("ours", a, found.ours), ("theirs", b, found.theirs)):
        console.print()
        _print_layout(console, name, folder, layout)


def _print_layout(console: Console, name: str, folder: Path, layout: Sequence[Slot]) -> None:
    console.print(f"# {folder}", soft_wrap=True)
    for line in (f"{name} = [", *(f"    {pasted(slot)}," for slot in layout), "]"):
        console.print(line, soft_wrap=True)
