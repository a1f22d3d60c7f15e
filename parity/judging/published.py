"""The figures that a case's source printed, held against those of a run of ours, and its log as our run prints it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter

import numpy as np

from parity.judging.floors.floor import Floor
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
PRINTED_BY = {"document": "documents", "public run": "public runs", "own run": "own runs"}
"""Who printed a figure, in the order and the plural of a summary: they are counted apart."""
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
    by: str = "document"


@dataclass(frozen=True)
class Line:
    """One line of the source's log: as our run prints it, as the source printed it, and how the two compare.

    ``mark`` is ``=``, ``≈ …`` or ``≠ …``; it is ``? …`` if the run did not record a figure of the line. It says where a
    figure is of an own run, which nobody published. Where the source shows no output, ``published`` and ``mark`` are
    empty and there is no verdict.
    """

    ours: str
    published: str
    mark: str
    verdict: Verdict | None


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
            reason = ""
            if epoch in values:
                ours = published.format % values[epoch]
                verdict = _verdict(published, text, values[epoch], _allowed(published, text, run, dtype, floor, epoch))
                if published.change is not None and verdict is Verdict.PASS:
                    verdict, reason = _changed(published.change, values, epoch)
            elif epoch <= len(run.loss):
                verdict, ours = Verdict.INCONCLUSIVE, "not recorded"
                reason = "losses begin at epoch 1" if published.of == "loss" else f"snapshots every {case.every} epochs"
            else:
                continue  # The run ended before.
            found.append(Figure(published.quantity, epoch, text, ours, verdict, published.rule, reason, published.by))
    return found


def _changed(bounds: tuple[float, float], values: dict[int, float], epoch: int) -> tuple[Verdict, str]:
    """Hold the change since the epoch before against what other draws change by."""
    if epoch - 1 not in values:
        return Verdict.INCONCLUSIVE, f"epoch {epoch - 1} was not recorded"
    change, (least, largest) = values[epoch] - values[epoch - 1], bounds
    if least <= change <= largest:
        return Verdict.PASS, ""
    return Verdict.FAIL, f"{change:+.3g} since the epoch before, other draws {least:+.3g} to {largest:+.3g}"


Allowed = tuple[float, float]
"""How far ours may be off, below and above, beside the rounding of the print."""


def _allowed(
    published: Published, text: str, run: Trajectory, dtype: str, floor: Floor | None, epoch: int
) -> Allowed | None:
    """How far ours may be off; None if by nothing, or if that is not known."""
    if published.rule == "envelope":
        return published.margin if isinstance(published.margin, tuple) else (published.margin, published.margin)
    if published.rule == "printed" or floor is None or callable(published.of) or epoch > len(floor.loss):
        return None
    # Two runs may round one value to neighbouring numbers, however small their noise floor is.
    least: float = least_floor(abs(float(text)), dtype)
    if published.of == "loss":
        far = max(APART * float(floor.loss[epoch - 1][published.index or (-1,)]), least)
        return far, far
    place = int(np.searchsorted(run.epochs, epoch))
    values = floor.params.get(published.of.removeprefix("params/"), ())  # metrics have no floor
    if place >= len(values):
        return None
    far = max(APART * float(values[place]), least)
    return far, far


def _verdict(published: Published, text: str, value: float, allowed: Allowed | None) -> Verdict:
    if published.rule == "printed":
        return Verdict.PASS if published.format % value == text else Verdict.FAIL
    if allowed is None or not all(map(math.isfinite, allowed)) or not math.isfinite(float(text)):
        return Verdict.INCONCLUSIVE
    # Printing may have rounded half a unit of the last digit away.
    last = Decimal(text).as_tuple().exponent
    assert isinstance(last, int)
    rounding = float(Decimal((0, (5,), last - 1)))
    below, above = allowed
    near = math.isfinite(value) and -below - rounding <= value - float(text) <= above + rounding
    return Verdict.PASS if near else Verdict.FAIL


def counted(figures: Iterable[Figure]) -> dict[str, tuple[int, int]]:
    """Count the figures by who printed them: how many are reproduced, and how many there are.

    >>> figure = Figure("cost", 1, "5.581", "5.581", Verdict.PASS, by="public run")
    >>> counted([figure, figure])
    {'public run': (2, 2)}
    """
    found = list(figures)
    by_kind = {kind: [figure.verdict for figure in found if figure.by == kind] for kind in PRINTED_BY}
    return {kind: (verdicts.count(Verdict.PASS), len(verdicts)) for kind, verdicts in by_kind.items() if verdicts}


def sources(case: Case, dtype: str) -> list[str]:
    """Say who printed a case's figures of a dtype, and where, if not in the case's own source."""
    return list(
        dict.fromkeys(
            f"figures of {PRINTED_BY[published.by]}: {published.source}"
            for published in case.publication.figures
            if dtype in published.dtypes and published.source != case.publication.source
        )
    )


def missed(figures: Sequence[Figure]) -> list[tuple[Verdict, str]]:
    """Give a sentence for each published quantity that was not reproduced, and the verdict on it."""
    by_quantity: dict[str, list[Figure]] = {}
    for figure in figures:
        by_quantity.setdefault(figure.quantity, []).append(figure)
    found = []
    for same in by_quantity.values():
        off = [figure for figure in same if figure.verdict is not Verdict.PASS]
        if off:
            # A failure stands for them all, before a doubt.
            first = next((figure for figure in off if figure.verdict is Verdict.FAIL), off[0])
            why = f" ({first.reason})" if first.reason else ""
            many = f", and {len(off) - 1} more of {len(same)}" if len(off) > 1 else ""
            whose = "our own run's" if first.by == "own run" else "published"
            sentence = f"{whose} {first.quantity} of epoch {first.epoch} is {first.published}, ours {first.ours}"
            found.append((first.verdict, f"{sentence}{why}{many}"))
    return found


def log_lines(case: Case, figures: Sequence[Figure], run: Trajectory | None = None) -> list[Line]:
    """Give the source's log lines, ours beside the published ones, then one line for each figure in none of them.

    Args:
        case: The case, whose source has a log.
        figures: What ``figures`` gave of our run.
        run: Our run. With it, what the source prints and shows no output of is printed from ours alone.

    Returns:
        The lines in the source's order.
    """
    by_epoch: dict[int, dict[str, Figure]] = {}
    for figure in figures:
        by_epoch.setdefault(figure.epoch, {})[figure.quantity] = figure
    alone = {} if run is None else _unprinted(case, run)
    last = case.epochs if run is None else len(run.loss)
    logged = case.publication.logged or range(1, last + 1)
    epochs = sorted({*by_epoch, *(epoch for epoch in logged if alone and epoch <= last)})
    found: list[Line] = []
    shown: set[tuple[int, str]] = set()
    for text, at in ((case.publication.log, epochs), (case.publication.end, [last])):
        for epoch in at:
            for template in text.splitlines():
                line, names = _filled(template, epoch, by_epoch.get(epoch, {}), alone)
                if line is not None:
                    shown |= {(epoch, name) for name in names}
                    found.append(line)
    for figure in figures:
        if (figure.epoch, figure.quantity) not in shown:
            name = f"{figure.quantity} (epoch {figure.epoch})"
            found.append(_line(f"{name}: {figure.ours}", figure.published, [figure]))
    return found


def _unprinted(case: Case, run: Trajectory) -> dict[str, dict[int, str]]:
    """Ours of the quantities that the source shows no output of: by name, epoch to text."""
    return {
        published.quantity: {epoch: published.format % value for epoch, value in series(published, run).items()}
        for published in case.publication.prints
    }


def _filled(
    template: str, epoch: int, figures: Mapping[str, Figure], alone: Mapping[str, Mapping[int, str]]
) -> tuple[Line | None, list[str]]:
    """Fill a log line, and name its quantities; None if some have a figure of this epoch and others not, or none has.

    A quantity may be called ``weights[0]`` or ``Avg. loss``, in which ``str.format`` would look for parts of a value.
    """
    place = {"epoch": epoch, "step": epoch - 1}
    fields = [(words, name, form or "") for words, name, form, _ in Formatter().parse(template)]
    quantities = [name for _, name, _ in fields if name and name not in place]

    def filled(values: Mapping[str, str]) -> str:
        known: Mapping[str, str | int] = place | dict(values)
        return "".join(words + (format(known[name], form) if name else "") for words, name, form in fields)

    printed = [figures[name] for name in quantities if name in figures]
    if printed and len(printed) == len(quantities):
        ours, theirs = ({f.quantity: f.ours for f in printed}, {f.quantity: f.published for f in printed})
        return _line(filled(ours), filled(theirs), printed), quantities
    if quantities and all(epoch in alone.get(name, {}) for name in quantities):
        return Line(filled({name: alone[name][epoch] for name in quantities}), "", "", None), quantities
    return None, []


def _line(ours: str, theirs: str, figures: Sequence[Figure]) -> Line:
    worst = overall([Verdict.PASS, *(f.verdict for f in figures)])
    if worst is Verdict.PASS:
        near = {f.rule for f in figures if f.ours != f.published}
        mark = "=" if not near else " and ".join(sorted(NEAR[rule] for rule in near))
    else:
        sign = "≠ " if worst is Verdict.FAIL else "? "
        mark = sign + ", ".join(_named(f) for f in figures if f.verdict is worst)
    if any(figure.by == "own run" for figure in figures):
        mark += " (an own run's)"
    return Line(ours, theirs, mark, worst)


def _named(figure: Figure) -> str:
    return figure.quantity + (f" ({figure.reason})" if figure.reason else "")
