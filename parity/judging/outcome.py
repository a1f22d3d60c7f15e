"""What became of a cell: the run, its judgement, its published figures. What every report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.judging.preflight import preflight
from parity.judging.published import Figure
from parity.judging.verdict import Judgement, Verdict, overall

if TYPE_CHECKING:
    from parity.suite import Entry
    from parity.trajectory import Trajectory


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
        return self.entry.case.display.note if self.entry is not None else ""

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


def total(outcomes: Sequence[Outcome]) -> Verdict:
    """The verdict on all cells and all published figures."""
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    return overall(verdicts + [figure.verdict for outcome in outcomes for figure in outcome.figures])


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
