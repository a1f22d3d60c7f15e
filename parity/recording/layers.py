"""A layer as its framework says it: what a watcher lists, and what a recording is read as."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from parity.nn.configuration import Configuration, in_common_words
from parity.trajectory import Trajectory

CALL = re.compile(r"-call\d+\Z")
"""What the name of a layer ends with where it is called again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A layer as its framework says it.

    Attributes:
        name: Its name.
        kind: Its class.
        configuration: Its settings.
        inputs: The recorded activations that it was given. While a run is watched, an entry is empty if no layer gave
            that tensor as it came.
        outputs: Those that it gave.

    Examples:
        >>> Layer(name="fc", kind="Linear", configuration={}, inputs=("input-0",), outputs=("fc",)).common.kind
        'linear'
    """

    name: str
    kind: str
    configuration: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def common(self) -> Configuration:
        """The layer in the words that frameworks share."""
        return in_common_words(self.kind, self.configuration)


def layers_of(run: Trajectory) -> Iterator[Layer]:
    """Read the layers that a recording lists; an entry that is no layer is left out."""
    said_by_run = run.meta.get("layers")
    for said in said_by_run if isinstance(said_by_run, list) else ():
        if not isinstance(said, Mapping) or not isinstance(said.get("name"), str):
            continue
        settings = said.get("configuration")
        yield Layer(
            name=said["name"],
            kind=str(said.get("kind", "")),
            configuration=settings if isinstance(settings, Mapping) else {},
            inputs=_labels(said.get("inputs")),
            outputs=_labels(said.get("outputs")) or (said["name"],),
        )


def _labels(said: Any) -> tuple[str, ...]:
    return tuple(label for label in said if isinstance(label, str) and label) if isinstance(said, list) else ()
