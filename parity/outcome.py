"""What became of a cell: the run, its judgement, its published figures. What every report is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.crosscheck import preflight
from parity.published import Figure
from parity.verdict import Judgement, Verdict, overall

if TYPE_CHECKING:
    from parity.suite import Entry
    from parity.trajectory import Trajectory

CHECKED = "checked"
"""The dtype under which the reference's own check is recorded: see ``parity.worker``."""
EXPLANATION = "explanation.json"
EXPLANATION_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Outcome:
    """One implementation of one case in one dtype on one device, judged.

    ``folder`` is the case's name, with the data after an ``@`` where they are not its own. ``entry`` is the case as
    its suite has it, None where that does not know it. ``cached`` says whether the run had been made before.
    ``checked`` marks the reference itself, which is held against its own check and not against ``reference``.
    ``run`` and ``reference`` are None where they could not be had; the judgement then says why.
    """

    folder: str
    implementation: str
    dtype: str
    device: str
    judgement: Judgement
    figures: tuple[Figure, ...] = ()
    cached: bool = False
    checked: bool = False
    trace: str = ""
    explanation: Mapping[str, Any] | None = None
    entry: Entry | None = None
    run: Trajectory | None = None
    reference: Trajectory | None = None

    @property
    def name(self) -> str:
        return f"{self.folder}-{self.implementation}-{self.dtype}"

    @property
    def case(self) -> str:
        return self.folder.partition("@")[0]

    @property
    def data(self) -> str | None:
        """The data that the case was run on, None for its own."""
        return self.folder.partition("@")[2] or None

    @property
    def note(self) -> str:
        """What a reader of the results must know of the case's data."""
        return self.entry.case.note if self.entry is not None else ""

    @property
    def preflight(self) -> tuple[str, ...]:
        """What differs between the run and its reference that would make numbers meaningless.

        Not dtype and device: they are what the cell is about, while its reference is float64 on the CPU.
        """
        if self.run is None or self.reference is None:
            return ()
        found = preflight(self.run, self.reference)
        return tuple(note for note in found if not note.startswith(("dtype differs", "device differs")))

    @property
    def seconds(self) -> float:
        """What the run took when it ran, 0 where it does not say; bounded, for a stranger may have written it."""
        found = self.run.meta.get("seconds") if self.run is not None else None
        return float(min(max(found, 0), 1e9)) if isinstance(found, (int, float)) else 0.0


def folder_name(implementation: str, dtype: str, device: str, lockstep: int | None = None) -> str:
    """The name of a run's folder, within its case's."""
    return f"{implementation}-{dtype}-{device}" + (f"-lockstep{lockstep}" if lockstep else "")


def compares_params(dtype: str, rule: str) -> bool:
    """Whether a free run's parameters are asserted: ``rule`` is ``Case.float32_parameters``."""
    return dtype == "float64" or rule == "free"


def total(outcomes: Sequence[Outcome]) -> Verdict:
    """The verdict on all cells and all published figures."""
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    return overall(verdicts + [figure.verdict for outcome in outcomes for figure in outcome.figures])


def keep_explanation(folder: Path, judgement: Judgement, explanation: Mapping[str, Any]) -> None:
    """Leave an explanation beside the run that it explains; a new recording of the run takes it away."""
    text = json.dumps({"of": judgement.reason, "explanation": explanation}, indent=1) + "\n"
    path = folder / EXPLANATION
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def kept_explanation(folder: Path, judgement: Judgement) -> dict[str, Any] | None:
    """The explanation that ``parity run`` left of this very judgement, None where there is none."""
    path = folder / EXPLANATION
    try:
        if path.is_symlink() or path.stat().st_size > EXPLANATION_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("of") != judgement.reason:
        return None
    explanation = found.get("explanation")
    whole = isinstance(explanation, dict) and isinstance(explanation.get("sentence"), str)
    return explanation if whole else None


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The cells and the published figures as plain data: what ``--json`` writes."""
    return {
        "cells": [
            {
                "case": o.case,
                "data": o.data,
                "implementation": o.implementation,
                "dtype": o.dtype,
                "device": o.device,
                "verdict": o.judgement.verdict,
                "ratio": o.judgement.ratio,
                "epoch": o.judgement.epoch,
                "parameter": o.judgement.parameter,
                "reason": o.judgement.reason,
                "note": o.judgement.note,
                "seconds": o.seconds,
                "explanation": o.explanation["sentence"] if o.explanation else None,
            }
            for o in outcomes
        ],
        "published": [
            {
                "case": o.case,
                "implementation": o.implementation,
                "dtype": o.dtype,
                "quantity": figure.quantity,
                "epoch": figure.epoch,
                "published": figure.published,
                "ours": figure.ours,
                "verdict": figure.verdict,
            }
            for o in outcomes
            for figure in o.figures
        ],
    }
