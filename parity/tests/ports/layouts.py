"""Which tensor of a port is which of the others': the porter's own account, by hand, for each model and framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parity.layout import Layout, Slot, to_canonical, to_framework
from parity.typing import Params

FRAMEWORKS = ("torch", "linen", "nnx", "keras")
TORCH = {"linear": (1, 0), "conv": (3, 2, 0, 1)}
"""The axes of torch's kernels: channels come first there."""


@dataclass(frozen=True)
class Row:
    """A tensor, the kind of its kernel, and its names in torch, linen, nnx and Keras.

    Several names, with " + " between them, are blocks of it; "-" is no tensor of that port.
    """

    canonical: str
    kind: str
    names: tuple[str, str, str, str]


def rows(text: str, **given: int) -> list[Row]:
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


ROWS = {"gpt": _gpt}


def layout(model: str, framework: str, mistake: str = "") -> Layout:
    """Give a port's layout; a mistake may change it, as an untied head does."""
    place, found = FRAMEWORKS.index(framework), []
    for row in ROWS[model](mistake):
        names = row.names[place].split(" + ")
        axes = TORCH.get(row.kind) if framework == "torch" else None
        for number, name in enumerate(names):
            block = (number, len(names)) if len(names) > 1 else None
            if name != "-":
                found.append(Slot(row.canonical, name, axes=axes, block=block))
    return found


def carried(model: str, framework: str, weights: Mapping[str, Params], mistake: str = "") -> Params:
    """Take the torch model's weights to a port's names and axes."""
    if framework == "torch":
        return dict(weights)
    own = layout(model, framework, mistake)
    here = {slot.canonical for slot in own}
    theirs = [slot for slot in layout(model, "torch", mistake) if slot.canonical in here]
    return to_framework(own, to_canonical(theirs, weights))
