"""Keras's dense layer and embedding."""

from __future__ import annotations

from typing import Any

from keras import layers

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_keras import applied, there


def dense(x: Any, kernel: Any, bias: Any = None) -> dict[str, Any]:
    layer = layers.Dense(kernel.shape[-1], use_bias=bias is not None, dtype=x.dtype)
    return {"output": applied(layer, x, *there(kernel, bias))[0]}


def embedding(indices: Any, table: Any, *, padding_index: int | None) -> dict[str, Any]:
    return {"output": applied(layers.Embedding(*table.shape, dtype=table.dtype), indices, table)[0]}


WAYS = (
    Way("dense", ("keras.layers.Dense",), dense),
    Way(
        "embedding",
        ("keras.layers.Embedding",),
        embedding,
        cannot={"a padding index": lambda asked: asked.configuration["padding_index"] is not None},
    ),
)
