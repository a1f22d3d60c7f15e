"""The figures that a case's source printed, held against those of a run of ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from parity.judging.floor import Floor
from parity.judging.verdict import Verdict, overall
from parity.spec import Case, Published
from parity.tolerance import least_floor
from parity.trajectory import Trajectory, TrajectoryError

APART = 1 / math.sqrt(6)
"""How far two runs of one listing may part, as a share of the noise floor.

A noise floor is the stray of runs whose every rounding is stirred by a whole unit in the last place. Rounding itself
moves a value by at most half a unit, every distance being as likely: its standard deviation is 1/√12 units, that of the
stir is 1. So rounding carries a run 1/√12 of a noise floor, and the published run and ours √2 times as far apart. An
implementation is held to sixteen floors, because it may compute otherwise than the reference does; a figure with nine
digits is held to what rounding alone does to the same computation.
"""
NEAR = {"floor": "≈ within the noise floor", "envelope": "≈ within the spread of other draws"}


@dataclass(frozen=True)
class Figure:
    """One published figure and ours, both as text in the published format.

    If the run did not record ours, ``reason`` says why.
    """

    quantity: str
    epoch: int
    published: str
    ours: str
    verdict: Verdict
    rule: str = "printed"
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the source's log: as our run prints it, as the source printed it, and how the two compare.

    ``mark`` is ``=``, ``≈ …`` or ``≠ …``; it is ``? …`` if the run did not record a figure of the line.
    """

    ours: str
    published: str
    mark: str
    verdict: Verdict


def series(published: Published, run: Trajectory) -> dict[int, float]:
    """Take the values of a published quantity from a run, by epoch.

    TrajectoryError if the run did not record the quantity.
    """
    try:
        return _series(published, run)
    except (KeyError, IndexError) as error:
        place = str(list(published.index)) if published.index else ""
        missing = error if callable(published.of) else published.of + place
        raise TrajectoryError(
            f"published {published.quantity!r}: the run holds no {missing}: have it among Case.metrics, or mend "
            "Published.of"
        ) from error


def _series(published: Published, run: Trajectory) -> dict[int, float]:
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
    """Hold a run against every published figure of its dtype, as far as the run goes.

    A figure of an epoch that the run did not record is INCONCLUSIVE. ``floor`` is the noise floor of the run's dtype;
    without one, figures that may differ by it are INCONCLUSIVE.
    """
    found = []
    for published in case.publication.figures:
        if dtype not in published.dtypes:
            continue
        values = series(published, run)
        for epoch, text in published.values.items():
            if epoch in values:
                verdict = _verdict(published, text, values[epoch], _allowed(published, text, run, dtype, floor, epoch))
                ours, reason = published.format % values[epoch], ""
            elif epoch <= len(run.loss):
                verdict, ours = Verdict.INCONCLUSIVE, "not recorded"
                reason = "losses begin at epoch 1" if published.of == "loss" else f"snapshots every {case.every} epochs"
            else:
                continue  # The run ended before.
            found.append(Figure(published.quantity, epoch, text, ours, verdict, published.rule, reason))
    return found


def _allowed(
    published: Published, text: str, run: Trajectory, dtype: str, floor: Floor | None, epoch: int
) -> float | None:
    """How far ours may be off, beside the rounding of the print; None if by nothing, or if that is not known."""
    if published.rule == "envelope":
        return published.margin
    if published.rule == "printed" or floor is None or callable(published.of) or epoch > len(floor.loss):
        return None
    # Two runs may round one value to neighbouring numbers, however small their noise floor is.
    least: float = least_floor(abs(float(text)), dtype)
    if published.of == "loss":
        return max(APART * float(floor.loss[epoch - 1][published.index or (-1,)]), least)
    place = int(np.searchsorted(run.epochs, epoch))
    values = floor.params.get(published.of.removeprefix("params/"), ())  # metrics have no floor
    return max(APART * float(values[place]), least) if place < len(values) else None


def _verdict(published: Published, text: str, value: float, allowed: float | None) -> Verdict:
    if published.rule == "printed":
        return Verdict.PASS if published.format % value == text else Verdict.FAIL
    if allowed is None or not math.isfinite(allowed) or not math.isfinite(float(text)):
        return Verdict.INCONCLUSIVE
    # Printing may have rounded half a unit of the last digit away.
    last = Decimal(text).as_tuple().exponent
    assert isinstance(last, int)
    rounding = float(Decimal((0, (5,), last - 1)))
    near = math.isfinite(value) and abs(value - float(text)) <= allowed + rounding
    return Verdict.PASS if near else Verdict.FAIL


def log_lines(case: Case, figures: Sequence[Figure]) -> list[Line]:
    """Give the source's log lines, ours beside the published ones, then one line for each figure in none of them."""
    by_epoch: dict[int, dict[str, Figure]] = {}
    for figure in figures:
        by_epoch.setdefault(figure.epoch, {})[figure.quantity] = figure
    found = []
    shown: set[tuple[int, str]] = set()
    for epoch, line in sorted(by_epoch.items()):
        try:
            ours, theirs = (
                case.publication.log.format(
                    epoch=epoch, step=epoch - 1, **{name: getattr(figure, side) for name, figure in line.items()}
                )
                for side in ("ours", "published")
            )
        except KeyError:
            continue  # The source published some figures of this epoch, but not all that its log line prints.
        used = [name for name in line if "{" + name + "}" in case.publication.log]
        shown |= {(epoch, name) for name in used}
        found.append(_line(ours, theirs, [line[name] for name in used]))
    for figure in figures:
        if (figure.epoch, figure.quantity) not in shown:
            name = f"{figure.quantity} (epoch {figure.epoch})"
            found.append(_line(f"{name}: {figure.ours}", figure.published, [figure]))
    return found


def _line(ours: str, theirs: str, figures: Sequence[Figure]) -> Line:
    worst = overall([Verdict.PASS, *(f.verdict for f in figures)])
    if worst is Verdict.PASS:
        near = {f.rule for f in figures if f.ours != f.published}
        mark = "=" if not near else " and ".join(sorted(NEAR[rule] for rule in near))
    else:
        sign = "≠ " if worst is Verdict.FAIL else "? "
        mark = sign + ", ".join(_named(f) for f in figures if f.verdict is worst)
    return Line(ours, theirs, mark, worst)


def _named(figure: Figure) -> str:
    return figure.quantity + (f" ({figure.reason})" if figure.reason else "")
