"""Read a TensorFlow 1 graph: what the optimizer's operations are given, and the layers that lead to the loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from parity.recording.layers import Layer
from parity.watching.flow import as_plain, as_written

MOST = 500
"""So many layers are recorded, and no more."""
NO_LAYER = frozenset(
    (
        *("Identity", "Reshape", "Transpose", "ExpandDims", "Squeeze", "Cast", "StopGradient", "ReadVariableOp"),
        *("StridedSlice", "Slice", "Pack", "Unpack", "Split", "SplitV", "ConcatV2", "Pad", "PadV2", "Tile"),
        *("BroadcastTo", "Fill", "ZerosLike", "OnesLike", "Placeholder", "PlaceholderWithDefault", "Const"),
    )
)
"""The operations that only move numbers."""
RATES = ("lr", "alpha")
"""What the operations of optimizers call a learning rate."""
GRADIENTS = "gradients"
"""The scope that ``tf.gradients`` and each optimizer of TensorFlow 1 put a backward pass into."""


@dataclass(frozen=True)
class Rule:
    """An operation that updates a variable, as ``ResourceApplyAdam``."""

    kind: str
    variable: str
    gradient: Any
    slots: dict[str, str]
    """The names of the variables that it keeps beside, by its own words."""
    settings: dict[str, Any]
    """Its numbers, as tensors."""


def ancestors(targets: Iterable[Any], data_alone: bool = False) -> set[Any]:
    """Every operation that must run before some do, and they themselves; or those whose tensors lead there."""
    found: set[Any] = set()
    left = list(targets)
    while left:
        op = left.pop()
        if op not in found:
            found.add(op)
            left += [*(() if data_alone else op.control_inputs), *(tensor.op for tensor in op.inputs)]
    return found


def rules_of(train: Any) -> list[Rule]:
    """List the operations by which a training operation updates variables with gradients."""
    found = []
    for op in sorted(ancestors([train]), key=lambda op: int(op._id)):
        named = (
            dict(zip((argument.name for argument in op.op_def.input_arg), op.inputs, strict=False))
            if "Apply" in op.type
            else {}
        )
        if "var" not in named or not {"grad", "delta"} & set(named) or "indices" in named:
            continue
        gradient = named.pop("grad", None)
        gradient = named.pop("delta") if gradient is None else gradient
        held = {k: t.op.name for k, t in named.items() if t.dtype == tf.resource or t.dtype.name.endswith("_ref")}
        numbers = {k: t for k, t in named.items() if k not in held}
        # A power of beta is a variable of its own, and no slot.
        slots = {k: name for k, name in held.items() if k != "var" and not k.endswith("_power")}
        found.append(Rule(op.type, held["var"], gradient, slots, numbers))
    return found


def unclipped(gradient: Any) -> Any:
    """Find what the backward pass gave where something changed it since; the gradient itself if nothing did."""
    tensor, seen = gradient, set[Any]()
    left = [gradient]
    while left:
        tensor = left.pop(0)
        if _in_gradients(tensor.op) and tensor.shape.as_list() == gradient.shape.as_list():
            return tensor
        if tensor.op not in seen:
            seen.add(tensor.op)
            left += list(tensor.op.inputs)
    return gradient


def _in_gradients(op: Any) -> bool:
    return any(part.split("_")[0] == GRADIENTS for part in op.name.split("/"))


@dataclass(frozen=True)
class Forward:
    """The forward pass: layers, the tensors to fetch for them by name, the model's inputs and its prediction."""

    layers: list[Layer]
    tensors: dict[str, Any]
    inputs: list[Any]
    prediction: Any
    notes: list[str]


def forward_of(loss: Any, trained: set[str]) -> Forward:
    """Read the forward pass that ends in a loss.

    A layer is an operation that computes floats from the data. What only moves numbers is none: where a layer takes
    what such an operation gave, that is kept as its input.

    Args:
        loss: The tensor of the loss.
        trained: The names of the trained variables.
    """
    slice_ = sorted(ancestors([loss.op], data_alone=True), key=lambda op: int(op._id))
    sources = [tensor for op in slice_ if _is_source(op) for tensor in op.outputs]
    data: dict[str, frozenset[str]] = {tensor.name: frozenset((tensor.name,)) for tensor in sources}
    learned: set[str] = set()
    found: list[Layer] = []
    tensors: dict[str, Any] = {}
    names: dict[str, str] = {}
    notes: list[str] = []
    prediction, most = None, frozenset[str]().union(*data.values()) if data else frozenset[str]()
    for op in slice_:
        if op.name in trained or any(tensor.name in learned for tensor in op.inputs):
            learned |= {tensor.name for tensor in op.outputs}
        if not _is_source(op):
            data |= {
                t.name: frozenset[str]().union(*(data.get(i.name, frozenset()) for i in op.inputs)) for t in op.outputs
            }
        if op.type.endswith("PartitionedCall") or op.type in ("While", "StatelessWhile", "If", "StatelessIf"):
            notes.append(f"{op.name} is a function within the graph: its layers are not seen")
        output = op.outputs[0] if op.outputs else None
        if output is None or not output.dtype.is_floating or not data[output.name] or op.type in NO_LAYER:
            continue
        if (
            _is_source(op)
            or op.op_def.is_stateful
            or op._get_control_flow_context() is not None
            or output is loss
            or output.shape.rank == 0
        ):
            continue
        if len(found) == MOST:
            notes.append(f"the first {MOST} layers are recorded, and there are more")
            break
        inputs: list[str] = []
        for tensor in (tensor for tensor in op.inputs if tensor.dtype.is_floating and data.get(tensor.name)):
            if tensor.name not in names:
                names[tensor.name] = f"{op.name}-in{len(inputs)}"
                tensors[names[tensor.name]] = tensor
            inputs.append(names[tensor.name])
        names[output.name] = op.name
        tensors[op.name] = output
        found.append(
            Layer(name=op.name, kind=op.type, configuration=configuration(op), inputs=tuple(inputs), outputs=(op.name,))
        )
        if output.name in learned and data[output.name] < most:
            prediction = output
    given = data[prediction.name] if prediction is not None else most
    inputs = [tensor for tensor in sources if tensor.name in given and tensor.shape.rank != 0]
    return Forward(found, tensors, inputs, prediction, notes)


def _is_source(op: Any) -> bool:
    return op.type in ("Placeholder", "PlaceholderWithDefault", "IteratorGetNext")


def configuration(op: Any) -> dict[str, Any]:
    """Say how an operation is set: its attributes, and each input that is one number that never changes."""
    names = [attribute.name for attribute in op.op_def.attr]
    found = {name: as_plain(op.get_attr(name), _plain) for name in names}
    # Under a name with a number are several tensors: they are no settings.
    for argument, tensor in zip(op.op_def.input_arg, op.inputs, strict=False):
        value = tf.get_static_value(tensor)
        if value is not None and value.size == 1:
            found[argument.name] = number(value)
    return {name: value for name, value in found.items() if value is not None}


def number(value: Any) -> Any:
    """One number of NumPy's, as JSON can hold it."""
    return as_plain(as_written(np.reshape(value, ())))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.name if isinstance(value, tf.DType) else None
