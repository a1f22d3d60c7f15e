"""A small GPT in raw JAX."""

import jax
import jax.numpy as jnp

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

HEADS, EPSILON = 2, 1e-5


def layout(case: Case) -> tuple[Slot, ...]:
    return tuple(Slot(name, name.replace("/", "_")) for name in case.initial())


def dense(params: Arrays, name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}_kernel"] + params[f"{name}_bias"]


def norm(params: Arrays, name: str, x: jax.Array) -> jax.Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + EPSILON) * params[f"{name}_scale"] + params[f"{name}_bias"]


def block(params: Arrays, name: str, x: jax.Array) -> jax.Array:
    joined = norm(params, f"{name}_norm1", x) @ params[f"{name}_attention_kernel"]  # (batch, T, C) -> (batch, T, 3C)
    heads = joined.reshape(*x.shape[:2], 3, HEADS, -1)  # (batch, T, 3C) -> (batch, T, 3, heads, C / heads)
    query, key, value = jnp.moveaxis(heads, 2, 0)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))  # (batch, heads, T, T)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)  # (batch, T, C)
    h = x + dense(params, f"{name}_projection", mixed)
    hidden = jax.nn.gelu(dense(params, f"{name}_up", norm(params, f"{name}_norm2", h)))  # (batch, T, 4C)
    return h + dense(params, f"{name}_down", hidden)  # (batch, T, 4C) -> (batch, T, C)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    token = params["token_table"]
    h = token[x] + params["position_table"][: x.shape[1]]  # (batch, T) -> (batch, T, C)
    h = block(params, "block2", block(params, "block1", h))
    return norm(params, "norm", h) @ token.T  # (batch, T, C) -> (batch, T, characters)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(case), forward)
