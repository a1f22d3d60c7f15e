"""Figures of recorded runs. matplotlib is imported only here and in cases that draw their own figure."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parity.recording.files import write_whole
from parity.spec import Case

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from parity.trajectory import Trajectory

SUFFIXES = (".png", ".svg", ".html")


class PlotError(ValueError):
    """A figure that cannot be drawn or written; the message says what to do."""


def check(path: Path) -> None:
    """Refuse a figure that could not be drawn or written, before anything is trained for it.

    Args:
        path: Where the figure is to go; its ending names the format.

    Raises:
        PlotError: The ending is not one of ``SUFFIXES``, the folder is missing, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(f"--plot {path}: a figure is written as {', '.join(SUFFIXES)}, by the name's ending")
    if not path.absolute().parent.is_dir():
        raise PlotError(f"--plot {path}: there is no folder {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotError("--plot needs matplotlib: python -m pip install 'cross-framework-parity[plot]'")


def draw(case: Case, runs: Mapping[str, Trajectory]) -> Figure:
    """The case's own figure of recorded runs by label, or their losses where the case has none."""
    return losses(case, runs) if case.display.plot is None else case.display.plot(runs)


def losses(case: Case, runs: Mapping[str, Trajectory]) -> Figure:
    """Every batch's loss before its update over the epochs done by then, with a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure((10, 5), layout="constrained")
    axes = figure.subplots()
    # Equal lines would cover each other: each run is drawn thinner than the one before.
    for width, (label, run) in zip(range(2 * len(runs), 0, -2), runs.items(), strict=True):
        values = np.asarray(run.loss, np.float64)
        done = np.arange(values.size) / max(1, values.shape[1])
        few = values.size < 50
        axes.plot(
            done,
            values.ravel(),
            marker="." if few else "",
            linewidth=width if few else width / 2,
            alpha=0.6 if len(runs) > 1 else 1,
            label=label,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"loss of each batch ({case.loss.reduction})")
    axes.set_title(case.name + (f": {case.display.note}" if case.display.note else ""))
    axes.grid(True)
    axes.legend()
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names; HTML is a page that holds the SVG.

    Raises:
        PlotError: The file cannot be written.
    """
    kind = path.suffix.lower()
    drawn = BytesIO()
    figure.savefig(drawn, format="svg" if kind == ".html" else kind[1:], dpi=100)
    content = drawn.getvalue()
    if kind == ".html":
        page = b'<!doctype html><html lang="en"><meta charset="utf-8"><title>parity</title><body>'
        content = page + content[content.index(b"<svg") :] + b"</body></html>\n"
    try:
        write_whole(path, content)
    except OSError as error:
        raise PlotError(f"cannot write {path}: {error.strerror or error}") from error
