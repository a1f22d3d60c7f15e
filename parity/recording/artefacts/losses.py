"""Losses out of rows: which column is the step, and which are losses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.artefacts.artefact import Artefact, Series, check_name
from parity.recording.format import VALUES
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

LOG_BYTES = 64 << 20
"""The size of the largest log of text that is read."""
STEPS = ("step", "global_step", "steps", "iteration", "iter", "iterations", "update", "batch", "epoch")
"""What the column of steps may be called; the first of them that holds whole numbers is it."""
NUMBER = 200
"""The bytes of a logged number in memory, with its step."""
Row = Mapping[str, Any]


def losses_of(path: Path, kind: str, rows: Iterable[Row], budget: Budget, first: int = 0) -> Artefact:
    """The losses of a log: the columns whose name has ``loss`` in it, or else the only column beside the steps.

    A step that was logged twice has the value that was logged last, as of a run that was resumed. Rows without a step
    are counted from ``first``. TrajectoryError if no column is a loss for certain.
    """
    kept: list[dict[str, float]] = []
    for row in rows:
        numbers = {name: value for name, cell in row.items() if (value := _number(cell)) is not None}
        budget.spend(path, kept=NUMBER * (1 + len(numbers)))
        if numbers:
            kept.append(numbers)
    columns = list(dict.fromkeys(name for row in kept for name in row))
    step = next((name for said in STEPS for name in columns if name.lower() == said and _whole(kept, name)), None)
    losses = [name for name in columns if "loss" in name.lower()]
    if not losses:
        others = [name for name in columns if name.lower() not in STEPS]
        if len(others) != 1:
            said = ", ".join(f"{name!r:.40}" for name in columns[:8]) or "no number at all"
            raise TrajectoryError(f"{path}: no column is a loss for certain ({said}): call one of them 'loss'")
        losses = others
    found = {}
    for name in losses:
        check_name(path, name)
        series = {
            (number if step is None else int(row.get(step, number))): row[name]
            for number, row in enumerate(kept, first)
            if name in row
        }
        found[name] = series_of(series)
    return Artefact(path, kind, losses=found)


def series_of(values: Mapping[int, float]) -> Series:
    """Values by step, in the order of the steps."""
    steps = sorted(values)
    return Series(np.array(steps, np.int64), np.array([values[step] for step in steps], np.float64))


def parsed_log(path: Path, text: bytes | str) -> Any:
    """Parse a log's JSON, in which a loss may be NaN. TrajectoryError if it is none, or holds too many values."""
    data = text.encode() if isinstance(text, str) else text
    try:
        if sum(map(data.count, (b",", b"[", b"{"))) > 4 * VALUES:
            raise ValueError(f"more than {4 * VALUES:,} values")
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        what = "too deeply nested" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is no valid JSON ({what!r:.120}): write it again") from error


def _number(cell: Any) -> float | None:
    """A number, or the text of one; None else."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str) or (isinstance(cell, str) and len(cell) > 100):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _whole(rows: list[dict[str, float]], name: str) -> bool:
    values = [row[name] for row in rows if name in row]
    return all(math.isfinite(value) and value == int(value) and abs(value) < 2**53 for value in values)
