"""flax's dense layers and embeddings, linen's and nnx's."""

from __future__ import annotations

from typing import Any

from flax import linen, nnx

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_jax import there, with_parameters


def dense_of_linen(x: Any, kernel: Any, bias: Any = None) -> dict[str, Any]:
    layer = linen.Dense(kernel.shape[-1], use_bias=bias is not None, param_dtype=x.dtype)
    return {"output": layer.apply({"params": there(kernel=kernel, bias=bias)}, x)}


def dense_of_nnx(x: Any, kernel: Any, bias: Any = None) -> dict[str, Any]:
    layer = nnx.Linear(*kernel.shape, use_bias=bias is not None, param_dtype=x.dtype, rngs=nnx.Rngs(0))
    return {"output": with_parameters(layer, kernel=kernel, bias=bias)(x)}


def embedding_of_linen(indices: Any, table: Any, *, padding_index: int | None) -> dict[str, Any]:
    layer = linen.Embed(*table.shape, param_dtype=table.dtype)
    return {"output": layer.apply({"params": {"embedding": table}}, indices)}


def embedding_of_nnx(indices: Any, table: Any, *, padding_index: int | None) -> dict[str, Any]:
    layer = nnx.Embed(*table.shape, param_dtype=table.dtype, rngs=nnx.Rngs(0))
    return {"output": with_parameters(layer, embedding=table)(indices)}


PADDING = {"a padding index": lambda asked: asked.configuration["padding_index"] is not None}
WAYS = (
    Way("dense", ("flax.linen.Dense",), dense_of_linen),
    Way("dense", ("flax.nnx.Linear",), dense_of_nnx),
    Way("embedding", ("flax.linen.Embed",), embedding_of_linen, PADDING),
    Way("embedding", ("flax.nnx.Embed",), embedding_of_nnx, PADDING),
)
