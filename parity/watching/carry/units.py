"""The layers of a model whose tensors belong together, in one layout for all frameworks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from parity.judging.tensors.sides import layer_of
from parity.layout import Slot
from parity.watching.carry.models import Model

TORCH = {
    "Linear": (1, 0),
    "NonDynamicallyQuantizableLinear": (1, 0),
    "Conv1D": (0, 1),
    "Conv1d": (2, 1, 0),
    "Conv2d": (3, 2, 0, 1),
    "Conv3d": (4, 3, 0, 1, 2),
    "ConvTranspose1d": (2, 1, 0),
    "ConvTranspose2d": (3, 2, 0, 1),
    "ConvTranspose3d": (4, 3, 0, 1, 2),
    "Embedding": (0, 1),
}
"""The axes of torch's kernels, by kind of layer, as axes of (..., in, out); of transposed ones (..., out, in).

``Conv1D`` is the linear layer of Hugging Face's GPT-2, which keeps its weights as (in, out).
"""
_TURNED = {len(TORCH[kind]): TORCH[kind] for kind in ("Linear", "Conv1d", "Conv2d", "Conv3d")}
ROLES = {
    "kernel": "weight", "embedding": "weight", "embeddings": "weight", "gamma": "weight", "scale": "weight",
    "beta": "bias", "running_mean": "mean", "moving_mean": "mean", "running_var": "var", "moving_variance": "var",
}  # fmt: skip
"""What frameworks call a tensor of a layer, in one word each."""
STATISTICS = ("mean", "var")
"""What a model may keep elsewhere than its weights, as flax does."""
TRANSPOSED = "transpose"
"""In the name or kind of a transposed convolution."""
RECURRENT = re.compile(r"(weight|bias)_(ih|hh)((?:_l\d+(?:_reverse)?)?)")
"""torch's names of the tensors of a recurrent layer."""
RNN, GRU, LSTM = "rnn", "gru", "lstm"
FORMS = {1: RNN, 3: GRU, 4: LSTM}
"""What a recurrent layer is, by how many gates lie beside each other in its kernels."""
CELLS = {
    GRU: ({"ir": 0, "iz": 1, "in": 2}, {"hr": 0, "hz": 1, "hn": 2}),
    LSTM: ({"ii": 0, "if": 1, "ig": 2, "io": 3}, {"hi": 0, "hf": 1, "hg": 2, "ho": 3}),
}
"""The layers of the input and of the state within flax's cells, and which block of all gates each is."""
HEADS = ({"query", "key", "value", "out"}, {"query", "key", "value", "attention_output"})
"""The layers within attention that keeps its projections apart, as flax and Keras have it."""
PROJECTIONS = ("query", "key", "value")


@dataclass(frozen=True)
class Piece:
    """A tensor of a layer in the common layout: its shape there, and the slots that bring it there."""

    shape: tuple[int, ...]
    slots: tuple[Slot, ...]
    partial: bool = False
    """Whether the slots are the last of three blocks alone; the others are zeros."""


@dataclass(frozen=True, eq=False)
class Unit:
    """A layer, or the layers that are one in another framework.

    Attributes:
        name: The layer's name.
        kind: Its framework's word for it, "" if not known.
        pieces: Its tensors by role.
        form: What else than one kernel and one bias it is: one of ``FORMS``, "heads" or "".
        transposed: Whether it is a transposed convolution with its kernel (..., out, in); None if nothing tells.
    """

    name: str
    kind: str
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    form: str = ""
    transposed: bool | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The roles that both sides must have."""
        return frozenset(self.pieces) - set(STATISTICS) - ({"recurrent_bias"} if self.recurrent else set())

    @property
    def recurrent(self) -> bool:
        """Whether it is a recurrent layer."""
        return self.form in FORMS.values()


def has_fused_heads(model: Model) -> bool:
    """Say whether a model keeps the projections of attention in one tensor, as torch's MultiheadAttention does."""
    return any(name.endswith("in_proj_weight") for name in model.tensors)


def units_of(model: Model, fused: bool = False, told: Collection[str] = ()) -> list[Unit]:
    """Sort a model's tensors into layers.

    Args:
        model: The model.
        fused: Whether the projections of attention are one layer, as the other side has them.
        told: Layers and tensors that a user's mapping names. Their axes are taken as they are.

    Returns:
        The layers, in the order of their first tensors.

    Raises:
        ValueError: If the axes of a tensor are not known.
    """
    of: dict[str, dict[str, str]] = defaultdict(dict)
    for name in model.tensors:
        layer = layer_of(name)
        role = name[len(layer) :].strip("/.")
        of[layer][role] = name
    found: list[Unit] = []
    done: set[str] = set()
    outputs_first = set() if model.turned else _outputs_first(model, of)
    for layer in of:
        parent = layer_of(layer)
        inner = {each[len(parent) :].strip("/."): roles for each, roles in of.items() if layer_of(each) == parent}
        if layer in done:
            continue
        plainly = {each.rstrip("_"): roles for each, roles in inner.items()}  # nnx calls the layer "if" "if_"
        cell = next((form for form, (i, h) in CELLS.items() if {*i, *h} <= plainly.keys()), None)
        if not model.turned and cell is not None:
            found.append(_cell(model, parent, plainly, cell))
            done |= {_within(parent, each, layer) for each in inner if each.rstrip("_") in {*_gates_of(cell)}}
        elif (
            not model.turned
            and {"dense_i", "dense_h"} <= inner.keys()
            and (form := _form(*model.tensors[inner["dense_h"]["kernel"]].shape)) is not None
        ):
            found.append(_dense_cell(model, parent, inner, form))
            done |= {_within(parent, each, layer) for each in ("dense_i", "dense_h")}
        elif fused and (heads := next((names for names in HEADS if names <= inner.keys()), None)):
            found.append(_separate_heads(model, parent, {each: inner[each] for each in heads}))
            done |= {_within(parent, each, layer) for each in heads}
        elif "in_proj_weight" in of[layer]:
            found.append(_fused_heads(model, layer, of))
            done.add(f"{layer}.out_proj" if layer else "out_proj")
        elif any(RECURRENT.fullmatch(role) for role in of[layer]):
            found += _torch_gates(model, layer, of[layer])
        elif not model.turned and {"kernel", "recurrent_kernel"} <= of[layer].keys():
            found.append(_keras_gates(model, layer, of[layer]))
        else:
            found.append(_plain(model, layer, of[layer], told, layer in outputs_first))
    # The output projection of fused heads may come before its layer.
    return [unit for unit in found if unit.name not in done or unit.form]


def _within(parent: str, name: str, like: str) -> str:
    return f"{parent}{like[len(parent)]}{name}" if parent else name


def _outputs_first(model: Model, of: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The layers whose kernels begin with the axis of outputs, as flax's GPT-2 has them, and a file of torch's weights.

    A bias is as long as that axis. Where both axes are, the other kernels tell, if they are of one mind.
    """
    lie: dict[str, bool] = {}
    square: list[str] = []
    for layer, roles in of.items():
        bias, kernel = (model.tensors[roles[role]] if role in roles else None
                        for role in ("bias", "kernel" if "kernel" in roles else "weight"))  # fmt: skip
        if bias is None or kernel is None or bias.ndim != 1 or kernel.ndim < 2:
            continue
        first, last = (kernel.shape[axis] == bias.shape[0] for axis in (0, -1))
        if first and last:
            square.append(layer)
        elif first or last:
            lie[layer] = bool(first)
    found = {layer for layer, first in lie.items() if first}
    return found | {*square} if found and all(lie.values()) else found


def _plain(
    model: Model, layer: str, roles: Mapping[str, str], told: Collection[str], outputs_first: bool = False
) -> Unit:
    pieces, kind = {}, model.kinds.get(layer, "")
    transposed = TRANSPOSED in kind.lower() if kind else True if TRANSPOSED in layer.lower() else None
    for role, name in roles.items():
        value = model.tensors[name]
        axes: tuple[int, ...] | None = None
        flip: tuple[int, ...] = ()
        sizes = [size for size in value.shape if size > 1]
        if model.turned and len(sizes) > 1:
            if kind in TORCH and value.ndim == len(TORCH[kind]):
                axes = TORCH[kind]
            # A partner of the same shape has the same axes, unless two of them are equally long.
            elif len({*sizes}) < len(sizes) and not {layer, name} & {*told}:
                raise ValueError(
                    f"{name} is of a {kind or 'layer'} whose axes are not known: leave it out, and set it yourself, or "
                    "say its partner in a mapping, if its axes are the partner's"
                )
        elif outputs_first and value.ndim > 1:
            axes = _TURNED[value.ndim]
        elif model.settings.get(layer, {}).get("transpose_kernel") is False and value.ndim > 2:
            axes, flip = flipped(value.ndim)
        shape = value.shape if axes is None else tuple(value.shape[axes.index(axis)] for axis in range(value.ndim))
        pieces[ROLES.get(role, role)] = Piece(shape, (Slot(role, name, axes=axes, flip=flip),))
    return Unit(layer, kind, pieces, transposed=transposed)


def flipped(axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the axes and the flip of flax's transposed kernel, (..., in, out), seen from (..., out, in) of the others.

    Examples:
        >>> flipped(4)
        ((0, 1, 3, 2), (0, 1))
    """
    return (*range(axes - 2), axes - 1, axes - 2), tuple(range(axes - 2))


def _torch_gates(model: Model, layer: str, roles: Mapping[str, str]) -> Iterator[Unit]:
    """Each layer and direction of torch's recurrent module, a GRU's gates r, z, n, an LSTM's i, f, g, o."""
    suffixes: dict[str, dict[str, str]] = defaultdict(dict)
    for role, name in roles.items():
        found = RECURRENT.fullmatch(role)
        if found is None:
            raise _unknown(model, layer, name)
        suffixes[found[3]][f"{found[1]}_{found[2]}"] = name
    for suffix, names in suffixes.items():
        rows, hidden = model.tensors[names["weight_hh"]].shape
        form = _form(hidden, rows)
        if form is None or model.tensors[names["weight_ih"]].shape[0] != rows:
            raise _unknown(model, layer, names["weight_ih"])
        pieces = {}
        for own, role in (("weight_ih", "input_kernel"), ("weight_hh", "recurrent_kernel")):
            shape = model.tensors[names[own]].shape
            pieces[role] = Piece(shape[::-1], (Slot(role, names[own], axes=(1, 0)),))
        for own, role in (("bias_ih", "input_bias"), ("bias_hh", "recurrent_bias")):
            if own in names:
                pieces[role] = Piece(model.tensors[names[own]].shape, (Slot(role, names[own]),))
        yield Unit(f"{layer}{suffix}", model.kinds.get(layer, ""), pieces, form)


def _form(hidden: int, gates: int) -> str | None:
    """What a recurrent layer is, by its kernel of the state (hidden, gates · hidden); None if it is none."""
    return FORMS.get(gates // hidden) if gates % hidden == 0 else None


def _gates_of(form: str) -> Mapping[str, int]:
    given, kept = CELLS[form]
    return {**given, **kept}


def _unknown(model: Model, layer: str, name: str) -> ValueError:
    kind = model.kinds.get(layer, "") or "layer"
    return ValueError(f"{name} is of a {kind} whose axes are not known: leave it out, and set it yourself")


def _keras_gates(model: Model, layer: str, roles: Mapping[str, str]) -> Unit:
    """Keras's recurrent layer. A GRU's gates are z, r, h and its two biases rows of one tensor; else there is one."""
    form = _form(*model.tensors[roles["recurrent_kernel"]].shape)
    if form is None:
        raise _unknown(model, layer, roles["recurrent_kernel"])
    order, pieces = (1, 0, 2) if form == GRU else None, {}
    for own, role in (("kernel", "input_kernel"), ("recurrent_kernel", "recurrent_kernel")):
        pieces[role] = Piece(model.tensors[roles[own]].shape, (Slot(role, roles[own], gates=order),))
    if "bias" in roles:
        bias = model.tensors[roles["bias"]].shape
        if form != GRU:
            pieces["input_bias"] = Piece(bias, (Slot("input_bias", roles["bias"]),))
        elif len(bias) != 2:
            raise ValueError(
                f"{roles['bias']} is one bias for all: the layer resets before it multiplies, which no other "
                "framework's does. Build it with reset_after=True"
            )
        else:
            for index, role in enumerate(("input_bias", "recurrent_bias")):
                pieces[role] = Piece(bias[1:], (Slot(role, roles["bias"], gates=order, index=index),))
    return Unit(layer, model.kinds.get(layer, ""), pieces, form)


def _cell(model: Model, parent: str, inner: Mapping[str, Mapping[str, str]], form: str) -> Unit:
    """flax's cell with a layer for each gate: a GRU's has no hidden bias but that of n, an LSTM's no other."""
    given, kept = CELLS[form]
    gates, pieces = len(given), {}
    for role, names, own in (
        ("input_kernel", given, "kernel"),
        ("recurrent_kernel", kept, "kernel"),
        ("input_bias", given if form == GRU else kept, "bias"),
    ):
        if all(own in inner[name] for name in names):
            slots = tuple(Slot(role, inner[name][own], block=(block, gates)) for name, block in names.items())
            shape = model.tensors[slots[0].framework].shape
            pieces[role] = Piece((*shape[:-1], gates * shape[-1]), slots)
    if form == GRU and "bias" in inner["hn"]:
        name = inner["hn"]["bias"]
        shape = (3 * model.tensors[name].shape[0],)
        pieces["recurrent_bias"] = Piece(shape, (Slot("recurrent_bias", name, block=(2, 3)),), partial=True)
    return Unit(parent, model.kinds.get(parent, ""), pieces, form)


def _dense_cell(model: Model, parent: str, inner: Mapping[str, Mapping[str, str]], form: str) -> Unit:
    """nnx's cell with one layer for all gates: a GRU's has no hidden bias, an LSTM's no other."""
    pieces = {}
    for layer, own, role in (
        ("dense_i", "kernel", "input_kernel"),
        ("dense_h", "kernel", "recurrent_kernel"),
        ("dense_i", "bias", "input_bias"),
        ("dense_h", "bias", "recurrent_bias" if form == GRU else "input_bias"),
    ):
        if own in inner[layer]:
            pieces[role] = Piece(model.tensors[inner[layer][own]].shape, (Slot(role, inner[layer][own]),))
    return Unit(parent, model.kinds.get(parent, ""), pieces, form)


def _fused_heads(model: Model, layer: str, of: Mapping[str, Mapping[str, str]]) -> Unit:
    """torch's MultiheadAttention: (3, heads, width) of all projections are one axis."""
    heads = model.settings.get(layer, {}).get("num_heads")
    names, out = of[layer], of.get(f"{layer}.out_proj" if layer else "out_proj", {})
    known = {"in_proj_weight", "in_proj_bias"} >= names.keys() and {"weight", "bias"} >= out.keys()
    if not isinstance(heads, int) or not known or "weight" not in out:
        raise _unknown(model, layer, names["in_proj_weight"])
    size = model.tensors[names["in_proj_weight"]].shape[1]
    width = size // heads
    whole = (size, heads, width, 3)
    pieces = {
        "in_kernel": Piece(
            whole, (Slot("in_kernel", names["in_proj_weight"], axes=((3, 1, 2), 0), shape=whole),)
        ),
        "out_kernel": Piece(
            (heads, width, size), (Slot("out_kernel", out["weight"], axes=(2, (0, 1)), shape=(heads, width, size)),)
        ),
    }  # fmt: skip
    if "in_proj_bias" in names:
        slot = Slot("in_bias", names["in_proj_bias"], axes=((2, 0, 1),), shape=whole[1:])
        pieces["in_bias"] = Piece(whole[1:], (slot,))
    if "bias" in out:
        pieces["out_bias"] = Piece((size,), (Slot("out_bias", out["bias"]),))
    return Unit(layer, model.kinds.get(layer, ""), pieces, "heads")


def _separate_heads(model: Model, parent: str, inner: Mapping[str, Mapping[str, str]]) -> Unit:
    """The attention of flax and Keras: a layer for each projection, its kernel (in, heads, width)."""
    out = inner.get("out") or inner["attention_output"]
    size, heads, width = model.tensors[inner["query"]["kernel"]].shape
    pieces = {}
    for own, role, shape in (("kernel", "in_kernel", (size, heads, width)), ("bias", "in_bias", (heads, width))):
        if own in inner["query"]:
            last = len(shape)
            axes = (*range(last - 1), (last - 1, last))
            slots = tuple(
                Slot(role, inner[each][own], axes=axes, shape=(*shape, 1), block=(k, 3))
                for k, each in enumerate(PROJECTIONS)
            )
            pieces[role] = Piece((*shape, 3), slots)
    for own, role in (("kernel", "out_kernel"), ("bias", "out_bias")):
        if own in out:
            pieces[role] = Piece(model.tensors[out[own]].shape, (Slot(role, out[own]),))
    return Unit(parent, model.kinds.get(parent, ""), pieces, "heads")


def named(slots: tuple[Slot, ...], canonical: str) -> tuple[Slot, ...]:
    """Give slots another canonical name."""
    return tuple(replace(slot, canonical=canonical) for slot in slots)
