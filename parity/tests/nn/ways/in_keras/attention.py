"""Keras's attention. Masks are True where a query may look."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers, ops

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.attention import WIDTH


def attention(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: float | None, causal: bool
) -> dict[str, Any]:
    return {"output": ops.dot_product_attention(query, key, value, bias, mask, scale, causal)}


def in_heads(kernel: Any) -> Any:
    return tf.reshape(kernel, (*kernel.shape[:-1], -1, WIDTH))


def multi_head_attention(
    query: Any, value: Any, mask: Any = None, *, heads: int, groups: int, causal: bool, **weights: Any
) -> dict[str, Any]:
    has = "query_bias" in weights
    if groups == heads:
        layer = layers.MultiHeadAttention(heads, WIDTH, use_bias=has, dtype=query.dtype)
    else:
        layer = layers.GroupQueryAttention(WIDTH, heads, groups, use_bias=has, dtype=query.dtype)
    own = []
    for name in ("query", "key", "value"):
        own += [in_heads(weights[f"{name}_kernel"]), *([in_heads(weights[f"{name}_bias"])] if has else [])]
    own.append(tf.reshape(weights["output_kernel"], (heads, WIDTH, -1)))
    own += [weights["output_bias"]] if has else []
    layer.build(query.shape, value.shape)
    seen = None if mask is None else mask[:, 0]
    others = [one.value for one in layer.non_trainable_variables]
    output, _ = layer.stateless_call(own, others, query, value, attention_mask=seen, use_causal_mask=causal)
    return {"output": output}


def float32(when: Any) -> Departure:
    return Departure(
        "scale through float32",
        "The scale becomes float32 before it becomes float64; where none is given, it is computed in float32.",
        size=8 * unit("float32"),  # of scores of a few units, whose exponentials are taken
        when=when,
    )


WAYS = (
    Way(
        "attention",
        ("keras.ops.dot_product_attention",),
        attention,
        {"one key for all heads": lambda asked: asked.arrays["key"].shape[2] == 1},
        (float32(lambda asked: asked.configuration["scale"] is None),),
        words={"is_causal": "causal"},
    ),
    Way(
        "multi_head_attention",
        ("keras.layers.MultiHeadAttention", "keras.layers.GroupQueryAttention"),
        multi_head_attention,
        departures=(float32(lambda asked: True),),
    ),
)
