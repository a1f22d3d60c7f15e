"""The call of a layer as a recording has it, in the words of ``parity.nn``: settings, parameters, input and output.

A recording says neither how a framework's tensors lie nor in which layer a parameter is. Here are the few ways in which
it may be. Which of them is right the replay proves: it gives the numbers that the layer gave, or it is not the layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.dataflow import Dataflow, Tensor
from parity.nn.configuration import ACTIVATIONS
from parity.nn.layers import FUNCTIONS, FUSED, Call
from parity.recording.layers import CALL, Layer
from parity.tolerance import FACTOR
from parity.typing import Array, Params

SPATIAL = frozenset(
    (
        *("conv", "conv_transpose", "max_pool", "average_pool", "global_average_pool"),
        *("batch_norm", "group_norm", "instance_norm", "response_norm", "upsample"),
    )
)
"""The kinds whose channels come first in torch."""
ROLES: Mapping[str, str] = {
    "gamma": "scale", "scale": "scale", "beta": "bias", "bias": "bias", "kernel": "kernel", "embedding": "table",
    "embeddings": "table", "table": "table", "running_mean": "mean", "moving_mean": "mean", "mean": "mean",
    "running_var": "variance", "moving_variance": "variance", "var": "variance", "variance": "variance",
    "alpha": "slope", "negative_slope": "slope",
}  # fmt: skip
"""What frameworks call a tensor of a layer. torch's ``weight`` depends on the layer."""
RECURRENT: Mapping[str, str] = {
    "weight_ih_l0": "kernel", "weight_hh_l0": "recurrent_kernel", "bias_ih_l0": "bias", "bias_hh_l0": "recurrent_bias",
    "kernel": "kernel", "recurrent_kernel": "recurrent_kernel", "bias": "bias",
}  # fmt: skip
"""What torch and Keras call a recurrent layer's tensors. flax has a kernel for each gate."""
WEIGHT: Mapping[str, str] = {"embedding": "table", "prelu": "slope", "linear": "kernel", "conv": "kernel"}
GUESSED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(("gelu", {"approximate": approximate}) for approximate in (False, True)),
    *((kind, {}) for kind in ("gelu_sigmoid", "relu", "relu6", "silu", "tanh", "sigmoid", "hard_sigmoid")),
    *((kind, {}) for kind in ("hard_swish", "elu", "selu", "mish", "softplus", "softmax", "log_softmax", "identity")),
    *(("leaky_relu", {"negative_slope": slope}) for slope in (0.01, 0.1, 0.2, 0.3)),
    *(("positions", {"interleaved": interleaved}) for interleaved in (True, False)),
)
"""What a function without a layer may be, with its settings: an activation, or positions that are added."""
MOST, FEW = 400_000, 20_000
"""Of so many values a replay is made; where a layer gave more, some of its examples or channels stand for all. Of a
function that gives each value a new one, a few tell."""
PRODUCTS = 20_000_000
"""A convolution is replayed for as many channels as so many products give."""
OVER_AXES = frozenset(("softmax", "log_softmax"))
UNFIT = (ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError)
"""What NumPy raises where a layer has other parameters or settings than its function. A recording may say anything."""
LAYERS = 24
"""Of so many layers of fitting shapes the parameters are tried, where no name says which are a layer's own."""


@dataclass(frozen=True)
class Taken:
    """What a layer or a function took and gave, as a recording has it.

    Attributes:
        flow: The update.
        side: Of which run, 0 or 1.
        layer: The layer; None for a function.
        inputs: What it took.
        output: What it gave.
        floor: The noise floor of the output.
        strayed: The noise floor of the first input.
        padded: What a layer before it adds around the first input, which is not in that input then.
        between: What it may be if it lies between projections: ``attend`` or ``gated``; empty if it does not.
    """

    flow: Dataflow
    side: int
    layer: Layer | None
    inputs: tuple[Array, ...]
    output: Array
    floor: float
    strayed: float = 0.0
    padded: Any = None
    between: str = ""

    def takes_the_same(self, other: Taken) -> bool:
        """Tell whether the first inputs hold the same values, in whatever order."""
        one, two = (np.sort(taken.inputs[0], None).astype(np.float64) for taken in (self, other))
        allowed = FACTOR * max(self.strayed, other.strayed)
        return one.shape == two.shape and bool(np.all(np.abs(one - two) <= allowed))

    def seen(self, call: Call) -> Seen:
        """Say what was taken and given, as a call of a kind would have it; its own inputs count for nothing."""
        turned = self.flow.channels_first and call.kind in SPATIAL
        inputs = tuple(_wide(one, turned) for one in self.inputs)
        if call.kind == "embedding":  # nobody recorded which rows were taken
            inputs = call.inputs
        if call.kind == "recurrent" and call.settings.get("time_major"):
            inputs = tuple(np.swapaxes(one, 0, 1) for one in inputs)
            output = self.output.astype(np.float64)
            output = output if call.settings.get("last") else np.swapaxes(output, 0, 1)
            return Seen(replace(call, inputs=inputs), output, self.floor)
        return _cut(Seen(replace(call, inputs=inputs), _wide(self.output, turned), self.floor))


@dataclass(frozen=True)
class Seen:
    """A call that a recording may hold, and what came of it.

    Attributes:
        call: The call, channels last.
        output: What was given, channels last.
        floor: The noise floor of it.
    """

    call: Call
    output: Array
    floor: float

    def floors(self, output: Array | None) -> float:
        """How far another output is from what was given, in noise floors."""
        return floors_apart(output, self.output, self.floor)


def floors_apart(one: Array | None, other: Array, floor: float) -> float:
    """How far two arrays are from each other, in noise floors; infinite without one, or with another shape."""
    if one is None or one.shape != other.shape:
        return np.inf
    far = float(np.max(np.abs(one - other), initial=0.0)) / floor
    return far if np.isfinite(far) else np.inf


def taken(flow: Dataflow, side: int, tensor: Tensor, members: Sequence[Layer] = ()) -> Taken | None:
    """Say what the layer or the function took that gave a tensor.

    Args:
        flow: The update.
        side: Of which run, 0 or 1.
        tensor: What was given.
        members: The layer before, if the tensor is of an activation that the other run has within that layer.

    Returns:
        It; None if numbers were not recorded, or are not finite.
    """
    layer = members[0] if members else tensor.layer
    labels: Sequence[str] = layer.inputs if layer is not None else tensor.sources
    if layer is not None and layer.common.kind == "recurrent":
        labels = labels[:1]  # states come behind
    whole = layer is not None and layer.common.kind == "embedding"
    before = flow.tensors[labels[0]].layer if labels and labels[0] in flow.tensors else None
    padded = None
    if before is not None and before.common.kind == "pad" and before.kind.startswith("ZeroPad") and before.inputs:
        padded, labels = before.common.settings.get("padding"), before.inputs
    values = [flow.tensors[label].values if label in flow.tensors else None for label in labels]
    inputs = [one for one in values if one is not None and one.dtype.kind == "f"]
    if tensor.values is None or len(inputs) != len(values) or (layer is None and len(inputs) > 1):
        return None
    if not inputs and not whole:
        return None
    if not all(np.isfinite(one).all() for one in (*inputs, tensor.values)):
        return None
    if not tensor.floor:
        return None
    strayed = flow.tensors[labels[0]].floor if labels else 0.0
    return Taken(flow, side, layer, tuple(inputs), tensor.values, tensor.floor, strayed, padded)


def calls_of(alignment: Alignment, found: Taken, partner: Layer | None) -> Iterator[Seen]:
    """List the calls that may have made what a layer or a function gave.

    Args:
        alignment: The tensors of both runs.
        found: What was taken and given.
        partner: The layer of the other run that is the same.

    Yields:
        Each call that its framework's words leave possible, the likeliest first.
    """
    layer = found.layer
    kind = layer.common.kind if layer is not None else ""
    if layer is None or kind in ("", "activation"):
        if found.inputs[0].shape == found.output.shape:
            for guess, settings in GUESSED:
                yield found.seen(Call(kind=guess, settings=settings))
        return
    if kind not in FUNCTIONS:
        return
    bare = Seen(Call(kind=kind, inputs=found.inputs), found.output, found.floor)
    if found.inputs and kind != "recurrent":
        bare = found.seen(Call(kind=kind))
    for settings in _settings(layer):
        if found.padded is not None:
            settings["padding"] = found.padded
        if _beyond(settings, found):
            continue
        if kind == "recurrent" and found.output.ndim == 2:
            settings["last"] = True
        if kind == "upsample":
            shape = found.output.shape
            settings["output_size"] = shape[2:] if found.flow.channels_first else shape[1:-1]
        if kind == "global_average_pool":
            settings["keepdims"] = found.output.ndim == found.inputs[0].ndim
        for params in _params(alignment, found, partner, bare):
            call = Call(kind=kind, settings=settings, params=params)
            if kind == "embedding":
                rows = _rows(params.get("table"), found)
                if rows is None:
                    continue
                call = replace(call, inputs=(rows,))
            if kind == "dropout" and np.any(found.output == 0):
                call = call.holding(mask=_wide(found.output, False) != 0)
            yield found.seen(call)


def _rows(table: Array | None, found: Taken) -> Array | None:
    """Which rows of a table were taken, by what they gave; None if one gave no row of it."""
    output = found.output.astype(np.float64)
    if table is None or table.ndim != 2 or not output.ndim or output.shape[-1] != table.shape[1] or not len(table):
        return None
    signs = np.random.default_rng(0).normal(size=table.shape[1])
    marks, given = table @ signs, output @ signs
    order = np.argsort(marks)
    places = np.clip(np.searchsorted(marks[order], given), 1, max(1, len(order) - 1))
    near = np.stack([order[places - 1], order[np.minimum(places, len(order) - 1)]])  # (2, ...)
    rows = np.take_along_axis(near, np.abs(marks[near] - given).argmin(0)[None], 0)[0]
    return rows if np.max(np.abs(table[rows] - output), initial=0.0) <= FACTOR * found.floor else None


def _wide(values: Array, turned: bool) -> Array:
    """An array in float64, its channels last."""
    wide = values.astype(np.float64)
    return np.moveaxis(wide, 1, -1) if turned and wide.ndim > 2 else wide


def _settings(layer: Layer) -> Iterator[dict[str, Any]]:
    """The settings that a layer may have, with what its framework says of this kind alone."""
    kind, said, settings = layer.common.kind, layer.configuration, dict(layer.common.settings)
    if kind in ("layer_norm", "rms_norm"):
        shape = said.get("normalized_shape", said.get("axis", said.get("reduction_axes", -1)))
        settings["axes"] = len(shape) if isinstance(shape, list) else 1
        settings.setdefault("epsilon", 1e-6)
        # torch's RMSNorm takes what a number of its dtype is accurate to, unless one says an epsilon.
        if kind == "rms_norm" and "epsilon" not in layer.common.settings and "normalized_shape" in said:
            yield settings | {"epsilon": float(np.finfo(np.float32).eps)}
            yield settings | {"epsilon": float(np.finfo(np.float64).eps)}
            return
    if kind in ("softmax", "log_softmax"):
        axis = said.get("dim", said.get("axis", -1))
        settings["axis"] = axis if isinstance(axis, int) else -1
    if kind == "softplus" and isinstance(said.get("beta"), int | float):
        settings["beta"] = float(said["beta"])
    if kind == "batch_norm" and "uses_running_statistics" not in settings:
        yield settings | {"uses_running_statistics": False}
        yield settings | {"uses_running_statistics": True}
        return
    if kind == "average_pool":
        settings["count_padding"] = said.get("count_include_pad", False) is True
    if kind in ("max_pool", "average_pool"):
        settings["ceil_mode"] = said.get("ceil_mode", False) is True
    if kind == "glu":
        settings["axis"] = said["dim"] if isinstance(said.get("dim"), int) else -1
    if kind == "response_norm":
        settings |= {word: float(said[name]) for word, name in (("alpha", "alpha"), ("beta", "beta"), ("bias", "k"))}
        settings |= {"radius": said["size"] // 2, "divided": True}
    if kind == "upsample" and settings.get("method") == "cubic" and not settings.get("antialias"):
        # torch has another cubic than TensorFlow, on which Keras's layers are.
        settings |= {"cubic": -0.75, "border": "repeated"} if "mode" in said else {}
    if kind == "conv_transpose":
        settings |= _cut_off(said)
    if kind == "recurrent":
        settings["time_major"] = said.get("batch_first") is False or said.get("time_major") is True
    yield settings


def _beyond(settings: Mapping[str, Any], found: Taken) -> bool:
    """Tell whether a window or what is added around is many times larger than the input: no layer is set so."""
    most = 2 * max((size for one in found.inputs for size in one.shape), default=0) + 16
    said = [settings[name] for name in ("padding", "dilation", "kernel_size", "stride") if name in settings]
    return any(np.abs(np.asarray(one, np.float64)).max(initial=0.0) > most for one in said if not isinstance(one, str))


def _cut_off(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a transposed convolution takes off its output: torch says it in numbers, with zeros behind."""
    padding = said.get("padding", "VALID")
    if isinstance(padding, str):
        return {"padding": padding.upper()}
    rank = len(said.get("kernel_size", (1,)))
    more = said.get("output_padding", 0)
    before, behind = (one if isinstance(one, list) else [one] * rank for one in (padding, more))
    return {"padding": [(one, one - extra) for one, extra in zip(before, behind, strict=True)]}


def _params(alignment: Alignment, taken: Taken, partner: Layer | None, bare: Seen) -> Iterator[Params]:
    """The parameters that a layer may hold: those that its name or its partner's says, else any that fit."""
    flow, layer, holding = taken.flow, taken.layer, alignment.holding
    assert layer is not None
    own = holding.names(taken.side, layer) or holding.names(1 - taken.side, partner)
    names = [re.escape(CALL.sub("", one.name)) for one in (layer, partner) if one is not None]
    within = [name for name in flow.params if any(re.match(f"{one}[./]", name) for one in names)]
    groups = [_gathered(flow, own), _gathered(flow, within)]
    if not any(groups):
        of: dict[str, Params] = {}
        for name, value in flow.params.items():
            of.setdefault(re.sub(r"[^./]*$", "", name), {})[name] = value
        groups += [group for group in of.values() if _may_be(group, bare)][:LAYERS]
    tried: list[dict[str, int]] = []
    for group in filter(None, groups):
        named = _gates(group, layer) if bare.call.kind == "recurrent" else _roles(bare.call.kind, group, bare.call)
        for found in named:
            known = {role: id(value) for role, value in found.items()}
            if known not in tried:
                tried.append(known)
                yield found
    yield {}


def _gathered(flow: Dataflow, names: Iterable[str]) -> Params:
    return {name: flow.params[name] for name in names if name in flow.params}


def _may_be(group: Params, bare: Seen) -> bool:
    """Tell whether some parameters may be of a layer, by their sizes."""
    channels = {*bare.output.shape[-1:], *(size for one in bare.call.inputs for size in one.shape[-1:])}
    return bool(group) and all(set(value.shape) & channels for value in group.values())


def _gates(group: Mapping[str, Array], layer: Layer) -> Iterator[Params]:
    """The kernels and biases of a recurrent layer of one direction, its gates in the order of ``parity.nn``."""
    found: Params = {}
    for name, value in group.items():
        last = re.split(r"[./]", name)[-1]
        role = RECURRENT.get(last)
        if role is None:
            continue
        wide = np.asarray(value, np.float64)
        found[role] = wide.T if last.startswith("weight") else wide
    bias = found.get("bias")
    if bias is not None and bias.ndim == 2:  # Keras has both in one
        found["bias"], found["recurrent_bias"] = bias
    if not {"kernel", "recurrent_kernel"} <= found.keys():
        return
    units = found["recurrent_kernel"].shape[0]
    turned = found["recurrent_kernel"].shape[1] // units
    orders = {4: ((0, 1, 2, 3),), 3: ((0, 1, 2), (1, 0, 2))}.get(turned, ((0,),))
    for order in orders:
        yield {
            role: np.concatenate([np.split(value, turned, -1)[gate] for gate in order], -1)
            for role, value in found.items()
        }


def _roles(kind: str, group: Mapping[str, Array], call: Call) -> Iterator[Params]:
    """Name tensors by their roles, and bring kernels to (..., in, out) in each way that may be."""
    found: Params = {}
    for name, value in group.items():
        last = re.split(r"[./]", name)[-1]
        role = ROLES.get(last, WEIGHT.get(kind, "kernel" if value.ndim > 1 and kind in FUSED else "scale"))
        if last not in ROLES and last != "weight":
            continue
        found[role] = np.atleast_1d(np.asarray(value, np.float64))
    kernel = found.get("kernel")
    if kernel is None:
        yield found
        return
    for one in _with_every_axis(kernel, 2 if kind == "linear" else call.x.ndim):
        for turned in _kernels(kind, one, call.x):
            yield found | {"kernel": turned}


def _with_every_axis(kernel: Array, axes: int) -> Iterator[Array]:
    """A kernel as it is; or, as tensors that were matched by value lack axes of one, with such an axis anywhere."""
    if kernel.ndim + 1 != axes:
        yield kernel
        return
    for axis in reversed(range(axes)):
        yield np.expand_dims(kernel, axis)


def _kernels(kind: str, kernel: Array, x: Array) -> Iterator[Array]:
    plain = [kernel]
    if kernel.ndim == 2:
        plain.append(kernel.T)
    elif kernel.ndim > 2 and kind == "conv":
        plain.append(np.moveaxis(kernel, (0, 1), (-1, -2)))
    elif kernel.ndim > 2:
        plain += [
            np.moveaxis(kernel, (0, 1), (-2, -1)),
            np.flip(np.swapaxes(kernel, -1, -2), tuple(range(kernel.ndim - 2))),
            np.flip(kernel, tuple(range(kernel.ndim - 2))),  # JAX lays it back to front unless told otherwise
        ]
    yield from (one for one in plain if kind != "linear" or one.shape[0] == x.shape[-1])


def _cut(seen: Seen) -> Seen:
    """Leave out examples or channels that a replay can do without."""
    call, output, kind = seen.call, seen.output, seen.call.kind
    kernel = call.params.get("kernel")
    if kind in ("conv", "conv_transpose") and kernel is not None and call.settings.get("groups", 1) == 1:
        rows = max(1, min(len(output), MOST * len(output) // max(1, output.size, call.x.size)))
        places = max(output.size // max(1, output.shape[-1]), call.x.size // max(1, call.x.shape[-1]))
        each = places * rows // max(1, len(output)) * int(np.prod(kernel.shape[:-1]))
        few = max(1, min(output.shape[-1], PRODUCTS // max(1, each)))
        fewer = replace(call, inputs=tuple(one[:rows] for one in call.inputs)).set(outputs=few)
        return Seen(fewer, output[:rows, ..., :few], seen.floor)
    largest = max(output.size, call.x.size)
    most = FEW if kind in ACTIVATIONS and kind not in OVER_AXES else MOST
    if largest <= most or kind in OVER_AXES or not output.ndim:
        return seen
    share = most / largest
    if kind == "batch_norm":
        channels = max(1, int(call.x.shape[-1] * share))
        params = {role: value[:channels] for role, value in call.params.items()}
        fewer = replace(call, inputs=(call.x[..., :channels],), params=params)
        return Seen(fewer, output[..., :channels], seen.floor)
    rows = max(1, int(len(output) * share))
    fewer = replace(call, inputs=tuple(one[:rows] for one in call.inputs))
    return Seen(fewer, output[:rows], seen.floor)
