"""The weights that each port begins with, taken from the torch model by hand: what its porter wrote, model by model.

No comparison is given these layouts. What is inferred from values is held against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from parity.judging.tensors.correspondence import Correspondence, Pairing
from parity.layout import Layout, Slot, to_canonical, to_framework
from parity.typing import Params

FRAMEWORKS = ("torch", "linen", "nnx", "keras")
FLAT = (0, (2, 1))
AXES: dict[str, dict[str, tuple[int | tuple[int, ...], ...]]] = {
    "linear": {"torch": (1, 0)},
    "conv": {"torch": (3, 2, 0, 1)},
    "heads": {"torch": ((2, 1), 0), "linen": (0, 2, 1), "nnx": FLAT, "keras": FLAT},
    "mixed": {"torch": (2, (0, 1)), "nnx": ((0, 1), 2), "keras": ((0, 1), 2)},
}
"""The axes of each kind of kernel where they are not the canonical ones: channels come first in torch."""
SHAPES = {"heads": (16, 4, 8), "mixed": (4, 4, 16)}
"""The canonical shape of kernels whose axes are merged: width, width of a head and head; head, its width and width."""
BLOCKS = {"heads": (4, 2, 2)}
"""How many of the last axis each tensor has, where they are not equally many: heads of queries, keys and values."""


@dataclass(frozen=True)
class Row:
    """A tensor, the kind of its kernel, and its names in torch, linen, nnx and Keras.

    Several names, with " + " between them, are blocks of it; "-" is no tensor of that port.
    """

    canonical: str
    kind: str
    names: tuple[str, str, str, str]


def rows(text: str, **given: object) -> list[Row]:
    """Read rows, one a line, with ``{k}`` in them filled in."""
    found = []
    for line in text.strip().splitlines():
        canonical, kind, *names = (part.strip() for part in line.format(**given).split("|"))
        torch, linen, nnx, keras = names
        found.append(Row(canonical, kind, (torch, linen, nnx, keras)))
    return found


GPT = """
token/embedding    |        | token.weight    | token/embedding    | token/embedding    | token/embeddings
position/embedding |        | position.weight | position/embedding | position/embedding | position/embeddings
norm/scale         |        | norm.weight     | LayerNorm_0/scale  | norm/scale         | norm/gamma
norm/bias          |        | norm.bias       | LayerNorm_0/bias   | norm/bias          | norm/beta
"""
UNTIED = "head/kernel | linear | head.weight | head/kernel | head/kernel | head/kernel"
QKV = ("query", "key", "value")
BLOCK = """
block_{k}/norm_1/scale | | blocks.{k}.norm_1.weight | Block_{k}/LayerNorm_0/scale | blocks/{k}/norm_1/scale | block_{k}/norm_1/gamma
block_{k}/norm_1/bias  | | blocks.{k}.norm_1.bias   | Block_{k}/LayerNorm_0/bias  | blocks/{k}/norm_1/bias  | block_{k}/norm_1/beta
block_{k}/norm_2/scale | | blocks.{k}.norm_2.weight | Block_{k}/LayerNorm_1/scale | blocks/{k}/norm_2/scale | block_{k}/norm_2/gamma
block_{k}/norm_2/bias  | | blocks.{k}.norm_2.bias   | Block_{k}/LayerNorm_1/bias  | blocks/{k}/norm_2/bias  | block_{k}/norm_2/beta
block_{k}/up/kernel    | linear | blocks.{k}.up.weight | Block_{k}/Dense_0/kernel | blocks/{k}/up/kernel | block_{k}/up/kernel
block_{k}/up/bias      | | blocks.{k}.up.bias       | Block_{k}/Dense_0/bias      | blocks/{k}/up/bias      | block_{k}/up/bias
block_{k}/down/kernel  | linear | blocks.{k}.down.weight | Block_{k}/Dense_1/kernel | blocks/{k}/down/kernel | block_{k}/down/kernel
block_{k}/down/bias    | | blocks.{k}.down.bias     | Block_{k}/Dense_1/bias      | blocks/{k}/down/bias    | block_{k}/down/bias
block_{k}/out/kernel   | linear | blocks.{k}.attention.out.weight | Block_{k}/Attention_0/out/kernel | blocks/{k}/attention/out/kernel | block_{k}/attention/out/kernel
block_{k}/out/bias     | | blocks.{k}.attention.out.bias | Block_{k}/Attention_0/out/bias | blocks/{k}/attention/out/bias | block_{k}/attention/out/bias
"""  # noqa: E501


def _gpt(mistake: str) -> Iterator[Row]:
    yield from rows(GPT)
    for k in range(2):
        yield from rows(BLOCK, k=k)
        for role, kind, torch in (("kernel", "linear", "weight"), ("bias", "", "bias")):
            linen, keras = (
                " + ".join(f"{block}/{name}/{role}" for name in QKV)
                for block in (f"Block_{k}/Attention_0", f"block_{k}/attention")
            )
            fused = (f"blocks.{k}.attention.qkv.{torch}", linen, f"blocks/{k}/attention/qkv/{role}", keras)
            yield Row(f"block_{k}/qkv/{role}", kind, fused)
    if mistake == "untied-head":
        yield from rows(UNTIED)


RESNET = """
stem/kernel | conv   | stem.weight       | Conv_0/kernel     | stem/kernel | stem/kernel
norm/scale  |        | norm.weight       | BatchNorm_0/scale | norm/scale  | stem_norm/gamma
norm/bias   |        | norm.bias         | BatchNorm_0/bias  | norm/bias   | stem_norm/beta
norm/mean   | buffer | norm.running_mean | BatchNorm_0/mean  | norm/mean   | stem_norm/moving_mean
norm/var    | buffer | norm.running_var  | BatchNorm_0/var   | norm/var    | stem_norm/moving_variance
head/kernel | linear | head.weight       | Dense_0/kernel    | head/kernel | head/kernel
head/bias   |        | head.bias         | Dense_0/bias      | head/bias   | head/bias
"""
CONV = "block_{k}/conv_{n}/kernel | conv | blocks.{k}.{own}.weight | Block_{k}/Conv_{m}/kernel | blocks/{k}/conv{n}/kernel | block{k}_{keras}/kernel"  # noqa: E501
NORM = """
block_{k}/norm_{n}/scale | | blocks.{k}.{own}.weight | Block_{k}/BatchNorm_{m}/scale | blocks/{k}/norm{n}/scale | block{k}_norm{n}/gamma
block_{k}/norm_{n}/bias  | | blocks.{k}.{own}.bias | Block_{k}/BatchNorm_{m}/bias | blocks/{k}/norm{n}/bias | block{k}_norm{n}/beta
block_{k}/norm_{n}/mean  | buffer | blocks.{k}.{own}.running_mean | Block_{k}/BatchNorm_{m}/mean | blocks/{k}/norm{n}/mean | block{k}_norm{n}/moving_mean
block_{k}/norm_{n}/var   | buffer | blocks.{k}.{own}.running_var | Block_{k}/BatchNorm_{m}/var | blocks/{k}/norm{n}/var | block{k}_norm{n}/moving_variance
"""  # noqa: E501


def _resnet(mistake: str) -> Iterator[Row]:
    yield from rows(RESNET)
    for k in range(3):
        for n, conv, norm in ((1, "conv1.1", "bn1"), (2, "conv2", "bn2"), (3, "shortcut.0", "shortcut.1")):
            if n < 3 or k > 0:
                yield from rows(CONV, k=k, n=n, m=n - 1, own=conv, keras="shortcut" if n == 3 else f"conv{n}")
                yield from rows(NORM, k=k, n=n, m=n - 1, own=norm)


LSTM = """
embedding/embedding | | embedding.weight | Embed_0/embedding | embedding/embedding | embedding/embeddings
lstm/kernel | linear | lstm.weight_ih_l0 | {kernel} | lstm/cell/dense_i/kernel | lstm/lstm_cell/kernel
lstm/recurrent | linear | lstm.weight_hh_l0 | {recurrent} | lstm/cell/dense_h/kernel | lstm/lstm_cell/recurrent_kernel
lstm/bias | | lstm.bias_hh_l0 | {bias} | lstm/cell/dense_h/bias | lstm/lstm_cell/bias
head/kernel | linear | head.weight | Dense_0/kernel | head/kernel | head/kernel
head/bias | | head.bias | Dense_0/bias | head/bias | head/bias
"""
SECOND = "lstm/second_bias | | lstm.bias_ih_l0 | - | - | -"
"""Of torch alone, frozen but by mistake."""


def _lstm(mistake: str) -> Iterator[Row]:
    order = "igfo" if mistake == "gate-order" else "ifgo"
    parts = (("kernel", "i", "kernel"), ("recurrent", "h", "kernel"), ("bias", "h", "bias"))
    yield from rows(LSTM, **{role: " + ".join(f"lstm/{of}{gate}/{own}" for gate in order) for role, of, own in parts})
    if mistake == "two-biases":
        yield from rows(SECOND)


UNET = """
{n}/conv/kernel | conv | {n}.conv.weight | Twice_{k}/Conv_0/kernel | {n}/conv/kernel | {n}_conv/kernel
{n}/conv/bias | | {n}.conv.bias | Twice_{k}/Conv_0/bias | {n}/conv/bias | {n}_conv/bias
{n}/norm/scale | | {n}.norm.weight | Twice_{k}/GroupNorm_0/scale | {n}/norm/scale | {n}_norm/gamma
{n}/norm/bias | | {n}.norm.bias | Twice_{k}/GroupNorm_0/bias | {n}/norm/bias | {n}_norm/beta
"""
UP = """
up{n}/kernel | conv | up{n}.weight | ConvTranspose_{k}/kernel | up{n}/kernel | up{n}/kernel
up{n}/bias | | up{n}.bias | ConvTranspose_{k}/bias | up{n}/bias | up{n}/bias
"""
LAST = """
last/kernel | conv | last.weight | Conv_0/kernel | last/kernel | last/kernel
last/bias | | last.bias | Conv_0/bias | last/bias | last/bias
"""


def _unet(mistake: str) -> Iterator[Row]:
    for k, name in enumerate(("enter", "down", "lower", "join1", "join2")):
        yield from rows(UNET, n=name, k=k)
    for k in range(2):
        yield from rows(UP, n=k + 1, k=k)
    yield from rows(LAST)


LLAMA = """
embed/embedding | | tok_embeddings.weight | embed/embedding | embed/embedding | embed/embeddings
head/kernel | linear | output.weight | head/kernel | head/kernel | head/kernel
norm/scale | | norm.weight | norm/scale | norm/scale | norm/{scale}
"""
DECODER = """
block_{k}/norm_1/scale | | layers.{k}.attention_norm.weight | block_{k}/norm_1/scale | blocks/{k}/norm_1/scale | block_{k}/norm_1/{scale}
block_{k}/norm_2/scale | | layers.{k}.ffn_norm.weight | block_{k}/norm_2/scale | blocks/{k}/norm_2/scale | block_{k}/norm_2/{scale}
block_{k}/qkv/kernel | heads | {torch} | {linen} | blocks/{k}/attention/qkv/kernel | {linen}
block_{k}/out/kernel | mixed | layers.{k}.attention.wo.weight | block_{k}/attention/out/kernel | blocks/{k}/attention/out/kernel | block_{k}/attention/out/kernel
block_{k}/gate_up/kernel | linear | layers.{k}.feed_forward.w1.weight + layers.{k}.feed_forward.w3.weight | block_{k}/mlp/gate/kernel + block_{k}/mlp/up/kernel | blocks/{k}/mlp/gate_up/kernel | block_{k}/mlp/gate/kernel + block_{k}/mlp/up/kernel
block_{k}/down/kernel | linear | layers.{k}.feed_forward.w2.weight | block_{k}/mlp/down/kernel | blocks/{k}/mlp/down/kernel | block_{k}/mlp/down/kernel
"""  # noqa: E501


def _llama(mistake: str) -> Iterator[Row]:
    scale = "gamma" if mistake == "norm-centred" else "scale"
    unused = "norm/scale" if mistake == "last-norm" else ""
    yield from (row for row in rows(LLAMA, scale=scale) if row.canonical != unused)
    for k in range(2):
        torch = " + ".join(f"layers.{k}.attention.w{part}.weight" for part in "qkv")
        linen = " + ".join(f"block_{k}/attention/{part}/kernel" for part in QKV)
        yield from rows(DECODER, k=k, torch=torch, linen=linen, scale=scale)


ROWS = {"gpt": _gpt, "llama": _llama, "resnet": _resnet, "lstm": _lstm, "unet": _unet}


def layout(model: str, framework: str, mistake: str = "") -> Layout:
    """Give a port's layout; a mistake may change it, as an untied head does."""
    place, found = FRAMEWORKS.index(framework), []
    for row in ROWS[model](mistake):
        names = row.names[place].split(" + ")
        axes, blocks = AXES.get(row.kind, {}).get(framework), BLOCKS.get(row.kind, len(names))
        for number, name in enumerate(names):
            block = (number, blocks) if len(names) > 1 else None
            shape = SHAPES.get(row.kind)
            if shape and isinstance(blocks, tuple) and block:
                shape = (*shape[:-1], blocks[number])
            # Whoever takes the gates for others does so in what is carried over and in what is compared.
            swapped = mistake == "gate-order" and framework in ("nnx", "keras") and row.canonical.startswith("lstm/")
            gates = (0, 2, 1, 3) if swapped else None
            if name != "-":
                found.append(Slot(row.canonical, name, axes=axes, block=block, gates=gates, shape=shape))
    return found


def carried(model: str, framework: str, weights: Mapping[str, Params], mistake: str = "") -> Params:
    """Take the torch model's weights to a port's names and axes."""
    if framework == "torch":
        return dict(weights)
    own = layout(model, framework, mistake)
    here = {slot.canonical for slot in own}
    buffers = {row.canonical for row in ROWS[model](mistake) if row.kind == "buffer"}
    own = [slot for slot in own if slot.canonical not in buffers]
    theirs = [slot for slot in layout(model, "torch", mistake) if slot.canonical in here - buffers]
    return to_framework(own, to_canonical(theirs, weights))


def wrong(
    model: str, frameworks: tuple[str, str], begun: Params, matched: Correspondence, mistake: str = ""
) -> list[Pairing]:
    """Give the pairings said to be proven that pair or arrange tensors otherwise than the porters did.

    Each value of a canonical tensor is a number of its own here, and by hand and by the pairing it comes to one place.
    The first run's initial tensors, ``begun``, say the shapes.
    """
    first, second = (layout(model, framework, mistake) for framework in frameworks)
    numbers = {
        name: np.arange(value.size).reshape(value.shape) + 1000.0 * place
        for place, (name, value) in enumerate(to_canonical(first, begun).items())
    }
    sides = to_framework(first, numbers), to_framework([slot for slot in second if slot.canonical in numbers], numbers)
    found = []
    for pairing in matched.pairings:
        known = all(set(names) <= side.keys() for names, side in zip(pairing.names, sides, strict=True))
        one, other = (
            to_canonical(slots, side) if known else {}
            for slots, side in zip((pairing.ours, pairing.theirs), sides, strict=True)
        )
        if pairing.proven and not (known and all(np.array_equal(one[name], other[name]) for name in one)):
            found.append(pairing)
    return found
