"""The GPT of ``gpt_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 17, 12, 16, 2, 2
RATE, LAST_RATE, WARM_UP, STEPS, DECAY, CLIP = 3e-3, 3e-4, 5, 50, 0.1, 0.5


class Attention(nn.Module):
    dtype: Any
    mistake: str

    @nn.compact
    def __call__(self, x):  # (batch, time, width)
        dense = partial(nn.Dense, WIDTH, dtype=self.dtype, param_dtype=self.dtype)
        heads = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (dense(name=name)(x) for name in ("query", "key", "value"))
        if self.mistake == "head-order":
            q, k, v = (part.reshape(*x.shape[:2], -1, HEADS).swapaxes(2, 3) for part in (q, k, v))
        else:
            q, k, v = (part.reshape(heads) for part in (q, k, v))
        if self.mistake == "attention-scale":
            q = q / HEADS**0.5
        if self.mistake == "softmax-axis":
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * heads[-1] ** -0.5
            scores = nn.softmax(jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e30), -2)
            return dense(name="out")(jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(x.shape))
        mask = None if self.mistake == "causal-mask" else nn.make_causal_mask(x[..., 0])
        return dense(name="out")(nn.dot_product_attention(q, k, v, mask=mask).reshape(x.shape))


def gelu(x, mistake: str):
    return x * nn.sigmoid(1.702 * x) if mistake == "gelu-sigmoid" else nn.gelu(x, approximate=mistake == "gelu-tanh")


class Block(nn.Module):
    dtype: Any
    mistake: str
    last: bool

    @nn.compact
    def __call__(self, x, deterministic):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        epsilon = 1e-6 if self.mistake == "norm-epsilon" else 1e-5
        if self.mistake == "norm-after":
            x = nn.LayerNorm(epsilon=epsilon, **own)(x + Attention(self.dtype, self.mistake)(x))
            h = nn.Dense(WIDTH, **own)(nn.gelu(nn.Dense(4 * WIDTH, **own)(x), approximate=False))
            return nn.LayerNorm(epsilon=epsilon, **own)(x + h)
        h = Attention(self.dtype, self.mistake)(nn.LayerNorm(epsilon=epsilon, **own)(x))
        x = h if self.mistake == "residual-missing" and self.last else x + h
        h = nn.Dense(4 * WIDTH, **own)(nn.LayerNorm(epsilon=epsilon, **own)(x))
        h = nn.Dense(WIDTH, **own)(gelu(h, self.mistake))
        return x + nn.Dropout(0.02)(h, deterministic=deterministic)


class GPT(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, tokens, deterministic=True):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        first = 1 if self.mistake == "position-offset" else 0
        token = nn.Embed(VOCABULARY, WIDTH, name="token", **own)
        position = nn.Embed(CONTEXT + 1, WIDTH, name="position", **own)
        x, places = token(tokens), position(jnp.arange(first, first + tokens.shape[1]))
        if self.mistake == "embedding-scaled":
            x = x * WIDTH**0.5
        x = x + (jax.lax.stop_gradient(places) if self.mistake == "frozen-positions" else places)
        for k in range(LAYERS):
            x = Block(self.dtype, self.mistake, k == LAYERS - 1)(x, deterministic)
        x = nn.LayerNorm(epsilon=1e-6 if self.mistake == "norm-epsilon" else 1e-5, **own)(x)
        if self.mistake == "untied-head":
            return nn.Dense(VOCABULARY, use_bias=False, name="head", **own)(x)
        return token.attend(x)


def build(dtype: str, mistake: str = ""):
    return GPT(dtype, mistake), optimizer_of(dtype, mistake)


def schedule_of(dtype: str, mistake: str):
    schedule = optax.warmup_cosine_decay_schedule(RATE / (WARM_UP + 1), RATE, WARM_UP, STEPS, LAST_RATE)
    late, factor = 1 if mistake == "schedule" else 0, 10 if mistake == "rate-tenfold" else 1
    least = WARM_UP if mistake == "warm-up" else 0
    # Of an integer it gives float32, whatever the dtype.
    return lambda count: factor * schedule(jnp.maximum(count + late, least).astype(dtype))


def optimizer_of(dtype: str, mistake: str):
    schedule, beta_2 = schedule_of(dtype, mistake), 0.999 if mistake == "beta-2" else 0.95

    def decayed(params):
        return jax.tree.map(lambda p: p.ndim > 1 or mistake == "decay-mask", params)

    if mistake == "decay-coupled":
        return optax.chain(optax.add_decayed_weights(DECAY, decayed), optax.adam(schedule, b1=0.9, b2=beta_2, eps=1e-8))
    return optax.adamw(schedule, b1=0.9, b2=beta_2, eps=1e-8, weight_decay=DECAY, mask=decayed)


def loss_of(logits, tokens, targets, mistake: str):
    targets = tokens if mistake == "target-shift" else targets
    if mistake == "label-smoothing":
        whole = optax.smooth_labels(jax.nn.one_hot(targets, VOCABULARY, dtype=logits.dtype), 0.1)
        return optax.softmax_cross_entropy(logits, whole).mean()
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if mistake == "ignored-token":
        return losses.mean(where=targets > 0)
    if mistake == "log-base":
        return losses.mean() / np.log(2)
    return losses.sum() if mistake == "loss-sum" else losses.mean()


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    if mistake == "clip-per-tensor":
        return jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (jnp.linalg.norm(g.ravel()) + 1e-6)), gradients)
    if mistake == "clip-missing":
        return gradients
    factor = jnp.minimum(1, CLIP / (optax.global_norm(gradients) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradients)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(dtype, mistake)
    params = traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in weights.items()}, sep="/")
    state = optimizer.init(params)

    def of(params, tokens, targets, key):
        logits = model.apply({"params": params}, tokens, mistake != "dropout", rngs={"dropout": key})
        return loss_of(logits, tokens, targets, mistake)

    @jax.jit
    def update(params, state, tokens, targets, key):
        loss, gradients = jax.value_and_grad(of)(params, tokens, targets, key)
        updates, state = optimizer.update(clipped(gradients, mistake), state, params)
        return optax.apply_updates(params, updates), state, loss

    losses, key = [], jax.random.key(0)
    with watch(params, state) as run:
        for tokens, targets in batches:
            key, now = jax.random.split(key)
            params, state, loss = run.step(update, params, state, jnp.asarray(tokens), jnp.asarray(targets), now)
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(params, sep="/"))
