"""torch's attention. The function's mask is True where a query may look; the layer's is True where it may not."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from parity.tests.nn.conformance import Departure, Way


def attention(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *, scale: float | None, causal: bool
) -> dict[str, Any]:
    heads_first = [one.movedim(2, 1) for one in (query, key, value)]
    output = functional.scaled_dot_product_attention(
        *heads_first,
        attn_mask=bias if mask is None else mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=key.shape[2] != query.shape[2],
    )
    return {"output": output.movedim(1, 2)}


def multi_head_attention(
    query: Any, value: Any, mask: Any = None, *, heads: int, groups: int, causal: bool, **weights: Any
) -> dict[str, Any]:
    features, others = query.shape[-1], value.shape[-1]
    has = "query_bias" in weights
    layer = nn.MultiheadAttention(
        features, heads, bias=has, kdim=others, vdim=others, batch_first=True, dtype=query.dtype
    )
    kernels = [weights[f"{name}_kernel"].T for name in ("query", "key", "value")]
    own = {"out_proj.weight": weights["output_kernel"].T}
    if features == others:
        own["in_proj_weight"] = torch.cat(kernels)
    else:
        own |= dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), kernels, strict=True))
    if has:
        own["in_proj_bias"] = torch.cat([weights[f"{name}_bias"] for name in ("query", "key", "value")])
        own["out_proj.bias"] = weights["output_bias"]
    hidden = torch.ones(query.shape[1], value.shape[1], dtype=torch.bool).triu(1) if causal else None
    if mask is not None:
        own_mask = ~mask.expand(-1, heads, -1, -1).reshape(-1, *mask.shape[2:])  # (batch · heads, queries, keys)
        hidden = own_mask if hidden is None else own_mask | hidden
    output, _ = functional_call(layer, own, (query, value, value), {"attn_mask": hidden, "need_weights": False})
    return {"output": output}


BASE = "torch.nn."
WAYS = (
    Way(
        "attention",
        (BASE + "functional.scaled_dot_product_attention",),
        attention,
        {
            "a causal mask and another": lambda asked: (
                asked.configuration["causal"] and bool(asked.arrays.keys() & {"bias", "mask"})
            )
        },
        (
            Departure(
                "0 without keys",
                "A query that may look at no key gets 0; elsewhere it gets the mean of all values.",
                like={"without_keys": "zero"},
                when=lambda asked: "mask" in asked.arrays,
            ),
        ),
        words={"is_causal": "causal"},
    ),
    Way(
        "multi_head_attention",
        (BASE + "MultiheadAttention",),
        multi_head_attention,
        {"fewer keys than heads": lambda asked: asked.configuration["groups"] != asked.configuration["heads"]},
        (),
    ),
)
