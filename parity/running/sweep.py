"""Every cell with many seeds: does a verdict hold for other weights and batch orders than the documents'?

Each seed is a case of its own (``parity.spec.Case.seeded``) with its own folder of results, reference, noise floor and
keys, so that what was trained before is not trained again. The noise floor is measured for every seed, in full: how far
rounding carries a run follows from its initial weights and batch order, and with the floor of another seed a run would
be held to a tolerance that nobody measured. A floor's mark names both, so that none is taken for another's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from parity.judging.outcome import Outcome
from parity.judging.rates import CONFIDENCE, bounds
from parity.judging.verdict import Verdict, overall
from parity.running.cells import OnEpoch
from parity.running.matrix import Matrix
from parity.suite import named


@dataclass(frozen=True)
class Seeded:
    """One cell with one seed, judged; ``explanation`` is what explains a failure, in one sentence, or ""."""

    seed: int
    verdict: Verdict
    ratio: float | None
    epoch: int | None
    parameter: str | None
    reason: str = ""
    explanation: str = ""


@dataclass(frozen=True)
class Count:
    """How many of some trials failed."""

    failed: int
    trials: int

    @property
    def between(self) -> tuple[float, float]:
        """The smallest and the largest share of failures that the count does not exclude: ``rates.bounds``."""
        return bounds(self.failed, self.trials)

    def as_json(self) -> dict[str, Any]:
        low, high = self.between
        return {"failed": self.failed, "of": self.trials, "at_least": low, "at_most": high}


@dataclass(frozen=True)
class Row:
    """One implementation of one case in one dtype on one device, with every seed."""

    case: str
    data: str | None
    implementation: str
    dtype: str
    device: str
    cells: tuple[Seeded, ...]

    @property
    def folder(self) -> str:
        """The case, and the name of its data if they are not its own."""
        return self.case if self.data is None else f"{self.case}@{self.data}"

    @property
    def name(self) -> str:
        return f"{self.folder}-{self.implementation}-{self.dtype}"

    def of(self, verdict: Verdict) -> list[Seeded]:
        """The seeds of that verdict."""
        return [cell for cell in self.cells if cell.verdict is verdict]

    @property
    def count(self) -> Count:
        """How many seeds failed, of those that could be judged."""
        failed = len(self.of(Verdict.FAIL))
        return Count(failed, failed + len(self.of(Verdict.PASS)))

    @property
    def shares(self) -> list[tuple[float, int]]:
        """The share of the tolerance that each seed used, and the seed, the smallest first."""
        known = ((cell.ratio, cell.seed) for cell in self.cells if cell.ratio is not None)
        return sorted((ratio, seed) for ratio, seed in known if not math.isnan(ratio))


@dataclass(frozen=True)
class Sweep:
    """Cells with many seeds: a row for each implementation, case and dtype."""

    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on all cells."""
        return overall([cell.verdict for row in self.rows for cell in row.cells])

    @property
    def draws(self) -> Count:
        """Of how many draws, a case with a seed, any cell failed.

        Cells of one draw have weights, reference and noise floor in common, and are no independent trials. Draws are
        taken for such, though cases of the same shapes begin alike with one seed. A draw without a failure counts if
        all of its cells could be judged.
        """
        verdicts: dict[tuple[str, int], list[Verdict]] = {}
        for row in self.rows:
            for cell in row.cells:
                verdicts.setdefault((row.folder, cell.seed), []).append(cell.verdict)
        found = list(map(overall, verdicts.values()))
        failed = found.count(Verdict.FAIL)
        return Count(failed, failed + found.count(Verdict.PASS))

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data, as ``parity sweep --json`` writes it."""
        return {
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "confidence": CONFIDENCE,
            "draws": self.draws.as_json(),
            "rows": [
                {
                    **{key: getattr(row, key) for key in ("case", "data", "implementation", "dtype", "device")},
                    "count": row.count.as_json(),
                    "failed": [cell.seed for cell in row.of(Verdict.FAIL)],
                    "inconclusive": [cell.seed for cell in row.of(Verdict.INCONCLUSIVE)],
                    "cells": [vars(cell) for cell in row.cells],
                }
                for row in self.rows
            ],
        }


def sweep(
    matrix: Matrix,
    on_epoch: OnEpoch = lambda cell, epoch, of: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Sweep:
    """Train and judge every cell of a matrix whose options name seeds.

    Whether a case is whole, with an implementation in every framework, ``parity run`` says.
    """
    matrix.owed = {}
    outcomes = matrix.run(on_epoch, on_outcome, keep=_verdict_alone)
    return Sweep(tuple(seed for seed in matrix.options.seeds if seed is not None), tuple(_rows(outcomes)))


def _verdict_alone(outcome: Outcome) -> Outcome:
    """An outcome without its run and distances: thousands of cells are kept."""
    return replace(outcome, judgement=replace(outcome.judgement, evidence=()), run=None, reference=None, entry=None)


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    groups: dict[tuple[str, str | None, str, str, str], list[Seeded]] = {}
    for outcome in outcomes:
        case, data, seed = named(outcome.folder)
        assert seed is not None
        found, explanation = outcome.judgement, outcome.explanation
        said = str(explanation["sentence"]) if explanation else ""
        cell = Seeded(seed, found.verdict, found.ratio, found.epoch, found.parameter, found.reason, said)
        groups.setdefault((case, data, outcome.implementation, outcome.dtype, outcome.device), []).append(cell)
    for key, cells in groups.items():
        yield Row(*key, tuple(cells))
