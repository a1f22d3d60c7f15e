"""A recorded update as a graph: what each layer gave, in order, and from which tensors it came.

Flow keeps what layers give under their names, and a function's result as the input of the layer that takes it. From
which tensors that came nobody has seen. The values tell it of a sum of two, as a residual connection is; else it is
taken to come from all that was given before and that neither a layer nor a sum took.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from parity.judging.tensors.sides import is_within
from parity.recording.layers import CALL, Layer, layers_of
from parity.recording.sketch import SIZE, sketch
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array

PREDICTION = "prediction"
WRAPS = frozenset(("return_sequences", "merge_mode", "time_major"))
"""Of the layers that call a cell in each step, Keras's and flax's have one of these settings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """What a layer gave, or what it took that no layer gave."""

    label: str
    place: int
    values: Array | None
    """None if a sketch alone was kept."""
    sketch: Array
    """(SIZE,) float64."""
    floor: float
    """How far rounding may carry its values: what shadows strayed, and a few roundings of the largest."""
    gradient: Array | None
    gradient_floor: float
    layer: Layer | None
    """The layer that gave it; None for a function's result and for what the model was given."""
    taker: Layer | None
    """The first layer that took it as it is."""
    sources: tuple[str, ...]
    """The tensors that it was made of."""
    moved: bool = False
    """Whether it holds the values of its source, at most in another order, and no layer gave it."""

    @property
    def size(self) -> int:
        """The number of its values."""
        return int(self.sketch[0])

    @property
    def constant(self) -> bool:
        """Tell whether all values are one, as far as the sketch shows: many tensors may be so, zeros above all."""
        return bool(self.sketch[3] == self.sketch[-1])


def nearest_known(edges: Callable[[str], Iterable[str]], label: str, known: Container[str]) -> list[str]:
    """Walk from a tensor along ``edges`` to the nearest ones that are known.

    Examples:
        >>> edges = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
        >>> nearest_known(edges.__getitem__, "a", {"c", "d"})
        ['c', 'd']
    """
    found: list[str] = []
    left, seen = list(edges(label)), set[str]()
    while left:
        each = left.pop()
        if each in seen:
            continue
        seen.add(each)
        if each in known:
            found.append(each)
        else:
            left += edges(each)
    return found


class Dataflow:
    """The layers and tensors of one update of a run, in the order in which they came.

    Args:
        run: The recording.
        number: Which update, from 0.
    """

    def __init__(self, run: Trajectory, number: int) -> None:
        self.layers = whole(list(layers_of(run)))
        self.dtype: str = run.meta["dtype"]
        self.run, self.number = run, number
        self._kept = self._named("activations")
        self._sketched = bool(self._kept) and all(map(_is_sketch, self._kept.values()))
        self.tensors: dict[str, Tensor] = {}
        self._makers = {label: layer for layer in self.layers for label in layer.outputs}
        self._takers: dict[str, Layer] = {}
        for layer in self.layers:
            for label in layer.inputs:
                self._takers.setdefault(label, layer)
        # Of what a recurrent layer took, its cells alone may know.
        self._untaken = {layer.name for layer in self.layers if layer.common.kind == "recurrent" and not layer.inputs}
        self._sums = self._found_sums()
        self._summed = {label for terms in self._sums.values() for label in terms}
        self._open: list[str] = []  # what was given and neither taken by a layer nor by a function
        self._alike: dict[bytes, str] = {}
        self._fill()

    @property
    def channels_first(self) -> bool:
        """Tell whether the run's framework has channels before places, as torch has."""
        return str(self.run.meta.get("implementation", "")).startswith("torch")

    @cached_property
    def params(self) -> dict[str, Array]:
        """The parameters and buffers from which the update began, by name."""
        return self._named("params")

    @cached_property
    def below(self) -> Mapping[str, list[str]]:
        """For each tensor those that were made of it."""
        found: dict[str, list[str]] = {label: [] for label in self.tensors}
        for tensor in self.tensors.values():
            for source in tensor.sources:
                found[source].append(tensor.label)
        return found

    def after(self, label: str) -> set[str]:
        """All tensors that were made of one, directly or not."""
        found: set[str] = set()
        left = [label]
        while left:
            for each in self.below[left.pop()]:
                if each not in found:
                    found.add(each)
                    left.append(each)
        return found

    def _named(self, kind: str) -> dict[str, Array]:
        prefix = f"{self.number}/{kind}/"
        names = [name for name in self.run.steps if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.run.steps[name] for name in names}

    def _fill(self) -> None:
        gradients = self._named("activation_gradients")
        batch = self.run.steps.get(f"{self.number}/batch")
        for number, row in enumerate(() if batch is None else batch):
            label = f"input-{number}"
            if (label in self._takers or self._untaken) and label not in self._kept:
                self._add(label, None, np.asarray(row), None, ())
        for place, layer in enumerate(self.layers):
            for label in (*layer.inputs, *layer.outputs):
                if label in self.tensors or label not in self._kept:
                    continue
                value = self._kept[label]
                whole = None if self._sketched else value
                summed = value.astype(np.float64) if self._sketched else sketch(value)
                given = label in self._makers
                terms = self._sums.get(label, ())
                sources = self._made_of(place, layer) if given else [] if terms else self._function_of(summed)
                self._add(label, whole, summed, gradients.get(label), [*sources, *terms])
        said = self.run.steps.get(f"{self.number}/prediction")
        if said is not None and said.size and self.tensors and (summed := sketch(said)).tobytes() not in self._alike:
            self._add(PREDICTION, said, summed, None, self._function_of(summed))

    def _found_sums(self) -> dict[str, tuple[str, str]]:
        """The results of functions, and of layers of no known kind, that are the sum of two tensors before them."""
        found: dict[str, tuple[str, str]] = {}
        if self._sketched:
            return found
        labels = dict.fromkeys(label for layer in self.layers for label in (*layer.inputs, *layer.outputs))
        alike: dict[tuple[int, ...], list[str]] = {}
        for label in labels:
            if label in self._kept and self._kept[label].dtype.kind == "f" and self._kept[label].size > 1:
                alike.setdefault(self._kept[label].shape, []).append(label)
        for same in alike.values():
            found |= sums({label: self._kept[label] for label in same}, self.dtype, self._may_add)
        return found

    def _may_add(self, label: str) -> bool:
        return label not in self._makers or self._makers[label].common.kind in ("", "add")

    def tensor(self, label: str, values: Array) -> Tensor:
        """Make a tensor of values that no layer gave, with the noise floor that the update has under its label."""
        summed = sketch(values)
        return Tensor(
            label=label,
            place=len(self.tensors),
            values=values,
            sketch=summed,
            floor=self._floor(label, summed[3:]),
            gradient=None,
            gradient_floor=0.0,
            layer=None,
            taker=None,
            sources=(),
        )

    def _add(
        self, label: str, values: Array | None, summed: Array, gradient: Array | None, sources: Sequence[str]
    ) -> None:
        self.tensors[label] = Tensor(
            label=label,
            place=len(self.tensors),
            values=values,
            sketch=summed,
            floor=self._floor(PREDICTION if label == PREDICTION else f"activations/{label}", summed[3:]),
            gradient=gradient,
            gradient_floor=self._floor(f"activation_gradients/{label}", gradient),
            layer=self._makers.get(label),
            taker=self._takers.get(label),
            sources=tuple(dict.fromkeys(source for source in sources if source in self.tensors)),
            moved=label not in self._makers and list(sources) == [self._alike.get(summed.tobytes())],
        )
        if label not in self._takers and label not in self._summed:
            self._open.append(label)
        if summed[3] != summed[-1]:
            self._alike.setdefault(summed.tobytes(), label)

    def _made_of(self, place: int, layer: Layer) -> list[str]:
        """What a layer's output was made of: what it took, and what those within it gave to none."""
        within = self._within(place, layer)
        last = place == len(self.layers) - 1 and not any(label in self.tensors for label in layer.inputs)
        last = last or layer.name in self._untaken
        claimed = [label for label in self._open if last or self._makers.get(label) in within]
        self._open = [label for label in self._open if label not in claimed]
        return [*layer.inputs, *claimed]

    def _within(self, place: int, layer: Layer) -> list[Layer]:
        base, found = CALL.sub("", layer.name), []
        for other in reversed(self.layers[:place]):
            name = CALL.sub("", other.name)
            if name == base:
                break
            if is_within(name, base):
                found.append(other)
        return found

    def _function_of(self, summed: Array) -> list[str]:
        """What a function's result was made of, as far as the order tells."""
        same = self._alike.get(summed.tobytes())
        if same is not None:  # the same values, perhaps in another shape
            self._open = [label for label in self._open if label != same]
            return [same]
        claimed, self._open = self._open, []
        return claimed or list(self.tensors)[-1:]

    def _floor(self, name: str, values: Array | None) -> float:
        strayed = self.run.steps.get(f"{self.number}/strays/{name}")
        least = 0.0 if values is None else least_floor(largest(values), self.dtype)
        return float(np.max(() if strayed is None else strayed[np.isfinite(strayed)], initial=least))


def kind_of(tensor: Tensor) -> str:
    """The common kind of the layer that gave a tensor; empty if none did, or it has no common word."""
    return tensor.layer.common.kind if tensor.layer is not None else ""


def whole(layers: list[Layer]) -> list[Layer]:
    """Leave out the cells within recurrent layers: a layer that another framework has whole is compared whole.

    What wraps such a layer, as ``Bidirectional`` does, has its settings.

    Args:
        layers: The layers of a run, in order.

    Returns:
        The layers without those within ``RNN``, ``GRU`` and their like of Keras and flax.
    """
    hidden: set[int] = set()
    found = []
    for layer in layers:
        inside = []
        if layer.common.kind == "recurrent" and WRAPS & layer.configuration.keys():
            base = CALL.sub("", layer.name)
            inside = [other for other in layers if is_within(other.name, base)]
        cells = [other for other in inside if other.common.kind == "recurrent"]
        cores = {CALL.sub("", cell.name) for cell in cells}
        if cells and all(o in cells or any(is_within(o.name, core) for core in cores) for o in inside):
            hidden |= set(map(id, inside))
            if layer.kind in ("RNN", "Bidirectional"):
                wrapped = {k: v for k, v in cells[-1].configuration.items() if k != "go_backwards"}
                layer = replace(layer, configuration={"mode": cells[-1].kind, **wrapped, **layer.configuration})
        found.append((id(layer), layer))
    return [layer for number, layer in found if number not in hidden]


@np.errstate(all="ignore")  # a recording may hold any numbers
def sums(tensors: Mapping[str, Array], dtype: str, may: Callable[[str], bool]) -> dict[str, tuple[str, str]]:
    """Find the tensors that are the sum of two before them.

    One number of each, its product with random ones, adds up as the tensors do: it finds candidates, all values prove
    them.

    Args:
        tensors: Tensors of one shape, in the order in which they came.
        dtype: The dtype in which they were added.
        may: Whether a tensor may be a sum.

    Returns:
        The two terms of each sum, by its name; the latest ones if several fit.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 5))
        >>> sums({"x": x, "y": y, "z": x + y}, "float64", lambda label: label == "z")
        {'z': ('x', 'y')}
    """
    labels = [label for label, values in tensors.items() if np.isfinite(values).all() and np.ptp(values)]
    if len(labels) < 3:
        return {}
    signs = np.random.default_rng(0).normal(size=tensors[labels[0]].shape)
    marks = np.array([float(np.sum(tensors[label] * signs)) for label in labels])
    sizes, weight = [largest(tensors[label]) for label in labels], float(np.sum(np.abs(signs)))
    found = {}
    for place, label in enumerate(labels):
        if not may(label):
            continue
        wide = [FACTOR * least_floor(max(size, sizes[place]), dtype) for size in sizes[:place]]
        before, order = marks[:place], np.argsort(marks[:place])
        reach = max(wide, default=0.0) * weight
        starts = np.searchsorted(before[order], marks[place] - before - reach, "left")
        stops = np.searchsorted(before[order], marks[place] - before + reach, "right")
        for i in reversed(np.flatnonzero(starts < stops).tolist()):
            rest = tensors[label].astype(np.float64) - tensors[labels[i]]
            partners = sorted((int(j) for j in order[starts[i] : stops[i]] if j < i), reverse=True)
            allowed = [max(wide[i], wide[j]) for j in partners]
            held = zip(partners, allowed, strict=True)
            other = next((j for j, least in held if np.max(np.abs(rest - tensors[labels[j]])) <= least), None)
            if other is not None:
                found[label] = labels[other], labels[i]
                break
    return found


def _is_sketch(values: Array) -> bool:
    """Tell whether an array may be a sketch, which begins with a count."""
    return values.shape == (SIZE,) and bool(np.isfinite(values[0]) and values[0] >= 0 and values[0] % 1 == 0)


def largest(values: Array) -> float:
    """The largest magnitude among the values that are finite."""
    finite = np.abs(values[np.isfinite(values)], dtype=np.float64)
    return float(np.max(finite, initial=0.0))
