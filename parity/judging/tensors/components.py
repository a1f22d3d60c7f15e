"""What of two sides hangs together: the connected components of links between them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A", bound=Hashable)
B = TypeVar("B", bound=Hashable)


def components(
    links: Iterable[tuple[set[A], set[B], T]], go_on: Callable[[], object] = lambda: None
) -> list[tuple[set[A], set[B], list[T]]]:
    """Join links that share anything on either side.

    Args:
        links: What each links on both sides, and the link itself.
        go_on: Called before each; what it raises ends the search.

    Returns:
        Of each component all that is in it on both sides, and its links.

    Examples:
        >>> components([({1}, {"a"}, 0), ({2}, {"b"}, 1), ({2}, {"c"}, 2)]) == [
        ...     ({1}, {"a"}, [0]), ({2}, {"b", "c"}, [2, 1])
        ... ]
        True
    """
    found: list[tuple[set[A], set[B], list[T]]] = []
    for mine, others, link in links:
        go_on()
        touched = [one for one in found if one[0] & mine or one[1] & others]
        joined = (
            mine.union(*(one[0] for one in touched)),
            others.union(*(one[1] for one in touched)),
            [link, *(each for one in touched for each in one[2])],
        )
        found = [one for one in found if all(one is not each for each in touched)] + [joined]
    return found
