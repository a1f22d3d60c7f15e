"""Attention of JAX's and of flax's. Masks are True where a query may look."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.attention import WIDTH


def of_jax(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: float | None, causal: bool
) -> dict[str, Any]:
    return {"output": jax.nn.dot_product_attention(query, key, value, bias, mask, scale=scale, is_causal=causal)}


def of_flax(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: float | None, causal: bool
) -> dict[str, Any]:
    return {"output": linen.dot_product_attention(query, key, value, bias, mask)}


def in_heads(weight: Any) -> Any:
    return weight.reshape(*weight.shape[:-1], -1, WIDTH)


def multi_head_attention(
    query: Any, value: Any, mask: Any = None, *, heads: int, groups: int, causal: bool, **weights: Any
) -> dict[str, Any]:
    has = "query_bias" in weights
    layer = linen.MultiHeadDotProductAttention(heads, use_bias=has, param_dtype=query.dtype, qkv_features=heads * WIDTH)
    own = {name: {"kernel": in_heads(weights[f"{name}_kernel"])} for name in ("query", "key", "value")}
    own["out"] = {"kernel": weights["output_kernel"].reshape(heads, WIDTH, -1)}
    if has:
        for name in ("query", "key", "value"):
            own[name]["bias"] = in_heads(weights[f"{name}_bias"])
        own["out"]["bias"] = weights["output_bias"]
    if causal:
        triangle = jnp.tril(jnp.ones((query.shape[1], value.shape[1]), bool))
        mask = triangle if mask is None else mask & triangle
    return {"output": layer.apply({"params": own}, query, value, mask=mask)}


def nnx_multi_head_attention(
    query: Any, value: Any, mask: Any = None, *, heads: int, groups: int, causal: bool, **weights: Any
) -> dict[str, Any]:
    has = "query_bias" in weights
    layer = nnx.MultiHeadAttention(
        heads,
        query.shape[-1],
        heads * WIDTH,
        in_kv_features=value.shape[-1],
        num_kv_heads=groups,
        use_bias=has,
        param_dtype=query.dtype,
        decode=False,
        rngs=nnx.Rngs(0),
    )
    for name in ("query", "key", "value", "out"):
        own = getattr(layer, name)
        theirs = "output" if name == "out" else name
        kernel = weights[f"{theirs}_kernel"]
        own.kernel.set_value(kernel.reshape(heads, WIDTH, -1) if name == "out" else in_heads(kernel))
        if has:
            bias = weights[f"{theirs}_bias"]
            own.bias.set_value(bias if name == "out" else in_heads(bias))
    return {"output": layer(query, value, mask=mask, is_causal=causal)}


def grouped(asked: Any) -> bool:
    return asked.arrays["key"].shape[2] != asked.arrays["query"].shape[2]


WAYS = (
    Way(
        "attention",
        ("jax.nn.dot_product_attention",),
        of_jax,
        departures=(
            Departure(
                "a softmax in float32",
                "The softmax is computed in float32, also of float64.",
                size=16 * unit("float32"),  # of scores of a few units, whose exponentials are taken
            ),
        ),
        words={"is_causal": "causal"},
    ),
    Way(
        "attention",
        ("flax.linen.dot_product_attention",),
        of_flax,
        {
            "another scale": lambda asked: asked.configuration["scale"] is not None,
            "causal, but by a mask": lambda asked: asked.configuration["causal"],
            "fewer keys than heads": grouped,
        },
    ),
    Way(
        "multi_head_attention",
        ("flax.linen.MultiHeadDotProductAttention",),
        multi_head_attention,
        {"fewer keys than heads": lambda asked: asked.configuration["groups"] != asked.configuration["heads"]},
    ),
    Way(
        "multi_head_attention",
        ("flax.nnx.MultiHeadAttention",),
        nnx_multi_head_attention,
        departures=(
            Departure(
                "a softmax in float32",
                "The softmax is computed in float32, also of float64.",
                size=16 * unit("float32"),
            ),
        ),
        words={"num_heads": "heads", "num_kv_heads": "groups"},
    ),
)
