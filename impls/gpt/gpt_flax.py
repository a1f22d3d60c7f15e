"""A small GPT as a flax (linen) module."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

HEADS, EPSILON = 2, 1e-5


def layout(case: Case) -> tuple[Slot, ...]:
    return tuple(Slot(name, name.replace("/table", "/embedding")) for name in case.initial())


class Block(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, kinds = x.shape[-1], {"dtype": self.dtype, "param_dtype": self.dtype}
        normal1 = nn.LayerNorm(EPSILON, use_fast_variance=False, name="norm1", **kinds)(x)
        joined = nn.Dense(3 * width, use_bias=False, name="attention", **kinds)(
            normal1
        )  # (batch, T, C) -> (batch, T, 3C)
        heads = joined.reshape(*x.shape[:2], 3, HEADS, -1)  # (batch, T, 3C) -> (batch, T, 3, heads, C / heads)
        query, key, value = jnp.moveaxis(heads, 2, 0)
        seen = nn.make_causal_mask(x[..., 0])  # (batch, 1, T, T)
        mixed = nn.dot_product_attention(query, key, value, mask=seen, dtype=self.dtype)
        h = x + nn.Dense(width, name="projection", **kinds)(mixed.reshape(x.shape))
        normal2 = nn.LayerNorm(EPSILON, use_fast_variance=False, name="norm2", **kinds)(h)
        hidden = nn.gelu(nn.Dense(4 * width, name="up", **kinds)(normal2))  # (batch, T, C) -> (batch, T, 4C)
        return h + nn.Dense(width, name="down", **kinds)(hidden)  # (batch, T, 4C) -> (batch, T, C)


class Gpt(nn.Module):
    characters: int
    places: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.dtype}
        token = nn.Embed(self.characters, self.width, name="token", **kinds)
        position = nn.Embed(self.places, self.width, name="position", **kinds)
        h = token(x) + position(jnp.arange(x.shape[1]))  # (batch, T) -> (batch, T, C)
        h = Block(self.dtype, name="block1")(h)
        h = Block(self.dtype, name="block2")(h)
        h = nn.LayerNorm(EPSILON, use_fast_variance=False, name="norm", **kinds)(h)
        return token.attend(h)  # (batch, T, C) -> (batch, T, characters)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    token, position = params["token/embedding"], params["position/embedding"]
    model = Gpt(len(token), *position.shape, token.dtype)
    return model.apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(case), forward)
