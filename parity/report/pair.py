"""Two recordings beside each other as HTML: the parts of a page, which a notebook shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.explaining.layers.beside import ORDER, Beside, side_by_side
from parity.judging.diff import Comparison
from parity.judging.moments import UPDATE, moment, moment_of
from parity.judging.tensors.correspondence import Pairing
from parity.judging.verdict import Evidence, Verdict
from parity.report.curves import Line, figure
from parity.report.facts import facts_of
from parity.report.markup import Html, element, joined, table
from parity.report.page import policy, render, resource
from parity.report.terminal import as_text, print_explanation
from parity.report.words import LOOKS, proven, share
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory

ROWS = 400
"""A table of layers or tensors shows so many rows."""
STYLE = "pair.css"
"""The style of these parts, beside this module."""


def page(comparison: Comparison, ours: Trajectory, theirs: Trajectory, explanation: Mapping[str, Any] | None) -> str:
    """Make the page of two recordings. It needs no other file, runs no script and asks for nothing from elsewhere.

    Args:
        comparison: The judgement on them.
        ours: The first run.
        theirs: The second run.
        explanation: ``Explanation.as_json()`` of what differs; None if nothing does.

    Returns:
        The text of the page.
    """
    return render(
        "pair.html",
        policy=policy(),
        style=resource(STYLE),
        verdict=verdict(comparison),
        said=said(comparison, explanation),
        curves=curves(comparison, ours, theirs),
        layers=layers(comparison, ours, theirs, (explanation or {}).get("layer")),
        tensors=tensors(comparison),
        settings=settings({str(comparison.a): ours, str(comparison.b): theirs}),
    )


def verdict(comparison: Comparison) -> Html:
    """Show the verdict, why it is no PASS, and where the noise floor comes from."""
    found = comparison.judgement
    look = LOOKS[found.verdict]
    used = found.verdict is Verdict.PASS and found.ratio is not None
    where = f"at {moment_of(comparison.unit, found.epoch or 0, found.parameter)} in {found.parameter}"
    most = f"At most {share(found.ratio)} of the tolerance is used, {where}." if used else ""
    floor = f"The tolerance is {FACTOR} noise floors, from {found.source.words}." if found.source is not None else ""
    return joined(
        element("p", f"{look.mark} {found.verdict}", class_=f"verdict {look.kind}"),
        element("p", element("code", comparison.a), " against ", element("code", comparison.b)),
        element("p", found.reason or "Every loss and every tensor that was compared agrees.", class_="statement"),
        element("p", " ".join(filter(None, (most, floor))), class_="faint"),
    )


def said(comparison: Comparison, explanation: Mapping[str, Any] | None) -> Html:
    """Show what the terminal says: the explanation, and the notes."""
    notes = [*comparison.preflight, *comparison.notes]
    listed = element("ul", *(element("li", note) for note in notes), class_="notes") if notes else Html("")
    if explanation is None:
        return listed
    title = f"{comparison.a} against {comparison.b}"
    screen = as_text(lambda console: print_explanation(console, title, comparison.judgement, explanation))
    where = element("p", "First differs at ", element("strong", explanation["place"]), ".")
    why = element("p", element("strong", explanation["why"]), class_="statement")
    whole = element(
        "details", element("summary", "all that parity explain says"), element("pre", screen, class_="said")
    )
    return joined(where, why, whole, listed)


def curves(comparison: Comparison, ours: Trajectory, theirs: Trajectory) -> Html:
    """Draw both runs' losses, their distance on its tolerance, and the share of theirs that tensors use."""
    by = comparison.unit
    losses = [loss_line(str(comparison.a), "a", ours), loss_line(str(comparison.b), "b", theirs)]
    drawn = [figure("Loss of each batch, before its update", losses, by)]
    for evidence in comparison.judgement.evidence[:1]:
        drawn += [_distance(evidence, by), _shares(evidence, by)]
    return element("div", *drawn, class_="figures")


def loss_line(label: str, kind: str, run: Trajectory) -> Line:
    """Make a line of a run's losses, over the epochs or updates done before each."""
    values = np.asarray(run.loss, np.float64).ravel()
    return Line(label, kind, np.arange(len(values)) / max(1, run.loss.shape[1]), values)


def _distance(evidence: Evidence, by: str) -> Html:
    far, floor = evidence.distances["loss"], evidence.floors["loss"]
    lines = [
        Line("distance of the losses", "a", np.arange(len(far)) / evidence.batches, far),
        Line("their tolerance", "limit", np.arange(len(floor)) / evidence.batches, FACTOR * floor),
    ]
    return figure("Distance of the losses, and its tolerance", lines, by, logarithmic=True)


def _shares(evidence: Evidence, by: str) -> Html:
    asserted = [evidence.share(name) for name in evidence.asserted if name != "loss"]
    if not asserted:
        return Html("")
    count = min(map(len, asserted))
    most = np.max([each[:count] for each in asserted], axis=0)
    x = np.asarray(evidence.epochs)[:count]
    lines = [
        Line("the tensor that uses most", "a", x, most),
        Line("the whole tolerance", "limit", x, np.ones(count)),
    ]
    return figure("Share of its tolerance that any tensor uses", lines, by, logarithmic=True)


def layers(comparison: Comparison, ours: Trajectory, theirs: Trajectory, found: Mapping[str, Any] | None) -> Html:
    """Show the layers of both runs side by side, each parting marked."""
    rows = side_by_side(ours, theirs, found, comparison.matched)
    if not rows:
        return element("p", "No layers were recorded by both runs.", class_="faint")
    number = found["step"] if found is not None else 0
    when = moment(comparison.unit, number + 1, 0) if comparison.unit == UPDATE else f"recorded update {number}"
    head = (str(comparison.a), str(comparison.b), "aligned by", "noise floors apart", "settings that differ")
    shown = [_layer(row) for row in rows[:ROWS]]
    return joined(
        element("p", f"At {when}. Up to {FACTOR} noise floors are rounding.", class_="faint"),
        table(head, shown),
        _more(len(rows)),
    )


def _layer(row: Beside) -> Html:
    first = row.parting == 0
    mark = "first to part" if first else "parts too" if row.parting is not None else ""
    how = {ORDER: "kind and order"}.get(row.how, row.how) or "no partner"
    cells = [
        element("td") if layer is None else element("td", element("code", layer[0]), " ", _faint(layer[1]))
        for layer in (row.ours, row.theirs)
    ]
    return element(
        "tr",
        *cells,
        element("td", element("strong", f"✗ {mark}") if mark else how),
        element("td", "" if row.floors is None else f"{row.floors:.3g}", class_="number"),
        element("td", "; ".join(row.differences)),
        class_="first bad" if first else "bad" if mark else "alone" if not row.how else None,
    )


def _faint(text: str) -> Html:
    return element("span", text, class_="faint")


def tensors(comparison: Comparison) -> Html:
    """Show which tensors were held against each other, by what, and how much of their tolerance they use."""
    evidence = next(iter(comparison.judgement.evidence), None)
    used = {} if evidence is None else {name: _most(evidence, name) for name in evidence.distances}
    if comparison.matched is None:
        names = [name for name in used if name != "loss"]
        plain = [_row((element("code", name),), used[name]) for name in names[:ROWS]]
        same = element("p", "Tensors have the same names in both runs.", class_="faint")
        return joined(same, table(("tensor", "tolerance used"), plain), _more(len(names))) if plain else same
    found = []
    for pairing in comparison.matched.pairings[:ROWS]:
        most = max((used[name] for name in pairing.canonical if name in used), default=None)
        found.append(_row((*_sides(pairing), pairing.how, proven(pairing)), most))
    head = (str(comparison.a), str(comparison.b), "matched by", "proven", "tolerance used")
    counts = element("p", comparison.matched.sentence + ".", class_="faint")
    return joined(counts, table(head, found), _more(len(comparison.matched.pairings)))


def _sides(pairing: Pairing) -> list[Html]:
    return [element("code", " + ".join(names)) for names in pairing.names]


def _most(evidence: Evidence, name: str) -> float:
    found = evidence.share(name)
    return float(np.max(np.nan_to_num(found, nan=np.inf), initial=0.0))


def _row(cells: Sequence[object], used: float | None) -> Html:
    beyond = "bad" if used is not None and not used <= 1 else None
    return element(
        "tr", *(element("td", cell) for cell in cells), element("td", share(used), class_="number"), class_=beyond
    )


def _more(count: int) -> Html:
    return element("p", f"… and {count - ROWS} more", class_="faint") if count > ROWS else Html("")


def settings(runs: Mapping[str, Trajectory]) -> Html:
    """Show what runs say of themselves, beside each other."""
    facts = [facts_of(run) for run in runs.values()]
    rows = []
    for name in dict.fromkeys(name for each in facts for name in each):
        values = [each.get(name, "") for each in facts]
        other = "differs" if len(set(values)) > 1 else None
        rows.append(element("tr", element("td", name), *(element("td", value) for value in values), class_=other))
    return table(("", *runs), rows)
