"""Many runs of two implementations as one page: bands of their curves, the verdict on top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from parity.judging.seeds import MARGIN, Quantity, SeedsComparison, possible
from parity.report.curves import Band, Line, figure
from parity.report.markup import Html, element, joined, table
from parity.report.page import policy, render, resource
from parity.report.pair import STYLE, settings
from parity.report.words import LOOKS
from parity.trajectory import Trajectory
from parity.typing import Array

DRAWN = 6
"""So many quantities are drawn beside the losses, those that differ most."""
PERCENTILES, ENOUGH = (10, 90), 10
"""From so many runs a side on, a band reaches from the one percentile to the other; of fewer, over all of them."""
THIN = 40
"""Of so many runs a side, each is drawn as a line of its own."""
STRETCHES = 40
"""A curve of losses is drawn as the means of so many stretches."""
WIDE = 20.0
"""Where the values of a curve differ by more than this factor, heights are powers of ten."""

Side = tuple[str, Sequence[Trajectory]]


def page(found: SeedsComparison, ours: Side, theirs: Side) -> str:
    """Make the page of many runs. It needs no other file, runs no script and asks for nothing from elsewhere.

    Args:
        found: What the runs say together.
        ours: What the first side is called, and its runs.
        theirs: The second side, likewise.

    Returns:
        The text of the page.
    """
    return render(
        "seeds.html",
        policy=policy(),
        style=resource(STYLE),
        verdict=_verdict(found, ours[0], theirs[0]),
        figures=element("div", *_figures(found, ours, theirs), class_="figures"),
        quantities=_quantities(found),
        settings=settings({name: runs[0] for name, runs in _apart(ours, theirs)}),
    )


def title_of(folders: Sequence[Path]) -> str:
    """What several folders are called together: what their names begin with alike.

    >>> title_of([Path("runs/torch-0"), Path("runs/torch-1")]), title_of([Path("a")])
    ('runs/torch-*', 'a')
    """
    names = list(map(str, folders))
    return names[0] if len(names) == 1 else "".join(_shared(names)) + "*"


def _shared(names: Sequence[str]) -> Iterator[str]:
    """The letters that all names begin with."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return (letters[0] for letters in alike)


def _apart(ours: Side, theirs: Side) -> list[Side]:
    """Both sides under names that differ."""
    return (
        [ours, theirs]
        if ours[0] != theirs[0]
        else [(f"{ours[0]} (first)", ours[1]), (f"{theirs[0]} (second)", theirs[1])]
    )


def _verdict(found: SeedsComparison, ours: str, theirs: str) -> Html:
    look = LOOKS[found.verdict]
    visible = (
        f"So many runs would have shown a learning rate that is {100 * found.visible:.2g} % off, about."
        if found.visible is not None
        else ""
    )
    notes = element("ul", *(element("li", note) for note in found.notes), class_="notes") if found.notes else Html("")
    counts = [f" ({count} runs)" for count in found.counts]
    return joined(
        element("p", f"{look.mark} {found.verdict}", class_=f"verdict {look.kind}"),
        element("p", element("code", ours), counts[0], " against ", element("code", theirs), counts[1]),
        element("p", found.reason, class_="statement"),
        element("p", visible, class_="faint"),
        notes,
    )


def _figures(found: SeedsComparison, ours: Side, theirs: Side) -> Iterator[Html]:
    """The losses, then the quantities that differ most."""
    sides = _apart(ours, theirs)
    losses = [_losses(runs) for _, runs in sides]
    if all(curves.size for curves, _ in losses):
        yield _bands("Loss", found.unit, sides, [curves for curves, _ in losses], losses[0][1])
    others = [quantity for quantity in found.quantities if quantity.name != "loss"]
    for quantity in sorted(others, key=lambda one: found.values.get(one.name, 1.0))[:DRAWN]:
        said = f", p = {found.values[quantity.name]:.2g}" if quantity.name in found.values else ""
        curves = [quantity.ours, quantity.theirs]
        yield _bands(f"{_titled(quantity.name)}{said}", found.unit, sides, curves, np.array(quantity.at))


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:]


def _losses(runs: Sequence[Trajectory]) -> tuple[Array, Array]:
    """Each run's losses as means of up to STRETCHES stretches, (runs, n), and the epochs done by the end of each."""
    count, batches = runs[0].loss.size, max(1, runs[0].loss.shape[1])
    if not count:
        return np.empty((len(runs), 0)), np.empty(0)
    cuts = np.array_split(np.arange(count), min(STRETCHES, count))
    flat = [np.asarray(run.loss, np.float64).ravel() for run in runs]
    curves = np.array([[losses[cut].mean() for cut in cuts] for losses in flat])
    return curves, np.array([(cut[-1] + 1) / batches for cut in cuts])


@np.errstate(all="ignore")  # a recording may hold any numbers
def _bands(caption: str, unit: str, sides: Sequence[Side], curves: Sequence[Array], x: Array) -> Html:
    """Draw the curves of both sides: a band and the median of each, and every run."""
    bands, thin, medians = [], [], []
    for kind, (name, _), values in zip("ab", sides, curves, strict=True):
        low, middle, high, reach = _spread(values)
        bands.append(Band(f"{name}: {reach}", kind, x, low, high))
        thin += [Line("", f"{kind} thin", x, curve) for curve in values[:THIN]]
        medians.append(Line(f"{name}: median", kind, x, middle))
    every = np.concatenate([values[np.isfinite(values)] for values in curves])
    logarithmic = bool(every.size and every.min() > 0 and every.max() > WIDE * every.min())
    return figure(caption, [*thin, *medians], unit, logarithmic, bands)


def _spread(values: Array) -> tuple[Array, Array, Array, str]:
    """The lower edge, the median and the upper edge of curves (runs, n), and what lies between the edges in words."""
    if len(values) < ENOUGH:
        return values.min(0), np.median(values, 0), values.max(0), "all of its runs"
    low, high = np.percentile(values, PERCENTILES, axis=0)
    return low, np.median(values, 0), high, f"{PERCENTILES[0]} to {PERCENTILES[1]} % of its runs"


def _quantities(found: SeedsComparison) -> Html:
    """Each quantity with its p-value and the largest difference of the means that the runs leave possible."""
    if not found.values:
        return element("p", "Nothing could be measured.", class_="faint")
    known = {quantity.name: quantity for quantity in found.quantities}
    rows = [
        _row(known[name], found.values[name], name == found.differs)
        for name in sorted(found.values, key=lambda n: found.values[n])
    ]
    said = element(
        "p",
        f"p is adjusted for the number of quantities. Means of equivalent sides are no more than {MARGIN:g} standard "
        "deviations of the seeds apart.",
        class_="faint",
    )
    return joined(said, table(("quantity", "p, adjusted", "means may be apart by", "at"), rows))


def _row(quantity: Quantity, p: float, most: bool) -> Html:
    reach = possible(quantity)
    place = int(np.argmax(reach))
    cells = [element("td", element("code", quantity.name)), element("td", f"{p:.2g}", class_="number")]
    cells += [
        element("td", f"{float(reach[place]):.2g} deviations", class_="number"),
        element("td", quantity.moments[place]),
    ]
    return element("tr", *cells, class_="differs" if most else None)
