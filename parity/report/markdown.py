"""Markdown that holds names and numbers of strangers: every text as the letters that it is."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from parity.report.foreign import foreign

_MARKS = re.compile(r"([\\`*_\[\]#|~$@])")


def escaped(text: str) -> str:
    r"""A text on one line that Markdown shows letter by letter: HTML as entities, its own marks with backslashes.

    >>> print(escaped("a_b <i>\n|c|"))
    a\_b &lt;i&gt; \|c\|
    """
    return html.escape(_MARKS.sub(r"\\\1", foreign(" ".join(text.split()))), quote=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A table, every heading and cell escaped. ``numbers`` are the places of the columns that stand to the right.

    >>> print(table(["case", "steps"], [["iris", "10"]], numbers=[1]))
    | case | steps |
    |---|---:|
    | iris | 10 |
    """
    rule = "|" + "".join("---:|" if place in numbers else "---|" for place in range(len(headings)))
    return "\n".join([_line(headings), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escaped, cells)) + " |"
