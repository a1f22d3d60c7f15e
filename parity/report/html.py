"""The matrix as one page: a heat map that leads to every cell's curves and distances and every case's sources."""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.judging.outcome import Outcome, total
from parity.judging.published import log_lines, missed, sources
from parity.judging.verdict import Evidence, Verdict
from parity.report.current import fingerprint, sources_of
from parity.report.curves import drawn
from parity.report.facts import facts_of
from parity.report.foreign import foreign_in
from parity.report.page import plotly, policy, render, resource
from parity.report.words import (
    LOOKS,
    doubts,
    explained,
    labels_of,
    rows_of,
    share,
    totals,
)
from parity.rules import said_fields
from parity.suite import Entry
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

HEAT = (0.02, 0.05, 0.1, 0.2, 0.5)
"""The shares of the tolerance at which one shade of the heat map ends and the next begins."""
HEADLINES = {
    Verdict.PASS: "Yes: every cell passes",
    Verdict.FAIL: "Not all of them",
    Verdict.INCONCLUSIVE: "Not everything could be compared",
}
"""The answer to the page's title, by the verdict on everything."""


def page(outcomes: Sequence[Outcome]) -> str:
    """The page as HTML. It needs no other file, and asks for nothing from elsewhere.

    Args:
        outcomes: The cells, in the order of the matrix's rows.

    Returns:
        The text of the page. ``fingerprint(outcomes)`` stands in its head, for ``is_current``.
    """
    scripts = {"plotly": plotly(), "script": resource("report.js")}
    content = _Content(outcomes)
    verdict = total(outcomes)
    return render(
        "report.html",
        fingerprint=fingerprint(outcomes),
        policy=policy(*scripts.values()),
        look=LOOKS[verdict],
        headline=HEADLINES[verdict],
        looks={verdict.lower(): look for verdict, look in LOOKS.items()},
        totals=totals(outcomes),
        labels=foreign_in(content.labels),
        rows=foreign_in(content.rows()),
        doubts=foreign_in(content.doubts()),
        heat=_legend(),
        sources=content.sources,
        data=foreign_in(content.data(), lines=True),
        factor=FACTOR,
        **scripts,
    )


class _Content:
    """The outcomes as plain data. A series that several cells share is kept once."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        self.labels = labels_of(outcomes)
        self.cases = list(dict.fromkeys(o.folder for o in outcomes))
        self.sources: list[str] = []
        self._source_numbers: dict[Path, int] = {}
        self._series: list[dict[str, Any]] = []
        self._numbers: dict[tuple[bytes, bytes, int], int] = {}

    def rows(self) -> list[dict[str, Any]]:
        """The heat map: a row for each case, dtype and device."""
        by_row = rows_of(self.outcomes)
        devices = {device for _, _, device in by_row}
        lengths = {case: sum(row[0] == case for row in by_row) for case in self.cases}
        rows, last = [], None
        for (case, dtype, device), found in sorted(by_row.items(), key=lambda row: self.cases.index(row[0][0])):
            cells = [self._cell(found[label]) if label in found else None for label in self.labels]
            rows.append(
                {
                    "case": None if case == last else case,
                    "id": self.cases.index(case),
                    "span": lengths[case],
                    "dtype": dtype if len(devices) == 1 else f"{dtype} {device}",
                    "cells": cells,
                }
            )
            last = case
        return rows

    def _cell(self, o: Outcome) -> dict[str, Any]:
        verdict, ratio = o.judgement.verdict, o.judgement.ratio
        off = [sentence for _, sentence in missed(o.figures)]
        known = ratio is not None and verdict is not Verdict.INCONCLUSIVE
        used = f", {share(ratio)} of the tolerance used" if known else ""
        return {
            "id": self.outcomes.index(o),
            "text": LOOKS[verdict].mark + ("" if verdict is Verdict.INCONCLUSIVE else f" {share(ratio)}"),
            "class": f"heat{_heat(ratio or 0.0)}" if verdict is Verdict.PASS else verdict.lower(),
            "off": bool(off),
            "label": f"{o.folder}, {o.implementation}, {o.dtype}: {verdict}{used}" + (f"; {off[0]}" if off else ""),
        }

    def doubts(self) -> list[dict[str, Any]]:
        """What did not pass, and why: failures first."""
        found = [
            {
                "id": number,
                "verdict": doubt.verdict,
                "name": f"{o.folder} · {o.implementation} · {o.dtype}",
                "reason": doubt.reason,
                "sentence": doubt.explanation,
                "mark": LOOKS[doubt.verdict].mark,
            }
            for number, o in enumerate(self.outcomes)
            for doubt in doubts(o)
        ]
        return sorted(found, key=lambda doubt: doubt["verdict"] is not Verdict.FAIL)

    def data(self) -> dict[str, Any]:
        """What the page's script shows of each cell and case."""
        looks = {
            "marks": {verdict: look.mark for verdict, look in LOOKS.items()},
            "kinds": {verdict: look.kind for verdict, look in LOOKS.items()},
        }
        cells = [self._details(o) for o in self.outcomes]
        cases = [self._case(name) for name in self.cases]
        return {"factor": FACTOR, **looks, "cases": cases, "cells": cells, "series": self._series}

    def _case(self, name: str) -> dict[str, Any]:
        of_case = [o for o in self.outcomes if o.folder == name]
        reference = next((o.reference for o in of_case if o.reference is not None), None)
        found: dict[str, Any] = {
            "name": name,
            "loss": None if reference is None else self._curve(reference.loss),
            "metrics": {} if reference is None else self._metrics(reference),
            "facts": [],
            "doc": [],
            "sources": [],
        }
        entry = of_case[0].entry
        if entry is None:
            return found
        case = entry.case
        every = "every epoch" if case.every == 1 else f"every {case.every} epochs"
        facts = {
            "source": case.publication.source,
            "data": case.display.note,
            "loss": f"{case.loss.kind}, the {case.loss.reduction} over a batch",
            "optimizer": _words(case.optimizer),
            "batches": _words(case.schedule),
            "epochs": f"{case.epochs}, with a snapshot {every}",
            "float32": case.policy.reason,
            **{f"no {label}": reason for label, reason in case.absent.items()},
        }
        found["facts"] = [[name, text] for name, text in facts.items() if text]
        found["doc"] = _paragraphs(entry)
        found["sources"] = [[label, path.name, self._source(path)] for label, path in sources_of(entry).items()]
        return found

    def _source(self, path: Path) -> int:
        if path not in self._source_numbers:
            self._source_numbers[path] = len(self.sources)
            self.sources.append(_highlighted(path))
        return self._source_numbers[path]

    def _details(self, o: Outcome) -> dict[str, Any]:
        found = o.judgement
        lines = log_lines(o.entry.case, o.figures) if o.entry is not None else []
        case = o.entry.case if lines and o.entry else None
        published = [case.publication.source, *sources(case, o.dtype)] if case else []
        return {
            "case": self.cases.index(o.folder),
            "implementation": o.implementation,
            "dtype": o.dtype,
            "device": o.device,
            "verdict": found.verdict,
            "share": share(found.ratio),
            "epoch": found.epoch,
            "parameter": found.parameter,
            "reason": found.reason,
            "note": found.note,
            "explanation": explained(o),
            "against": _against(o),
            "floor": "" if found.source is None else found.source.words,
            "loss": None if o.run is None else self._curve(o.run.loss),
            "metrics": {} if o.run is None else self._metrics(o.run),
            "evidence": [self._evidence(evidence) for evidence in found.evidence],
            "lines": [[line.ours, line.published, line.mark, line.verdict] for line in lines],
            "published": published,
            "missed": [sentence for _, sentence in missed(o.figures)],
            "settings": _settings(o),
        }

    def _evidence(self, evidence: Evidence) -> dict[str, Any]:
        return {
            "lockstep": evidence.lockstep,
            "batches": evidence.batches,
            "quantities": [self._quantity(evidence, name) for name in evidence.distances],
        }

    def _quantity(self, evidence: Evidence, name: str) -> dict[str, Any]:
        distances, floor, shares = evidence.distances[name], evidence.floors[name], evidence.share(name)
        known = np.full(len(distances), -np.inf)
        known[: len(shares)] = shares
        places = drawn(distances, known)
        on_floor = drawn(floor, -floor)
        at = np.arange(len(distances)) if name == "loss" else evidence.epochs
        where = int(np.argmax(shares)) if len(shares) else None
        return {
            "name": name,
            "asserted": name in evidence.asserted,
            "share": None if where is None else share(float(shares[where])),
            "epoch": None if where is None else evidence.epoch(name, where),
            "distance": None if where is None else f"{distances[where]:.3g}",
            "allowed": None if where is None else f"{FACTOR * floor[where]:.3g}",
            "equal": int(np.count_nonzero(distances == 0)),
            "count": len(distances),
            "line": self._keep(at[places], distances[places], 3),
            "floor": self._keep(at[on_floor], floor[on_floor], 3),
        }

    def _curve(self, loss: Array) -> dict[str, Any]:
        """A run's loss: epochs by batches, (E, B)."""
        values = np.asarray(loss, np.float64).ravel()
        places = drawn(values, -values) if len(values) else np.arange(0)
        return {
            "batches": max(1, loss.shape[1]),
            "count": len(values),
            "line": self._keep(places, values[places], 6),
        }

    def _metrics(self, run: Trajectory) -> dict[str, Any]:
        """A run's metrics, each (S,), over the epochs of its snapshots."""
        found = {}
        for name, recorded in run.metrics.items():
            values = np.asarray(recorded, np.float64)
            places = drawn(values, -values) if len(values) else np.arange(0)
            found[name] = {
                "count": len(values),
                "line": self._keep(np.asarray(run.epochs)[places], values[places], 6),
            }
        return found

    def _keep(self, x: Array, y: Array, digits: int) -> int:
        key = x.tobytes(), y.tobytes(), digits
        if key not in self._numbers:
            self._numbers[key] = len(self._series)
            self._series.append({"x": x.tolist(), "y": [_number(value, digits) for value in y.tolist()]})
        return self._numbers[key]


def _number(value: float, digits: int = 3) -> float | str:
    """A number rounded for drawing; one that is not finite as text, because JSON has no number for it."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)


def _heat(ratio: float) -> int:
    return sum(ratio > end for end in HEAT)


def _legend() -> list[tuple[int, str]]:
    ends = [share(end) for end in HEAT]
    return [(0, f"up to {ends[0]}"), *((number, f"to {end}") for number, end in enumerate((*ends[1:], "1"), 1))]


def _against(o: Outcome) -> str:
    """What a cell's distances are measured from, in words."""
    if o.checked:
        return "its own check, the same run in a wider or a stirred arithmetic"
    if o.reference is None:
        return ""
    meta = o.reference.meta
    return f"the reference, {meta.get('implementation', 'the run beside it')} in {meta['dtype']}"


def _words(value: Any) -> str:
    """A part of a case in words: ``Sgd(learning_rate=0.1)`` reads ``Sgd: learning_rate 0.1``."""
    name = type(value).__name__
    if not is_dataclass(value):
        return name
    parts = [f"{name} {one!s}" for name, one in said_fields(value).items()]
    return f"{name}: {', '.join(parts)}" if parts else name


def _paragraphs(entry: Entry) -> list[list[str]]:
    """The docstring of a model's spec: ``["p", text]`` for a paragraph, ``["pre", text]`` for an indented block."""
    doc = ast.get_docstring(ast.parse(entry.spec.read_text(encoding="utf-8"))) or ""
    found = []
    for block in doc.split("\n\n"):
        if block.startswith((" ", "\t")):
            found.append(["pre", textwrap.dedent(block)])
        elif block.strip():
            found.append(["p", " ".join(block.split())])
    return found


def _settings(o: Outcome) -> list[list[str]]:
    """What a run says of itself, and how long it was trained."""
    if o.run is None:
        return []
    facts = facts_of(o.run)
    if o.seconds:
        facts["trained in"] = f"{o.seconds:.3g} s"
    return [[name, value] for name, value in facts.items()]


def _highlighted(path: Path) -> str:
    """A source as HTML: its text escaped, the kinds of tokens as classes."""
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers.python import PythonLexer

    return str(highlight(path.read_text(encoding="utf-8"), PythonLexer(), HtmlFormatter(nowrap=True)))
