"""Which layer gave which tensor: the one account of an update's layers, whatever framework calls them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from parity.nn.configuration import BASE, is_known
from parity.recording.layers import Layer

FRAMEWORKS = ("torch", "keras", "flax")
"""The packages whose classes of layers are known by their names."""

PREDICTIONS = ("logits", "prediction", "last_hidden_state")
"""Of a model's named outputs, the first of these is its prediction; else its first tensor of floats."""
COLLECTIONS = ("params", "batch_stats")
"""Flax's words for what holds variables. They say nothing that a parameter's own name does not."""


class Flow:
    """The layers of one update, in the order in which they end.

    A layer that is called again is another, ``-call2`` behind its name; of several outputs the second is ``-out1``. A
    tensor that came from no layer, as a function's result, is kept as the input of the layer that takes it: ``-in0``.

    Args:
        keep: Keeps a tensor's numbers, and its gradient's, under a name; returns what goes on in its place.
        key: What tells tensors apart for as long as they live.
    """

    def __init__(self, keep: Callable[[Any, str], Any], key: Callable[[Any], Hashable] = id) -> None:
        self.found: list[Layer] = []
        self._keep, self._key = keep, key
        self._names: dict[Hashable, str] = {}
        self._alive: list[Any] = []  # or another tensor could be taken for one that is gone
        self._calls: dict[str, int] = {}

    def call(self, name: str, leaf: bool) -> Call:
        """Begin a call of a layer; a ``leaf`` has none within it."""
        count = self._calls[name] = self._calls.get(name, 0) + 1
        return Call(self, name if count == 1 else f"{name}-call{count}", leaf)

    def known(self, tensor: Any) -> str | None:
        """What a tensor is called, if it has a name."""
        return self._names.get(self._key(tensor))

    def name(self, tensor: Any, name: str) -> None:
        """Call a tensor so."""
        self._names[self._key(tensor)] = name
        self._alive.append(tensor)

    def kept(self, tensor: Any, name: str) -> Any:
        """Keep a tensor under a name; returns what goes on in its place."""
        found = self._keep(tensor, name)
        self.name(found, name)
        return found

    def close(self) -> None:
        """Let go of the tensors."""
        self._names, self._alive = {}, []


class Call:
    """One call of a layer: what it takes, and then what it gives."""

    def __init__(self, flow: Flow, label: str, leaf: bool) -> None:
        self.label, self.inputs, self.outputs = label, list[str](), list[str]()
        self._flow, self._leaf, self._new = flow, leaf, False

    def taken(self, tensor: Any) -> Any:
        """Note a tensor of floats that the layer takes; returns what it is to take."""
        known = self._flow.known(tensor)
        if known is None and self._leaf:
            known = f"{self.label}-in{len(self.inputs)}"
            tensor = self._flow.kept(tensor, known)
        self.inputs.append(known or "")
        return tensor

    def given(self, tensor: Any) -> Any:
        """Note a tensor of floats that the layer gives; returns what it is to give."""
        known = self._flow.known(tensor)
        if known is None:
            known = f"{self.label}-out{len(self.outputs)}" if self.outputs else self.label
            tensor, self._new = self._flow.kept(tensor, known), True
        self.outputs.append(known)
        return tensor

    def end(self, kind: str, configuration: dict[str, Any]) -> None:
        """List the layer, unless it hands on what one within it gave."""
        if self._new:
            self._flow.found.append(
                Layer(
                    name=self.label,
                    kind=kind,
                    configuration=configuration,
                    inputs=tuple(self.inputs),
                    outputs=tuple(self.outputs),
                )
            )


def base_of(kind: type) -> dict[str, str]:
    """Say as a setting which class of a framework's own a user's class is derived from, if that is of a known kind.

    Args:
        kind: The class of a layer.

    Returns:
        The setting; empty for a class whose name says what it is, and for one that is derived from none such.
    """
    if is_known(kind.__name__):
        return {}
    own = (each for each in kind.__mro__[1:] if each.__module__.partition(".")[0] in FRAMEWORKS)
    found = next((each.__name__ for each in own if is_known(each.__name__)), None)
    return {} if found is None else {BASE: found}


def as_written(scalar: Any) -> Any:
    """Give a scalar array as Python's number, a float as it was written.

    >>> as_written(np.float32(0.05)), as_written(np.array(3))
    (0.05, 3)
    """
    plain = np.asarray(scalar)
    return float(str(plain)) if plain.dtype.kind == "f" else plain.item()


def as_plain(value: Any, other: Callable[[Any], Any] = lambda value: None) -> Any:
    """Give a setting as JSON can hold it; of a framework's own kinds what ``other`` says, None if it is none.

    >>> as_plain((1, 0.5)), as_plain(float("inf")), as_plain(object())
    ([1, 0.5], 'inf', None)
    """
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(value)
    if isinstance(value, tuple | list):
        found = [as_plain(each, other) for each in value]
        return None if None in found else found
    return other(value)
