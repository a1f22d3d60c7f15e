"""HTML without a template: every text that is put into an element is escaped, so that no name becomes markup."""

from __future__ import annotations

from html import escape

from parity.report.foreign import foreign

EMPTY = frozenset({"br", "line", "polyline", "circle"})
"""The elements that are written without an end."""


class Html(str):
    """Markup of ours, which goes into an element as it is."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: object) -> Html:
    """Make an element.

    Args:
        name: The element's name.
        children: What stands in it: ``Html`` as it is, all else as text, letter by letter.
        attributes: Its attributes, with an underscore for a hyphen and behind a word of Python's. One that is None is
            left out.

    Returns:
        The markup.

    >>> print(element("td", "<b>", element("b", 1), class_="number", title=None))
    <td class="number">&lt;b&gt;<b>1</b></td>
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(foreign(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in EMPTY:
        return Html(f"<{name}{said}>" if name == "br" else f"<{name}{said}/>")
    return Html(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: object) -> Html:
    """Put markup and texts one after the other."""
    return Html("".join(one if isinstance(one, Html) else escape(foreign(one, lines=True)) for one in children))


def table(headings: tuple[str, ...], rows: list[Html]) -> Html:
    """Make a table that scrolls by itself where it is too wide.

    Args:
        headings: The columns' headings.
        rows: Rows, each an element ``tr``.
    """
    head = element("thead", element("tr", *(element("th", heading, scope="col") for heading in headings)))
    return element("div", element("table", head, element("tbody", *rows)), class_="wide")
