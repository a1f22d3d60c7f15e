"""How a run and a comparison draw themselves in a notebook: HTML and SVG, without scripts and packages."""

from __future__ import annotations

from parity.explaining.layers.find import find_layers
from parity.judging.diff import Comparison
from parity.judging.moments import unit_of
from parity.recording.artefacts import open_run
from parity.recording.layers import Layer, layers_of
from parity.report import pair
from parity.report.curves import figure
from parity.report.facts import count_values, facts_of
from parity.report.markup import Html, element, table
from parity.report.page import resource
from parity.trajectory import Trajectory


def run(shown: Trajectory) -> str:
    """Draw a run: its losses, layers, tensors and settings."""
    name = str(shown.meta.get("implementation", "run"))
    counts = f"{len(shown.loss)} {unit_of(shown)}s, {len(shown.epochs)} snapshots, {len(shown.params)} tensors"
    recorded = list(layers_of(shown))
    layers = [
        element("tr", *(element("td", said) for said in (layer.name, layer.kind, _settings(layer))))
        for layer in recorded[: pair.ROWS]
    ]
    tensors = [
        element("tr", element("td", tensor), element("td", " × ".join(map(str, stack.shape[1:])) or "1"))
        for tensor, stack in list(shown.params.items())[: pair.ROWS]
    ]
    facts = [element("tr", element("td", key), element("td", value)) for key, value in facts_of(shown).items()]
    return _framed(
        element("p", element("strong", name), f": {counts}"),
        figure("Loss of each batch, before its update", [pair.loss_line(name, "a", shown)], unit_of(shown)),
        _folded(f"{len(recorded)} layers", table(("layer", "kind", "settings"), layers)) if layers else "",
        _folded(f"{len(shown.params)} tensors, {count_values(shown):,} values", table(("tensor", "shape"), tensors)),
        _folded("settings and versions", table(("", name), facts)),
    )


def comparison(shown: Comparison) -> str:
    """Draw a comparison: verdict, losses and distances, layers side by side, tensors, settings.

    The runs are read again from their folders. Where they are gone, the verdict and the notes alone are shown.
    """
    verdict = pair.verdict(shown)
    try:
        ours, theirs = open_run(shown.a), open_run(shown.b)
        found = find_layers(ours, theirs)
    except ValueError as error:  # a recording that cannot be read, or whose tensors do not fit the other's
        return _framed(verdict, pair.said(shown, None), element("p", f"Nothing more is drawn: {error}", class_="faint"))
    layers = found.as_json() if found is not None else None
    parted = [element("li", one["sentence"]) for one in (layers or {}).get("partings", ())]
    return _framed(
        verdict,
        element("ul", *parted) if parted else "",
        pair.curves(shown, ours, theirs),
        _folded("layers side by side", pair.layers(shown, ours, theirs, layers), open_=True),
        _folded("tensors", pair.tensors(shown)),
        _folded("notes", pair.said(shown, None)),
        _folded("settings and versions", pair.settings({str(shown.a): ours, str(shown.b): theirs})),
    )


def _settings(layer: Layer) -> str:
    return ", ".join(f"{key} {value}" for key, value in layer.configuration.items())


def _folded(title: str, content: object, open_: bool = False) -> Html:
    return element("details", element("summary", title), content, open="" if open_ else None)


def _framed(*parts: object) -> str:
    style = Html(f"<style>{resource(pair.STYLE)}</style>")
    return str(element("div", style, *parts, class_="parity"))
