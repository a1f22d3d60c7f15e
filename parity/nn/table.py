"""Where frameworks differ: what was found when each function of ``parity.nn`` was held against every framework.

``table.json`` beside this module is written by the tests, from what they find; nothing in it is typed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Way:
    """A framework's own class or function for something that ``parity.nn`` has.

    Attributes:
        framework: Its process: torch, tensorflow, keras or jax.
        names: Its dotted names; several if they differ in the number of axes alone.
        version: The version of its package in which it was held against NumPy.
        defaults: What it takes where nothing is said, in the words of ``parity.nn.configuration``.
        cannot: What it cannot express, as phrases.
        departures: What it computes otherwise, by a short name, as sentences.
        kinks: Which derivatives it takes at places that have none: ``slopes`` for each value of x ``at``, configured
            ``with``; empty if the function has no kinks. A pool's values are the places of one window.
        dtype: The widest floats that it has.
        held: The number of random configurations in which it was held.
    """

    framework: str
    names: tuple[str, ...]
    version: str
    defaults: Mapping[str, Any]
    cannot: tuple[str, ...]
    departures: Mapping[str, str]
    kinks: Mapping[str, Any]
    dtype: str
    held: int

    @property
    def name(self) -> str:
        """The dotted names as one: ``torch.nn.BatchNorm1d, 2d, 3d``."""
        first, *others = self.names
        return ", ".join((first, *(_tail(first, other) for other in others)))


@dataclass(frozen=True)
class Meaning:
    """A function of ``parity.nn``.

    Attributes:
        name: The name.
        family: The module of ``parity.nn`` that has it.
        about: What it does, in a sentence.
        ways: What frameworks have for it.
    """

    name: str
    family: str
    about: str
    ways: tuple[Way, ...]


@cache
def read() -> Mapping[str, Meaning]:
    """Read the table.

    Returns:
        The functions of ``parity.nn`` by name, family by family.

    Examples:
        >>> for way in read()["batch_norm"].ways:
        ...     if way.framework in ("torch", "keras"):
        ...         print(way.name, way.defaults["epsilon"], way.defaults["momentum"], *way.departures)
        torch.nn.BatchNorm1d, 2d, 3d 1e-05 0.9 unbiased running variance
        keras.layers.BatchNormalization 0.001 0.99
    """
    content = json.loads((files("parity.nn") / "table.json").read_text(encoding="utf-8"))
    return {one["name"]: Meaning(**{**one, "ways": tuple(map(_way, one["ways"]))}) for one in content["functions"]}


def as_json(meanings: Mapping[str, Meaning]) -> dict[str, Any]:
    """Give functions as plain data.

    Args:
        meanings: Some of what ``read`` gives.

    Returns:
        What ``parity semantics --json`` writes, in the form of the table's file.

    Examples:
        >>> as_json({"layer_norm": read()["layer_norm"]})["functions"][0]["family"]
        'normalization'
    """
    return {"functions": [_plain(one) | {"ways": [_plain(way) for way in one.ways]} for one in meanings.values()]}


def _plain(value: Meaning | Way) -> dict[str, Any]:
    found = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: list(one) if isinstance(one, tuple) else one for name, one in found.items()}


def _way(content: Mapping[str, Any]) -> Way:
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Way(**found)


def _tail(first: str, other: str) -> str:
    """What another name has that the first has not: ``2d`` after ``torch.nn.BatchNorm1d``."""
    same = next((at for at, (one, two) in enumerate(zip(first, other, strict=False)) if one != two), len(first))
    return other[same:] if other[same:] and same > other.rfind(".") + 1 else other
