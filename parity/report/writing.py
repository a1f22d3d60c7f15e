"""What ``parity sample --every`` prints while a model is trained."""

from __future__ import annotations

from rich.console import Console

from parity.running.cells import Cell
from parity.running.writing import Mark


def print_mark(console: Console, cell: Cell, mark: Mark) -> None:
    """Print what a run wrote on its way, as a training loop does: the time elapsed, the loss, the text."""
    lines = (
        f"{cell.implementation} {cell.dtype}",
        f"Time elapsed: {mark.seconds / 60:.2f} min",
        f"Epoch {mark.done} | Loss {mark.loss:.2f}",
        mark.text,
        50 * "=",
    )
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
