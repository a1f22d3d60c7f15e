"""Our figures beside the ones that a case's source printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parity.spec import Array, Case, Published
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


def series(published: Published, run: Trajectory) -> Array:
    """Our values of a published quantity, one a snapshot of the run, float64; KeyError for one that is not recorded."""
    if callable(published.of):
        return np.asarray(published.of(run), np.float64)
    kind, _, name = published.of.partition("/")
    values = run.metrics[name] if kind == "metrics" else run.params[name]
    return np.asarray(values[:], np.float64)[(slice(None), *published.index)]


def figures(case: Case, run: Trajectory, dtype: str, floor: Floor | None) -> list[Figure]:
    """Every published figure that a run of this length and dtype has a counterpart for."""
    places = {int(epoch): place for place, epoch in enumerate(run.epochs)}
    found = []
    for published in case.published:
        if dtype not in published.dtypes:
            continue
        values = series(published, run)
        for epoch, text in published.values.items():
            if epoch in places:
                value = float(values[places[epoch]])
                verdict = _verdict(published, text, value, floor, places[epoch])
                found.append(Figure(published.quantity, epoch, text, published.format % value, verdict))
    return found


def _verdict(published: Published, text: str, value: float, floor: Floor | None, place: int) -> Verdict:
    if published.rule == "printed":
        return Verdict.PASS if published.format % value == text else Verdict.FAIL
    # Half a unit of the last digit is what printing itself may have rounded away.
    allowed = 0.5 * 10.0 ** -len(text.partition(".")[2])
    if published.rule == "envelope":
        allowed += published.margin
    elif floor is None or callable(published.of):
        return Verdict.INCONCLUSIVE
    else:
        allowed += FACTOR * float(floor.params[published.of.removeprefix("params/")][place])
    return Verdict.PASS if abs(value - float(text)) <= allowed else Verdict.FAIL
