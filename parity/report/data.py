"""What ``list``, ``show``, ``sample`` and ``floor`` write as JSON: plain data that ``schemas/`` describes.

Of the other commands ``parity.judging.outcome.as_json`` writes the matrix, and comparisons, explanations and evidence
have an ``as_json`` of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.judging.outcome import Outcome
from parity.judging.published import log_lines
from parity.running.cells import Cell
from parity.running.versions import Availability
from parity.running.writing import Mark
from parity.spec import Case


def listed(rows: Sequence[tuple[str, Availability, str]]) -> dict[str, Any]:
    """The cells of a suite: for each the case, what can run here, and why the suite lacks it; "" if it does not."""
    return {
        "cells": [
            {
                "case": case,
                "implementation": availability.implementation,
                "framework": availability.framework,
                "available": availability.available and not absent,
                "reason": absent or availability.reason,
            }
            for case, availability, absent in rows
        ]
    }


def shown(folder: str, case: Case, outcomes: Sequence[Outcome], texts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The log of a case's source from each run, and what ``written`` gives of a case that writes text."""
    return {
        "case": folder,
        "source": case.publication.source,
        "note": case.display.note,
        "runs": [
            {
                "implementation": o.implementation,
                "dtype": o.dtype,
                "verdict": o.judgement.verdict,
                "reason": o.judgement.reason,
                "lines": [
                    {"ours": line.ours, "published": line.published, "mark": line.mark, "verdict": line.verdict}
                    for line in log_lines(case, o.figures)
                ],
            }
            for o in outcomes
        ],
        "texts": texts,
    }


def written(
    folder: str,
    epochs: int,
    wish: Mapping[str, Any],
    weights: str,
    texts: Mapping[Cell, str | BaseException],
    marks: Sequence[tuple[Cell, Mark]] = (),
) -> dict[str, Any]:
    """The text of each implementation, or why it could not write.

    Args:
        folder: The case's name, with its data after an ``@`` where they are not its own.
        epochs: How long the parameters were trained.
        wish: ``prime``, ``length``, ``temperature`` and ``seed``, as ``parity.running.sampling.sample`` takes them.
        weights: The implementation whose parameters all of them took; "" if each took its own.
        texts: What ``Matrix.sample`` returned.
        marks: What was written on the way, in order. The time that it took is no part of the result.
    """
    return {
        "case": folder,
        "weights": weights or None,
        "epochs": epochs,
        **wish,
        "texts": [
            {
                "implementation": cell.implementation,
                "dtype": cell.dtype,
                "text": None if isinstance(text, BaseException) else text,
                "reason": str(text) if isinstance(text, BaseException) else "",
                "on_the_way": [
                    {"epoch": mark.done, "loss": None if math.isnan(mark.loss) else mark.loss, "text": mark.text}
                    for of, mark in marks
                    if of == cell
                ],
            }
            for cell, text in texts.items()
        ],
    }


def measured(floors: Mapping[Path, BaseException | None]) -> dict[str, Any]:
    """The noise floors that ``Matrix.measure_floors`` measured or could not measure."""
    return {
        "floors": [
            {"file": str(path), "measured": error is None, "reason": "" if error is None else str(error)}
            for path, error in floors.items()
        ]
    }
