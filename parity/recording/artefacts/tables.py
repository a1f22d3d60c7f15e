"""Losses in text: CSV, JSON lines, and the state that Hugging Face's Trainer keeps."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from parity.recording.artefacts.artefact import Artefact
from parity.recording.artefacts.losses import LOG_BYTES, Row, losses_of, parsed_log
from parity.recording.files import read_whole
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

DIVIDERS = ",;\t"


def read_csv(path: Path, budget: Budget) -> Artefact:
    """Read a table. Its first line names the columns; without names one column is the loss, two are step and loss."""
    lines = _text(path, budget).splitlines()
    first = lines[0] if lines else ""
    divider = max(DIVIDERS, key=first.count)

    def rows() -> Iterator[Row]:
        reader = csv.reader(lines, delimiter=divider)
        try:
            head = next(reader, [])
            if head and all(_is_number(cell) for cell in head):
                if len(head) > 2:
                    raise TrajectoryError(f"{path}: has no names of its columns: write them into its first line")
                lines_left, head = itertools.chain([head], reader), ["step", "loss"][-len(head) :]
            else:
                lines_left = itertools.chain(reader)
            names = [name.strip() for name in head]
            for number, cells in enumerate(lines_left, 2):
                if cells and len(cells) != len(names):
                    raise TrajectoryError(f"{path}: line {number} has {len(cells)} columns, not {len(names)}: mend it")
                yield dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise TrajectoryError(f"{path}: is no table of text ({str(error)!r:.100}): write it again") from error

    return losses_of(path, "table of losses", rows(), budget)


def read_jsonl(path: Path, budget: Budget) -> Artefact:
    """Read one JSON object a line."""

    def rows() -> Iterator[Row]:
        for number, line in enumerate(_text(path, budget).splitlines(), 1):
            if line.strip():
                row = parsed_log(path, line)
                if not isinstance(row, dict):
                    raise TrajectoryError(f"{path}: line {number} holds no JSON object: write one a line")
                yield row

    return losses_of(path, "JSON lines", rows(), budget)


def read_trainer_state(path: Path, budget: Budget, root: Path | None = None) -> Artefact:
    """Read ``log_history`` of ``trainer_state.json``."""
    data = read_whole(path, LOG_BYTES, root)
    budget.spend(path, kept=len(data))
    state = parsed_log(path, data)
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise TrajectoryError(f"{path}: has no log_history: choose the trainer_state.json of a checkpoint")
    return losses_of(path, "state of a Hugging Face trainer", history, budget)


def _text(path: Path, budget: Budget) -> str:
    data = read_whole(path, LOG_BYTES)
    budget.spend(path, kept=4 * len(data))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrajectoryError(f"{path}: is no UTF-8 text: write it again") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
