"""The Llama of ``llama_torch`` as its porter wrote it in flax nnx, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

VOCABULARY, WIDTH, HEADS, GROUPS, HIDDEN, LAYERS = 19, 16, 4, 2, 24, 2
PADDING, BASE, EPSILON = -100, 10000.0, 1e-5
RATE, DECAY = 2e-3, 0.1


def rotated(x):
    """Each pair turned by a right angle, the halves being the pairs."""
    return jnp.concatenate((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), -1)


def turned(x, mistake: str):  # (batch, time, head, width of a head)
    half = x.shape[-1] // 2
    base = 500000.0 if mistake == "rotary-base" else BASE
    frequencies = base ** -(jnp.arange(half, dtype=x.dtype) / half)
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None, None] * frequencies
    if mistake == "rotary-backwards":
        angles = -angles
    if mistake == "rotary-halves":
        angles = jnp.repeat(angles, 2, -1)
        beside = jnp.stack((-x[..., 1::2], x[..., ::2]), -1).reshape(x.shape)
        return x * jnp.cos(angles) + beside * jnp.sin(angles)
    angles = jnp.tile(angles, 2)
    return x * jnp.cos(angles) + rotated(x) * jnp.sin(angles)


class Attention(nnx.Module):
    def __init__(self, mistake: str, **own: Any) -> None:
        head = WIDTH // HEADS
        self.qkv = nnx.Linear(WIDTH, (HEADS + 2 * GROUPS) * head, use_bias=False, **own)
        self.out = nnx.Linear(WIDTH, WIDTH, use_bias=False, **own)
        self.mistake = mistake

    def __call__(self, x):  # (batch, time, width)
        all_heads = self.qkv(x).reshape(*x.shape[:2], HEADS + 2 * GROUPS, -1)
        q, k, v = jnp.split(all_heads, (HEADS, HEADS + GROUPS), axis=2)
        q = turned(q, self.mistake)
        k = k if self.mistake == "rotary-keys" else turned(k, self.mistake)
        v = turned(v, self.mistake) if self.mistake == "rotary-values" else v
        if self.mistake == "heads-tiled":
            k, v = (jnp.tile(part, (1, 1, HEADS // GROUPS, 1)) for part in (k, v))
        else:
            k, v = (jnp.repeat(part, HEADS // GROUPS, axis=2) for part in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (1 if self.mistake == "attention-scale" else q.shape[-1] ** -0.5)
        if self.mistake != "causal-mask":
            scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v).reshape(x.shape))


class FeedForward(nnx.Module):
    def __init__(self, mistake: str, **own: Any) -> None:
        self.gate_up = nnx.Linear(WIDTH, 2 * HIDDEN, use_bias=False, **own)
        self.down = nnx.Linear(HIDDEN, WIDTH, use_bias=False, **own)
        self.mistake = mistake

    def __call__(self, x):
        gate, up = jnp.split(self.gate_up(x), 2, -1)
        if self.mistake == "gate-exchanged":
            gate, up = up, gate
        gate = nnx.gelu(gate, approximate=False) if self.mistake == "gelu-gate" else nnx.silu(gate)
        return self.down(gate * up)


class Shifted(nnx.RMSNorm):
    """Whose scale is counted from one."""

    def __call__(self, x):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * (1 + self.scale[...])


def norm(mistake: str, **own: Any) -> nnx.Module:
    if mistake == "norm-centred":
        return nnx.LayerNorm(WIDTH, epsilon=EPSILON, use_bias=False, **own)
    kind = Shifted if mistake == "norm-shifted" else nnx.RMSNorm
    return kind(WIDTH, epsilon=1e-3 if mistake == "norm-epsilon" else EPSILON, **own)


class Block(nnx.Module):
    def __init__(self, mistake: str, **own: Any) -> None:
        self.norm_1, self.attention = norm(mistake, **own), Attention(mistake, **own)
        self.norm_2, self.mlp = norm(mistake, **own), FeedForward(mistake, **own)
        self.mistake = mistake

    def __call__(self, x):
        h = x + self.attention(self.norm_1(x))
        return h + self.mlp(self.norm_2(x if self.mistake == "parallel-block" else h))


class Llama(nnx.Module):
    def __init__(self, dtype: str, mistake: str, rngs: nnx.Rngs) -> None:
        own = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.embed = nnx.Embed(VOCABULARY, WIDTH, **own)
        self.blocks = nnx.List([Block(mistake, **own) for _ in range(LAYERS)])
        self.norm = norm(mistake, **own)
        self.head = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, **own)
        self.mistake = mistake

    def __call__(self, tokens):
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(h if self.mistake == "last-norm" else self.norm(h))


def loss_of(model, tokens, targets, mistake: str):
    logits, counted = model(tokens), targets != PADDING
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, targets, 0))
    if mistake == "mean-of-means":
        return losses.mean(1, where=counted).mean()
    if mistake == "padding-counted":
        return (losses * counted).mean()
    loss = losses.mean(where=counted)
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
    model = Llama(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    optimizer, parts = nnx.Optimizer(model, optimizer_of(mistake), wrt=nnx.Param), 2 if mistake == "accumulation" else 1

    @nnx.jit
    def update(model, optimizer, tokens, targets):
        found = [
            nnx.value_and_grad(loss_of)(model, *both, mistake)
            for both in zip(jnp.split(tokens, parts), jnp.split(targets, parts), strict=True)
        ]
        optimizer.update(model, jax.tree.map(lambda *each: sum(each), *(gradient for _, gradient in found)))
        return sum(loss for loss, _ in found) / parts

    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            losses.append(float(run.step(update, model, optimizer, jnp.asarray(tokens), jnp.asarray(targets))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
