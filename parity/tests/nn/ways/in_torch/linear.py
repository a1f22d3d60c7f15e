"""torch's linear layer, whose kernel is (out, in), and its embedding."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.func import functional_call

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_torch import there


def dense(x: Any, kernel: Any, bias: Any = None) -> dict[str, Any]:
    layer = nn.Linear(*kernel.shape, bias=bias is not None, dtype=x.dtype)
    return {"output": functional_call(layer, there(weight=kernel.T, bias=bias), (x,))}


def embedding(indices: Any, table: Any, *, padding_index: int | None) -> dict[str, Any]:
    layer = nn.Embedding(*table.shape, padding_idx=padding_index, dtype=table.dtype)
    return {"output": functional_call(layer, {"weight": table}, (indices,))}


WAYS = (
    Way("dense", ("torch.nn.Linear",), dense),
    Way("embedding", ("torch.nn.Embedding",), embedding),
)
