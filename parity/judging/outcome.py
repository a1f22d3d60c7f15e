"""The outcome of a cell: its run, its judgement and its published figures. Every report is made from outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.judging.preflight import preflight
from parity.judging.published import Figure
from parity.judging.verdict import Judgement, Verdict, overall
from parity.suite import named

if TYPE_CHECKING:
    from parity.suite import Entry
    from parity.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Outcome:
    """One implementation of one case in one dtype on one device, judged.

    ``folder`` is the case's name, followed by ``@`` and the name of the data if they are not the case's own. ``entry``
    is the case as its suite has it; None if the suite does not know it. ``cached`` says whether the run was made before
    this call. ``checked`` marks the reference itself, which is held against its own check and not against
    ``reference``. ``run`` and ``reference`` are None if they cannot be read; the judgement then says why.
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
        return named(self.folder).case

    @property
    def data(self) -> str | None:
        """The data that the case was run on, None for its own."""
        return named(self.folder).data

    @property
    def seed(self) -> int | None:
        """The seed that the case was run with, None for its own."""
        return named(self.folder).seed

    @property
    def note(self) -> str:
        """The case's note on its data, for readers of the results."""
        return self.entry.case.display.note if self.entry is not None else ""

    @property
    def preflight(self) -> tuple[str, ...]:
        """The differences in settings from the reference that would make the numbers meaningless.

        Dtype and device are left out: every cell has its own, and the reference is always float64 on the CPU.
        """
        if self.run is None or self.reference is None:
            return ()
        found = preflight(self.run, self.reference)
        return tuple(note for note in found if not note.startswith(("dtype differs", "device differs")))

    @property
    def seconds(self) -> float:
        """The seconds that the run took, 0 if it does not say. Bounded, because a recording may claim any number."""
        found = self.run.meta.get("seconds") if self.run is not None else None
        return float(min(max(found, 0), 1e9)) if isinstance(found, (int, float)) else 0.0


def total(outcomes: Sequence[Outcome]) -> Verdict:
    """The verdict on all cells and all published figures."""
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    return overall(verdicts + [figure.verdict for outcome in outcomes for figure in outcome.figures])


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The cells and the published figures as plain data, as ``--json`` writes them."""
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
                "floor": o.judgement.source,
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
                "printed_by": figure.by,
            }
            for o in outcomes
            for figure in o.figures
        ],
    }
