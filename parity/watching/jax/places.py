"""Where among the arguments or the results of an update the trees of its state are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Place = tuple[int, ...]
"""The position of an argument or of a result, and where that is a tuple, the positions within it."""


def places_of(state: Sequence[Any], trees: Sequence[Any]) -> list[Place]:
    """Find each tree of a state among others, by its structure and shapes.

    Args:
        state: The trees that are looked for.
        trees: The arguments or the results of an update. Tuples and lists among them are looked into.

    Returns:
        The place of each.

    Raises:
        ValueError: If one of them is not there.
    """
    places: list[Place] = []
    for tree in state:
        wanted = _shape(tree)
        there = (place for place, each in _walk(trees, ()) if not _taken(place, places) and _shape(each) == wanted)
        place = next(there, None)
        if place is None:
            raise ValueError(
                "the update takes and returns the state that is watched, as state, loss = step(state, batch), and "
                f"one of its trees is missing here: {jax.tree.structure(tree)!s:.120}"
            )
        places.append(place)
    return places


def at(trees: Any, place: Place) -> Any:
    """Give the tree at a place."""
    for k in place:
        trees = trees[k]
    return trees


def put(trees: Sequence[Any], new: Mapping[Place, Any]) -> list[Any]:
    """Put other trees at some places.

    Args:
        trees: The arguments or the results of an update, which stay as they are.
        new: What is put, by its place.

    Returns:
        The trees with those in their places.

    Examples:
        >>> put([(1, 2), 3], {(0, 1): 4})
        [(1, 4), 3]
    """
    return [_put(tree, (k,), new) for k, tree in enumerate(trees)]


def besides(trees: Sequence[Any], places: Sequence[Place]) -> list[Any]:
    """Give the trees with None in the places of the state."""
    return put(trees, dict.fromkeys(places))


def _put(tree: Any, here: Place, new: Mapping[Place, Any]) -> Any:
    if here in new:
        return new[here]
    if type(tree) not in (tuple, list) or all(place[: len(here)] != here for place in new):
        return tree
    return type(tree)(_put(each, (*here, k), new) for k, each in enumerate(tree))


def _walk(trees: Sequence[Any], here: Place) -> Iterator[tuple[Place, Any]]:
    """Give each tree, those that lie less deep first."""
    within = [((*here, k), tree) for k, tree in enumerate(trees)]
    yield from within
    for place, tree in within:
        if type(tree) in (tuple, list):
            yield from _walk(tree, place)


def _taken(place: Place, places: Sequence[Place]) -> bool:
    """Say whether a place lies in one of others, or one of those in it."""
    return any(place[: len(other)] == other or other[: len(place)] == place for other in places)


def _shape(tree: Any) -> Any:
    """What two trees share of which one is the other after an update, which may widen some of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [np.shape(leaf) for leaf in leaves]
