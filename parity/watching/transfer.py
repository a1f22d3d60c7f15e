"""Carry the initial weights of one framework's model into another's: by kind, shape, names and order."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.judging.tensors.correspondence import Correspondence, How, Pairing
from parity.judging.tensors.sides import layer_of, natural
from parity.layout import Slot, to_canonical, to_framework
from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.recording.tensors import as_array, flat
from parity.typing import Array

TORCH = {"Linear": (1, 0), "Conv1d": (2, 1, 0), "Conv2d": (3, 2, 0, 1), "Conv3d": (4, 3, 0, 1, 2), "Embedding": (0, 1)}
"""The axes of torch's kernels, by kind of layer, as axes of the others' kernels (..., in, out)."""
ROLES = {
    "kernel": "weight", "embedding": "weight", "embeddings": "weight", "gamma": "weight", "scale": "weight",
    "beta": "bias", "running_mean": "mean", "moving_mean": "mean", "running_var": "var", "moving_variance": "var",
}  # fmt: skip
"""What frameworks call a tensor of a layer, in one word each."""
SAME = {"linear": "dense", "embed": "embedding"}
"""What frameworks call a layer, in one word each."""
STATISTICS = ("mean", "var")
"""What a model may keep elsewhere than its weights, as flax does."""


@dataclass
class Model:
    """A model's tensors by name, and how one is set."""

    tensors: dict[str, Array]
    put: Callable[[str, Array], None]
    kinds: Mapping[str, str] = field(default_factory=dict)
    """The kind of each layer, as far as the framework says it."""
    turned: bool = False
    """Whether the framework has kernels (out, in)."""

    def axes(self, name: str) -> tuple[int, ...] | None:
        """The axes of a kernel as those of (..., in, out); ValueError where its layer is of no known kind."""
        value = self.tensors[name]
        if not self.turned or value.ndim < 2:
            return None
        kind = self.kinds.get(layer_of(name), "")
        if kind not in TORCH:
            raise ValueError(
                f"{name} is of a {kind or 'layer'} whose axes are not known: leave it out, and set it yourself"
            )
        return TORCH[kind]


def transfer(source: Any, into: Any) -> Correspondence:
    """Set a model's initial weights to those of another framework's.

    No values tell yet which tensor is which. Shapes do, as far as they differ; then names; then the numbers in names,
    as those of ``h.0`` and ``h.1``. Only a forward pass of both models tells whether it was right: a layer behind
    ``flatten`` takes its inputs in another order where images are (height, width, channels).

    Args:
        source: Where the weights are: a recording's folder, a mapping of names to tensors, a torch module, a tree of
            flax's parameters, or a Keras model.
        into: Where they go: a torch module, a tree of flax's parameters in dictionaries, or a Keras model.

    Returns:
        Which tensor is which, unproven.

    Raises:
        ValueError: If shapes, names and order leave open which tensor is which. Nothing is set then.
        TrajectoryError: If a recording cannot be read.

    Examples:
        >>> import torch
        >>> from parity import transfer
        >>> params = {"Dense_0": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}}
        >>> layer = torch.nn.Sequential(torch.nn.Linear(2, 3))
        >>> transfer(layer, into=params).sentence
        '2 of 2 tensors matched; not proven: 0.bias, 0.weight'
        >>> bool(np.array_equal(params["Dense_0"]["kernel"], layer[0].weight.detach().numpy().T))
        True
    """
    given, taken = _model(source), _model(into)
    pairings = []
    for ours, theirs in _pairs(given, taken):
        one, other = Slot(theirs, ours, axes=given.axes(ours)), Slot(theirs, theirs, axes=taken.axes(theirs))
        pairings.append(Pairing((one,), (other,), How.ORDER))
    found = Correspondence(tuple(pairings))
    values = to_framework(found.theirs, to_canonical(found.ours, given.tensors))
    for name, value in values.items():
        taken.put(name, value)
    return found


def _model(model: Any) -> Model:
    """A model's tensors; ValueError if it is none."""
    if isinstance(model, str | os.PathLike):
        run = read(model)
        kinds = {layer.name: layer.kind for layer in layers_of(run)}
        tensors = {name: np.asarray(stack[0]) for name, stack in run.params.items()}
        return Model(tensors, _refuse, kinds, str(run.meta.get("implementation", "")).startswith("torch"))
    if hasattr(model, "named_parameters"):
        held = dict(model.named_parameters()) | {
            name: value for name, value in model.named_buffers() if value.is_floating_point()
        }
        kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        return Model(
            {name: as_array(value) for name, value in held.items()},
            lambda name, value: held[name].data.copy_(held[name].new_tensor(value)),
            kinds,
            turned=True,
        )
    if isinstance(model, Mapping):
        tensors = {name: as_array(value) for name, value in flat(model, "weights")}
        return Model(tensors, lambda name, value: _set(model, name, value))
    if hasattr(model, "variables"):
        variables = {v.path.removeprefix(f"{model.name}/"): v for v in model.variables if "float" in str(v.dtype)}
        return Model({n: as_array(v) for n, v in variables.items()}, lambda name, value: variables[name].assign(value))
    raise ValueError(
        f"weights are carried from and to a torch module, a Keras model or a tree of flax's parameters, not a "
        f"{type(model).__name__}"
    )


def _refuse(name: str, value: Array) -> None:
    raise ValueError("a recording stays as it is: weights go into a model")


def _set(tree: Any, name: str, value: Array) -> None:
    """Set a leaf of nested dictionaries, by its name as ``flat`` gives it, to a value of its own dtype."""
    for key, inner in tree.items():
        if str(key) == name:
            if not isinstance(tree, MutableMapping):
                raise ValueError(f"{name} is in a tree that cannot be changed: hand over one of dictionaries")
            tree[key] = inner.at[...].set(value) if hasattr(inner, "at") else np.asarray(value, inner.dtype)
            return
        if isinstance(inner, Mapping) and name.startswith(f"{key}/"):
            _set(inner, name.removeprefix(f"{key}/"), value)
            return


def _pairs(given: Model, taken: Model) -> Iterator[tuple[str, str]]:
    """Which tensor is which; ValueError if that is open."""
    ours, theirs = _alike(given), _alike(taken)
    for key in sorted(ours.keys() | theirs.keys()):
        some, others = ours.get(key, []), theirs.get(key, [])
        if key[0] in STATISTICS and not (some and others):
            continue
        if len(some) != len(others):
            lists = (", ".join(sorted(names, key=natural)[:4]) or "none" for names in (some, others))
            raise ValueError(f"of shape {key[1]} the source has {len(some)} ({next(lists)}), the model {len(others)} "
                             f"({next(lists)}): which is which cannot be told")  # fmt: skip
        yield from _in_order(given, some, taken, others)


def _alike(model: Model) -> dict[tuple[str, tuple[int, ...]], list[str]]:
    """Names by what the tensor is of its layer, and its shape in the order (..., in, out)."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for name, value in model.tensors.items():
        axes = model.axes(name)
        shape = value.shape if axes is None else tuple(value.shape[axes.index(axis)] for axis in range(value.ndim))
        role = name[len(layer_of(name)) :].strip("/.")
        found[ROLES.get(role, role), shape].append(name)
    return found


def _in_order(given: Model, some: Sequence[str], taken: Model, others: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair names that differ by numbers alone, in the order of these; other names by the words that they share."""
    mine, theirs = _patterns(given, some), _patterns(taken, others)
    if len(mine) == len(theirs) == 1:
        yield from zip(sorted(some, key=natural), sorted(others, key=natural), strict=True)
        return
    for pattern, names in mine.items():
        fits = [other for other in theirs if pattern & other - _common(theirs)]
        back = [one for one in mine if len(fits) == 1 and one & fits[0] - _common(mine)]
        if len(fits) != 1 or back != [pattern] or len(names) != len(theirs[fits[0]]):
            lists = " and ".join(", ".join(sorted(each, key=natural)[:6]) for each in (some, others))
            raise ValueError(f"which is which cannot be told, for they have one shape: {lists}")
        yield from zip(names, theirs[fits[0]], strict=True)


def _patterns(model: Model, names: Sequence[str]) -> dict[frozenset[str], list[str]]:
    """Names by the words of the layer's name and kind, each list in the order of the numbers in them."""
    found: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in sorted(names, key=natural):
        said = f"{layer_of(name)} {model.kinds.get(layer_of(name), '')}"
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", said) if len(word) > 1]
        found[frozenset(SAME.get(word, word) for word in words)].append(name)
    return found


def _common(patterns: Mapping[frozenset[str], Any]) -> frozenset[str]:
    """The words that tell nothing, because all names have them."""
    return frozenset.intersection(*patterns) if len(patterns) > 1 else frozenset()
