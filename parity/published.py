"""Our figures beside the ones that a case's source printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parity.spec import Case, Published
from parity.tolerance import FACTOR, Floor
from parity.verdict import Verdict

if TYPE_CHECKING:
    from parity.trajectory import Trajectory


@dataclass(frozen=True)
class Figure:
    """One published figure and ours, both as text in the published format."""

    quantity: str
    epoch: int
    published: str
    ours: str
    verdict: Verdict
    rule: str = "printed"


def series(published: Published, run: Trajectory) -> dict[int, float]:
    """Our values of a published quantity by epoch; KeyError for one that the run did not record."""
    if published.of == "loss":
        batch = published.index or (-1,)
        return {epoch: float(row[batch]) for epoch, row in enumerate(run.loss, 1)}
    if callable(published.of):
        return dict(enumerate(np.asarray(published.of(run), np.float64).tolist()))
    kind, _, name = published.of.partition("/")
    values = run.metrics[name] if kind == "metrics" else run.params[name]
    place: tuple[slice | int, ...] = (slice(None), *published.index)
    picked = np.asarray(values[:], np.float64)[place]
    if picked.ndim != 1:
        raise ValueError(f"published {published.quantity!r}: {published.of} is a tensor, say which value with index")
    return dict(zip(run.epochs.tolist(), picked.tolist(), strict=True))


def figures(case: Case, run: Trajectory, dtype: str, floor: Floor | None) -> list[Figure]:
    """Every published figure that a run of this length and dtype has a counterpart for."""
    found = []
    for published in case.published:
        if dtype not in published.dtypes:
            continue
        values = series(published, run)
        for epoch, text in published.values.items():
            if epoch in values:
                verdict = _verdict(published, text, values[epoch], _allowed(published, run, floor, epoch))
                ours = published.format % values[epoch]
                found.append(Figure(published.quantity, epoch, text, ours, verdict, published.rule))
    return found


def _allowed(published: Published, run: Trajectory, floor: Floor | None, epoch: int) -> float | None:
    """What ours may be off beside the rounding of the print: None where nothing may be, or it is not known."""
    if published.rule == "envelope":
        return published.margin
    if published.rule == "printed" or floor is None or callable(published.of) or epoch > len(floor.loss):
        return None
    if published.of == "loss":
        return FACTOR * float(floor.loss[epoch - 1][published.index or (-1,)])
    place = int(np.searchsorted(run.epochs, epoch))
    return FACTOR * float(floor.params[published.of.removeprefix("params/")][place])


def _verdict(published: Published, text: str, value: float, allowed: float | None) -> Verdict:
    if published.rule == "printed":
        return Verdict.PASS if published.format % value == text else Verdict.FAIL
    if allowed is None:
        return Verdict.INCONCLUSIVE
    # Half a unit of the last digit is what printing itself may have rounded away.
    rounding = 0.5 * 10.0 ** -len(text.partition(".")[2])
    return Verdict.PASS if abs(value - float(text)) <= allowed + rounding else Verdict.FAIL
