"""A small GPT as a flax (nnx) module: an object that holds its parameters, split from them and merged again.

``nnx.dot_product_attention`` computes its scores in float32 whatever the dtype, so attention is written out.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_nnx_trainer import nnx_trainer

HEADS, EPSILON = 2, 1e-5


def layout(case: Case) -> tuple[Slot, ...]:
    return tuple(Slot(name, name.replace("/table", "/embedding")) for name in case.initial())


class Block(nnx.Module):
    def __init__(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        kinds = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.norm1 = nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, **kinds)
        self.attention = nnx.Linear(width, 3 * width, use_bias=False, **kinds)
        self.projection = nnx.Linear(width, width, **kinds)
        self.norm2 = nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, **kinds)
        self.up = nnx.Linear(width, 4 * width, **kinds)
        self.down = nnx.Linear(4 * width, width, **kinds)

    def __call__(self, x: jax.Array) -> jax.Array:
        joined = self.attention(self.norm1(x))  # (batch, T, C) -> (batch, T, 3C)
        heads = joined.reshape(*x.shape[:2], 3, HEADS, -1)  # (batch, T, 3C) -> (batch, T, 3, heads, C / heads)
        query, key, value = jnp.moveaxis(heads, 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = nnx.softmax(jnp.where(seen, scores, -jnp.inf))  # (batch, heads, T, T)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)  # (batch, T, C)
        h = x + self.projection(mixed)
        hidden = nnx.gelu(self.up(self.norm2(h)))  # (batch, T, C) -> (batch, T, 4C)
        return h + self.down(hidden)  # (batch, T, 4C) -> (batch, T, C)


class Gpt(nnx.Module):
    def __init__(self, characters: int, places: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        kinds = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.token, self.position = nnx.Embed(characters, width, **kinds), nnx.Embed(places, width, **kinds)
        self.block1, self.block2 = Block(width, dtype, rngs), Block(width, dtype, rngs)
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, **kinds)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.token(x) + self.position(jnp.arange(x.shape[1]))  # (batch, T) -> (batch, T, C)
        h = self.block2(self.block1(h))
        return self.token.attend(self.norm(h))  # (batch, T, C) -> (batch, T, characters)


def build(case: Case, dtype: str, device: str) -> Trainer:
    initial, kind = case.initial(), jnp.dtype(dtype)
    characters, (places, width) = len(initial["token/table"]), initial["position/table"].shape
    return nnx_trainer(case, dtype, device, layout(case), lambda: Gpt(characters, places, width, kind, nnx.Rngs(0)))
