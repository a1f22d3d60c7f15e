"""Sort the arrays of a JAX state into parameters and an optimizer's slots, and name them."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from parity.watching.flow import COLLECTIONS
from parity.watching.jax.stir import is_float

SLOTS = {"trace": "momentum", "mu": "first_moment", "nu": "second_moment"}
"""Names of optax's slots in the words of ``parity.spec``. Others keep their own."""


@dataclass
class Sorted:
    """The float arrays of a state."""

    params: dict[str, Any] = field(default_factory=dict)
    """Parameters and buffers, by name."""
    slots: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The optimizer's arrays, by the slot's name and the parameter's."""
    collected: set[str] = field(default_factory=set)
    """The parameters of which flax says that they are trained."""


def sort(trees: Sequence[Any]) -> Sorted:
    """Sort the arrays of a state into parameters and slots.

    A tuple that holds an optimizer's state among other trees, as ``(params, opt_state)``, is sorted as its trees one by
    one would be. Where parameters lie deeper in the state than in the optimizer's, they are named as they are there. If
    two trees have a parameter of the same name, those of the later tree have its place before their names.

    Args:
        trees: Trees of arrays: dicts, tuples, states of optax and of flax.

    Returns:
        The arrays that hold floats, by name.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> params = {"dense": {"kernel": jnp.ones(2)}}
        >>> found = sort([(params, optax.sgd(0.1, momentum=0.9).init(params))])
        >>> list(found.params), list(found.slots["momentum"])
        (['dense/kernel'], ['dense/kernel'])
    """
    found, of_nnx = Sorted(), list[tuple[list[str], Any]]()
    for place, tree in enumerate(itertools.chain.from_iterable(map(_parts, trees))):
        own: dict[str, Any] = {}
        collected: set[str] = set()
        kinds = {parts: leaf for _, parts, leaf in named(tree, _is_whole)}
        for name, parts, leaf in named(tree, is_optax):
            if is_optax(leaf):
                _take_slots(leaf, found.slots)
            elif is_float(leaf):
                variable = kinds.get(parts)
                if "opt_state" in parts or _is_of_optimizer(variable):
                    of_nnx.append((_words(parts), leaf))
                    continue
                own[name or str(place)] = leaf
                if "params" in parts or _is_param(variable):
                    collected.add(name)
        twice = own.keys() & found.params.keys()
        before = f"{place}/" if twice else ""
        found.params |= {f"{before}{name}": leaf for name, leaf in own.items()}
        found.collected |= {f"{before}{name}" for name in collected}
    for words, leaf in of_nnx:
        _take_slot(words, leaf, found)
    _name_as_slots(found)
    return found


def named_alike(tree: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Name the arrays of a tree that has the structure of parameters, as their gradients have.

    Args:
        tree: The tree.
        known: The parameters by name.

    Returns:
        Its arrays by those of the known names that are theirs; empty if none is.
    """
    own = sort((tree,)).params
    for before in ("", *_prefixes(own, known)):
        found = {f"{before}{name}": leaf for name, leaf in own.items() if f"{before}{name}" in known}
        if found:
            return found
    return {}


def named(tree: Any, stop: Callable[[Any], bool] = lambda tree: False) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Give every leaf of a tree by its name, as in ``Dense_0/kernel``, with the keys that lead there."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=stop)[0]:
        # The value that a variable of nnx holds has no name of its own. A layer may be called so, as in attention.
        path = [key for key in path if not (isinstance(key, jax.tree_util.GetAttrKey) and key.name == "value")]
        parts = tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
        yield "/".join(_words(parts)), parts, leaf


def is_optax(tree: Any) -> bool:
    """Say whether a tree is a state of one of optax's transformations."""
    return isinstance(tree, tuple) and type(tree).__module__.startswith("optax")


def _words(parts: Sequence[str]) -> list[str]:
    return [re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in parts if part not in COLLECTIONS]


def _parts(tree: Any) -> Iterator[Any]:
    """Give the trees of a tuple that holds an optimizer's state beside others; any other tree as it is."""
    members = list(tree) if type(tree) in (tuple, list) else []
    if isinstance(tree, Mapping) and all(isinstance(key, int) for key in tree):  # of a tuple that nnx has split
        members = [tree[key] for key in tree]
    if len(members) < 2 or all(map(is_optax, members)) or not any(map(_holds_optimizer, members)):
        yield tree
        return
    for member in members:
        yield from _parts(member)


def _holds_optax(tree: Any) -> bool:
    # What masks a parameter is a tuple of optax's with nothing in it.
    return any(is_optax(leaf) and len(leaf) for leaf in jax.tree.leaves(tree, is_leaf=is_optax))


def _holds_optimizer(tree: Any) -> bool:
    return any(is_optax(leaf) or _is_of_optimizer(leaf) for leaf in jax.tree.leaves(tree, is_leaf=_is_whole))


def _is_whole(leaf: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return is_optax(leaf) or (nnx is not None and isinstance(leaf, nnx.Variable))


def _is_param(leaf: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(leaf, nnx.Param)


def _is_of_optimizer(leaf: Any) -> bool:
    optimizer = sys.modules.get("flax.nnx.training.optimizer")
    return optimizer is not None and isinstance(leaf, optimizer.OptState)


def _take_slots(tree: Any, slots: dict[str, dict[str, Any]]) -> None:
    """Take the slots of a state of optax, however deep transformations lie in each other."""
    if is_optax(tree) and hasattr(tree, "_fields"):
        for slot, value in zip(tree._fields, tree, strict=True):
            if _holds_optax(value):
                _take_slots(value, slots)
                continue
            for place, (name, _, leaf) in enumerate(named(value)):
                if is_float(leaf) and (name or np.ndim(leaf)):
                    slots.setdefault(SLOTS.get(slot, slot), {})[name or str(place)] = leaf
    elif isinstance(tree, tuple | list):
        for value in tree:
            _take_slots(value, slots)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            _take_slots(value, slots)


def _take_slot(words: list[str], leaf: Any, found: Sorted) -> None:
    """Take an array of an optimizer whose state has lost its types: the end of its path is that of a parameter."""
    for k in range(1, len(words)):
        name = "/".join(words[k:])
        if name in found.params:
            found.slots.setdefault(SLOTS.get(words[k - 1], words[k - 1]), {})[name] = leaf
            return
    if len(words) > 1:
        found.slots.setdefault(words[-2], {})[words[-1]] = leaf


def _name_as_slots(found: Sorted) -> None:
    """Name parameters as the optimizer's slots are named, if they lie deeper in the state."""
    for slot in found.slots.values():
        if slot.keys() & found.params.keys():
            return
    for slot in found.slots.values():
        for before in _prefixes(slot, found.params):
            renamed = {name: name.removeprefix(before) for name in found.params}
            if len(set(renamed.values())) == len(renamed):
                found.params = {renamed[name]: leaf for name, leaf in found.params.items()}
                found.collected = {renamed[name] for name in found.collected}
                return


def _prefixes(own: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """List what may stand before all of some names so that they are known ones, of arrays of the same shapes."""
    first = next(iter(own), None)
    if first is None:
        return []
    befores = [name.removesuffix(first) for name in known if name.endswith(f"/{first}")]
    return [
        before
        for before in befores
        if all(
            f"{before}{name}" in known and np.shape(known[f"{before}{name}"]) == np.shape(leaf)
            for name, leaf in own.items()
        )
    ]
