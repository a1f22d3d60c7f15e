"""One side of a correspondence: a run's tensors as it begins, and what else tells tensors apart that begin equal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from parity.dtypes import coarsest, rounded
from parity.judging.tensors.fingerprint import Fingerprint, fingerprint, telling
from parity.judging.tensors.slots import Tensor
from parity.recording.layers import layers_of
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array

UPDATES = 3
"""The gradients of so many first updates are asked, and so many first snapshots."""


def is_within(name: str, block: str) -> bool:
    """Say whether a tensor or a layer lies within a block, by its path.

    >>> is_within("h.1.mlp", "h.1"), is_within("h.11.mlp", "h.1")
    (True, False)
    """
    return name.startswith((f"{block}/", f"{block}."))


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor's numbers at one place of a run, flattened, and how far another right run's may be from them."""

    values: Array
    allowed: float
    moved: bool
    """Whether the numbers are more than rounding."""


@dataclass(frozen=True, eq=False)
class Side:
    """The tensors of one side.

    Attributes:
        initial: What the run begins with, by name.
        dtype: The name of the dtype that values are rounded to before they are compared.
        untrained: The names of the tensors that no optimizer trains, as far as known.
        run: The run itself, if there is one.
        layers: The names of its layers in the order in which they run, if they are known.
    """

    initial: Mapping[str, Array]
    dtype: str
    untrained: frozenset[str] = frozenset()
    run: Trajectory | None = None
    layers: Sequence[str] = ()
    _known: dict[str, tuple[Fingerprint, bool]] = field(default_factory=dict, repr=False)

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors."""
        return [Tensor(name, tuple(value.shape)) for name, value in self.initial.items()]

    @cached_property
    def order(self) -> dict[str, int]:
        """When each layer runs, by its name."""
        return {name: place for place, name in reversed(list(enumerate(self.layers)))}

    def values(self, tensor: Tensor) -> Array:
        """Give what a tensor begins with, flattened and rounded to the dtype of the comparison."""
        value = self.initial[tensor.name]
        return rounded(np.asarray(value if tensor.index is None else value[tensor.index]), self.dtype).reshape(-1)

    def fingerprint(self, tensor: Tensor) -> Fingerprint:
        """Sum its values up."""
        return self._about(tensor)[0]

    def telling(self, tensor: Tensor) -> bool:
        """Say whether its values tell its places apart."""
        return self._about(tensor)[1]

    def _about(self, tensor: Tensor) -> tuple[Fingerprint, bool]:
        key = f"{tensor.name}[{tensor.index}]"
        if key not in self._known:
            values = self.values(tensor)
            self._known[key] = fingerprint(values), telling(values)
        return self._known[key]

    def trained(self, name: str) -> bool:
        """Say whether an optimizer trains the tensor, as far as the run says."""
        return name not in self.untrained

    def seen(self, name: str) -> dict[str, Seen]:
        """Give the tensor's first gradients and its first snapshots after the beginning, by place."""
        run = self.run
        if run is None:
            return {}
        found: dict[str, Seen] = {}
        for number in range(UPDATES):
            gradient = run.steps.get(f"{number}/gradients/{name}")
            if gradient is not None and gradient.shape == self.initial[name].shape:
                strays = run.steps.get(f"{number}/strays/gradients/{name}")
                strayed = 0.0 if strays is None else float(np.max(strays, initial=0.0))
                found[f"gradient of update {number}"] = self._seen(gradient, strayed)
        for place in range(1, min(len(run.epochs), UPDATES + 1)):
            after, before = np.asarray(run.params[name][place]), np.asarray(self.initial[name])
            here = self._seen(after, 0.0)
            moved = float(np.max(np.abs(after.astype(np.float64) - before), initial=0.0)) > here.allowed
            found[f"epoch {run.epochs[place]}"] = Seen(here.values, here.allowed, moved)
        return found

    def _seen(self, values: Array, strayed: float) -> Seen:
        assert self.run is not None
        flat = values.reshape(-1).astype(np.float64)
        largest = float(np.max(np.abs(flat), initial=0.0))
        coarser = coarsest(self.dtype, self.run.meta["dtype"])
        allowed = FACTOR * max(float(least_floor(largest, coarser)), strayed if np.isfinite(strayed) else 0.0)
        return Seen(flat, allowed, largest > allowed)


def side_of(run: Trajectory, dtype: str) -> Side:
    """Make a side of a run; values are rounded to ``dtype``, the coarser of both runs."""
    first = [name.removeprefix("0/gradients/") for name in run.steps if name.startswith("0/gradients/")]
    buffers = run.meta.get("buffers")
    untrained = set(run.params) - set(first) if first else {str(name) for name in buffers or ()}
    return Side(
        {name: np.asarray(stack[0]) for name, stack in run.params.items()},
        dtype,
        frozenset(untrained),
        run,
        [layer.name for layer in layers_of(run)],
    )


def layer_of(name: str) -> str:
    """The layer in a tensor's name: all but its last part.

    >>> layer_of("layer1.0.bn1.weight"), layer_of("Dense_0/kernel"), layer_of("kernel")
    ('layer1.0.bn1', 'Dense_0', '')
    """
    return name[: max(name.rfind("/"), name.rfind("."), 0)]


def ancestors(layer: str) -> list[str]:
    """A layer's name and those of all that it is in, the innermost first, the whole model last.

    >>> ancestors("h.0.attn")
    ['h.0.attn', 'h.0', 'h', '']
    """
    found = [layer]
    while found[-1]:
        found.append(layer_of(found[-1]))
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by, so that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
