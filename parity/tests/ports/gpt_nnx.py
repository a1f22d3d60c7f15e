"""The GPT of ``gpt_torch`` as its porter wrote it in flax nnx, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 17, 12, 16, 2, 2
RATE, LAST_RATE, WARM_UP, STEPS, DECAY, CLIP = 3e-3, 3e-4, 5, 50, 0.1, 0.5


class Attention(nnx.Module):
    def __init__(self, mistake: str, **own: Any) -> None:
        self.qkv, self.out = nnx.Linear(WIDTH, 3 * WIDTH, **own), nnx.Linear(WIDTH, WIDTH, **own)
        self.scale = (WIDTH if mistake == "attention-scale" else WIDTH // HEADS) ** -0.5
        self.causal, self.mistake = mistake != "causal-mask", mistake

    def __call__(self, x):  # (batch, time, width)
        q, k, v = jnp.split(self.qkv(x), 3, -1)
        if self.mistake == "head-order":
            q, k, v = (part.reshape(*x.shape[:2], -1, HEADS).swapaxes(2, 3) for part in (q, k, v))
        else:
            q, k, v = (part.reshape(*x.shape[:2], HEADS, WIDTH // HEADS) for part in (q, k, v))
        # By hand: nnx.dot_product_attention computes its scores in float32, whatever the dtype.
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * self.scale
        if self.causal:
            scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
        scores = nnx.softmax(scores, -2 if self.mistake == "softmax-axis" else -1)
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(x.shape))


def gelu(x, mistake: str):
    return x * nnx.sigmoid(1.702 * x) if mistake == "gelu-sigmoid" else nnx.gelu(x, approximate=mistake == "gelu-tanh")


class Block(nnx.Module):
    def __init__(self, mistake: str, last: bool, **own: Any) -> None:
        epsilon = 1e-6 if mistake == "norm-epsilon" else 1e-5
        self.norm_1, self.attention = nnx.LayerNorm(WIDTH, epsilon=epsilon, **own), Attention(mistake, **own)
        self.norm_2 = nnx.LayerNorm(WIDTH, epsilon=epsilon, **own)
        self.up, self.down = nnx.Linear(WIDTH, 4 * WIDTH, **own), nnx.Linear(4 * WIDTH, WIDTH, **own)
        self.dropout, self.mistake = nnx.Dropout(0.02, rngs=own["rngs"]), mistake
        self.last = last

    def __call__(self, x):
        if self.mistake == "norm-after":
            x = self.norm_1(x + self.attention(x))
            return self.norm_2(x + self.down(nnx.gelu(self.up(x), approximate=False)))
        h = self.attention(self.norm_1(x))
        x = h if self.mistake == "residual-missing" and self.last else x + h
        h = gelu(self.up(self.norm_2(x)), self.mistake)
        return x + self.dropout(self.down(h))


class GPT(nnx.Module):
    def __init__(self, dtype: str, mistake: str, rngs: nnx.Rngs) -> None:
        own = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.token, self.position = nnx.Embed(VOCABULARY, WIDTH, **own), nnx.Embed(CONTEXT + 1, WIDTH, **own)
        self.blocks = nnx.List([Block(mistake, k == LAYERS - 1, **own) for k in range(LAYERS)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-6 if mistake == "norm-epsilon" else 1e-5, **own)
        self.head = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, **own) if mistake == "untied-head" else None
        self.mistake, self.first = mistake, 1 if mistake == "position-offset" else 0

    def __call__(self, tokens):
        x, places = self.token(tokens), self.position(jnp.arange(self.first, self.first + tokens.shape[1]))
        if self.mistake == "embedding-scaled":
            x = x * WIDTH**0.5
        x = x + (jax.lax.stop_gradient(places) if self.mistake == "frozen-positions" else places)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.token.attend(x) if self.head is None else self.head(x)


def build(weights, dtype: str, mistake: str = "") -> tuple[GPT, nnx.Optimizer]:
    model = GPT(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    if mistake != "dropout":
        model.eval()
    return model, nnx.Optimizer(model, optimizer_of(dtype, mistake), wrt=nnx.Param)


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


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    if mistake == "clip-per-tensor":
        return jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (jnp.linalg.norm(g.ravel()) + 1e-6)), gradients)
    if mistake == "clip-missing":
        return gradients
    factor = jnp.minimum(1, CLIP / (optax.global_norm(gradients) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradients)


def loss_of(model, tokens, targets, mistake: str):
    logits = model(tokens)
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


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(weights, dtype, mistake)

    @nnx.jit
    def update(model, optimizer, tokens, targets):
        loss, gradients = nnx.value_and_grad(loss_of)(model, tokens, targets, mistake)
        optimizer.update(model, clipped(gradients, mistake))
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            losses.append(float(run.step(update, model, optimizer, jnp.asarray(tokens), jnp.asarray(targets))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
