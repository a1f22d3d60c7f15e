"""What ``parity semantics`` prints, and the page of the documentation says: where frameworks differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console

from parity.nn.table import Meaning, Way
from parity.report.terminal import plain_table


def print_all(console: Console, meanings: Iterable[Meaning]) -> None:
    """Print each function with the names that frameworks have for it.

    Args:
        console: Where it goes.
        meanings: The functions, family by family.
    """
    table = plain_table("family", "function", "frameworks", "departures")
    last = ""
    for meaning in meanings:
        frameworks = dict.fromkeys(way.framework for way in meaning.ways)
        departures = sum(len(way.departures) for way in meaning.ways)
        family = "" if meaning.family == last else meaning.family
        table.add_row(family, meaning.name, ", ".join(frameworks), str(departures or ""))
        last = meaning.family
    console.print(table)


def print_one(console: Console, meaning: Meaning) -> None:
    """Print a function: what each framework has for it, its defaults, and what it does otherwise.

    Args:
        console: Where it goes.
        meaning: The function.
    """
    console.print(f"{meaning.name}: {meaning.about.replace('``', '')}", soft_wrap=True)
    table = plain_table("function", "version", "defaults", "differences")
    for way in meaning.ways:
        table.add_row(way.name, way.version, defaults(way), "\n".join(differences(way)))
    console.print(table)


def defaults(way: Way) -> str:
    """Say a way's defaults in a line."""
    return ", ".join(f"{word} {shown(value)}" for word, value in way.defaults.items())


def differences(way: Way) -> Iterator[str]:
    """Say what a way computes otherwise or cannot express, a phrase each."""
    for name, sentence in way.departures.items():
        yield f"{name}: {sentence}"
    if way.kinks:
        at, slopes = (", ".join(f"{one:g}" for one in way.kinks[name]) for name in ("at", "slopes"))
        tied = len(way.kinks["at"]) > len(set(way.kinks["at"]))
        given = "".join(f" with {word} {value:g}" for word, value in way.kinks["with"].items())
        yield f"derivative {'by two equal values' if tied else f'at {at}'}{given}: {slopes}"
    if way.cannot:
        yield f"cannot express: {'; '.join(way.cannot)}"
    if way.dtype != "float64":
        yield f"{way.dtype} only"


def shown(value: Any) -> str:
    """A default as one writes it."""
    return "none" if value is None or value == "" else str(value)


def page(meanings: Mapping[str, Meaning]) -> str:
    """Write the table as Markdown, a section for each family.

    Args:
        meanings: The functions by name, family by family.

    Returns:
        What stands below the page's introduction.
    """
    ways = [way for meaning in meanings.values() for way in meaning.ways]
    names = {name for way in ways for name in way.names}
    lines = [
        f"{len(meanings)} functions, held against {len(names)} of the frameworks' own in "
        f"{sum(way.held for way in ways):,} random configurations."
    ]
    for family in dict.fromkeys(meaning.family for meaning in meanings.values()):
        own = [meaning for meaning in meanings.values() if meaning.family == family]
        lines += ["", f"## {family.capitalize().replace('_', ' ')}"]
        if same := [f"`{meaning.name}`" for meaning in own if alike(meaning)]:
            lines += ["", f"The same in every framework that has it: {', '.join(same)}."]
        for meaning in own:
            lines += [] if alike(meaning) else section(meaning)
    return "\n".join(lines)


def alike(meaning: Meaning) -> bool:
    """Whether nothing is to be said of a function in one framework that is not to be said in every other."""
    said = [(dict(way.defaults), list(differences(way))) for way in meaning.ways]
    return all(one == said[0] for one in said) and not any(way.departures or way.cannot for way in meaning.ways)


def section(meaning: Meaning) -> Iterator[str]:
    """Write a function's part of the page."""
    yield from ("", f"### {meaning.name}", "", escaped(meaning.about.replace("``", "")), "")
    yield from ("| function | version | defaults | differences |", "|---|---|---|---|")
    for way in meaning.ways:
        cells = (f"`{way.name}`", way.version, escaped(defaults(way)), "<br>".join(map(escaped, differences(way))))
        yield f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """A text in which Markdown and tables see no marks."""
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("<", "&lt;")
