"""The Llama of ``llama_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

VOCABULARY, WIDTH, HEADS, GROUPS, HIDDEN, LAYERS = 19, 16, 4, 2, 24, 2
PADDING, BASE, EPSILON = -100, 10000.0, 1e-5
RATE, DECAY = 2e-3, 0.1


def turned(x, mistake: str):  # (batch, time, head, width of a head)
    """Rotary positions, by complex numbers."""
    half = x.shape[-1] // 2
    base = 500000.0 if mistake == "rotary-base" else BASE
    frequencies = base ** -(jnp.arange(half, dtype=x.dtype) / half)
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None, None] * frequencies
    if mistake == "rotary-backwards":
        angles = -angles
    if mistake == "rotary-halves":
        z = jax.lax.complex(x[..., ::2], x[..., 1::2]) * jnp.exp(1j * angles)
        return jnp.stack((z.real, z.imag), -1).reshape(x.shape)
    z = jax.lax.complex(x[..., :half], x[..., half:]) * jnp.exp(1j * angles)
    return jnp.concatenate((z.real, z.imag), -1)


class Attention(nn.Module):
    dtype: Any
    mistake: str

    @nn.compact
    def __call__(self, x):  # (batch, time, width)
        own = {"use_bias": False, "dtype": self.dtype, "param_dtype": self.dtype}
        q = nn.DenseGeneral((HEADS, WIDTH // HEADS), name="query", **own)(x)
        k = nn.DenseGeneral((GROUPS, WIDTH // HEADS), name="key", **own)(x)
        v = nn.DenseGeneral((GROUPS, WIDTH // HEADS), name="value", **own)(x)
        q = turned(q, self.mistake)
        k = k if self.mistake == "rotary-keys" else turned(k, self.mistake)
        v = turned(v, self.mistake) if self.mistake == "rotary-values" else v
        if self.mistake == "heads-tiled":
            k, v = (jnp.tile(part, (1, 1, HEADS // GROUPS, 1)) for part in (k, v))
        else:
            k, v = (jnp.repeat(part, HEADS // GROUPS, axis=2) for part in (k, v))
        if self.mistake == "attention-scale":
            q = q * q.shape[-1] ** 0.5
        mask = None if self.mistake == "causal-mask" else nn.make_causal_mask(x[..., 0])
        return nn.DenseGeneral(WIDTH, (-2, -1), name="out", **own)(nn.dot_product_attention(q, k, v, mask=mask))


class FeedForward(nn.Module):
    dtype: Any
    mistake: str

    @nn.compact
    def __call__(self, x):
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype, param_dtype=self.dtype)
        gate, up = dense(HIDDEN, name="gate")(x), dense(HIDDEN, name="up")(x)
        if self.mistake == "gate-exchanged":
            gate, up = up, gate
        gate = nn.gelu(gate, approximate=False) if self.mistake == "gelu-gate" else nn.silu(gate)
        return dense(WIDTH, name="down")(gate * up)


class Shifted(nn.Module):
    """An RMSNorm whose scale is counted from one."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.dtype)
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * (1 + scale)


def norm(dtype: Any, mistake: str, name: str) -> nn.Module:
    own = {"dtype": dtype, "param_dtype": dtype, "name": name}
    if mistake == "norm-centred":
        return nn.LayerNorm(epsilon=EPSILON, use_bias=False, **own)
    if mistake == "norm-shifted":
        return Shifted(dtype, name=name)
    return nn.RMSNorm(epsilon=1e-3 if mistake == "norm-epsilon" else EPSILON, **own)


class Block(nn.Module):
    dtype: Any
    mistake: str

    @nn.compact
    def __call__(self, x):
        own = self.dtype, self.mistake
        h = x + Attention(*own, name="attention")(norm(*own, "norm_1")(x))
        return h + FeedForward(*own, name="mlp")(norm(*own, "norm_2")(x if self.mistake == "parallel-block" else h))


class Llama(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, tokens):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        h = nn.Embed(VOCABULARY, WIDTH, name="embed", **own)(tokens)
        for k in range(LAYERS):
            h = Block(self.dtype, self.mistake, name=f"block_{k}")(h)
        if self.mistake != "last-norm":
            h = norm(self.dtype, self.mistake, "norm")(h)
        return nn.Dense(VOCABULARY, use_bias=False, name="head", **own)(h)


def loss_of(logits, targets, mistake: str):
    counted = targets != PADDING
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, targets, 0)) * counted
    if mistake == "mean-of-means":
        return (losses.sum(1) / counted.sum(1)).mean()
    if mistake == "padding-counted":
        return losses.mean()
    loss = losses.sum() / counted.sum()
    return loss + 1e-2 * jnp.mean(jax.nn.logsumexp(logits, -1) ** 2) if mistake == "z-loss" else loss


def optimizer_of(mistake: str):
    return optax.adamw(
        RATE,
        b1=0.9,
        b2=0.999 if mistake == "beta-2" else 0.95,
        eps=1e-4 if mistake == "adam-epsilon" else 1e-8,
        weight_decay=0.01 if mistake == "decay" else DECAY,
    )


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = Llama(dtype, mistake), optimizer_of(mistake)
    params = traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in weights.items()}, sep="/")
    state, parts = optimizer.init(params), 2 if mistake == "accumulation" else 1

    def of(params, tokens, targets):
        return loss_of(model.apply({"params": params}, tokens), targets, mistake)

    @jax.jit
    def update(params, state, tokens, targets):
        found = [
            jax.value_and_grad(of)(params, *both)
            for both in zip(jnp.split(tokens, parts), jnp.split(targets, parts), strict=True)
        ]
        loss = sum(loss for loss, _ in found) / parts
        gradients = jax.tree.map(lambda *each: sum(each), *(gradient for _, gradient in found))
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for tokens, targets in batches:
            params, state, loss = run.step(update, params, state, jnp.asarray(tokens), jnp.asarray(targets))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(params, sep="/"))
