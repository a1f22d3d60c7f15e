r"""Text that is not ours, written as what it is: names, settings and errors may come from anyone.

To a terminal a name can say what to do: move the cursor, set the title, paint over a verdict. On a page it can turn the
direction of what stands beside it. So each letter that is not to be seen is written as its escape, ``\x1b`` for one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_GIVEN: dict[str, str] = {}


@contextlib.contextmanager
def given(path: str, address: str) -> Iterator[None]:
    """Meanwhile say the address that somebody gave, wherever the path would be said at which it was fetched."""
    _GIVEN[path] = address
    try:
        yield
    finally:
        del _GIVEN[path]


def as_given(text: str) -> str:
    """A text with addresses in the place of the paths at which what lies there was fetched: see ``given``.

    >>> with given("/tmp/x/runs", "s3://bucket/runs"):
    ...     print(as_given("/tmp/x/runs/torch: is damaged"))
    s3://bucket/runs/torch: is damaged
    """
    for path, address in _GIVEN.items():
        text = text.replace(path, address)
    return text


def foreign(text: object, lines: bool = False) -> str:
    r"""The text with an escape for each letter that cannot be printed: control, format, half of a surrogate pair.

    Args:
        text: A text, or what has one.
        lines: Whether line breaks and tabs stay as they are; else the text stays on one line.

    Returns:
        Text that any encoding of Unicode holds and a terminal only shows.

    >>> print(foreign("a\x1b[2J\n\udcff"))
    a\x1b[2J\n\udcff
    """
    text = as_given(str(text))
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or (lines and letter in "\n\t") else _escape(letter) for letter in text
    )


def foreign_in(content: Any, lines: bool = False) -> Any:
    """Plain data with every text in it, keys too, as ``foreign`` writes it."""
    if isinstance(content, str):
        return foreign(content, lines)
    if isinstance(content, dict):
        return {foreign_in(key, lines): foreign_in(value, lines) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [foreign_in(value, lines) for value in content]
    return content


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
