"""What many runs with other seeds say together, in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from parity.judging.seeds import SeedsComparison
from parity.report.terminal import plain_table
from parity.report.words import LOOKS

SHOWN = 8
"""So many quantities are listed, those first that differ most."""


def print_seeds(console: Console, found: SeedsComparison) -> None:
    """Print the verdict, its grounds, and the quantities that differ most."""
    console.print(Text(found.verdict, LOOKS[found.verdict].style))
    console.print(found.reason, soft_wrap=True, markup=False, highlight=False)
    table = plain_table("quantity", "p, adjusted")
    for name in sorted(found.values, key=lambda name: found.values[name])[:SHOWN]:
        table.add_row(Text(name), f"{found.values[name]:.2g}")
    console.print(table)
    if len(found.values) > SHOWN:
        console.print(f"and {len(found.values) - SHOWN} quantities more, none of them with a smaller p")
    if found.visible is not None:
        ours, theirs = found.counts
        console.print(
            f"{ours} and {theirs} runs would have shown a learning rate that is {100 * found.visible:.2g} % off, about",
            soft_wrap=True,
        )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)
