"""The classifier of ``lstm_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

WORDS, WIDTH, HIDDEN, CLASSES = 12, 8, 8, 3
RATE, MOMENTUM, CLIP = 0.3, 0.9, 0.05


class Classifier(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, words, lengths):  # (batch, time), (batch,)
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.Embed(WORDS, WIDTH, **own)(words) * (WIDTH**0.5 if self.mistake == "embedding-scaled" else 1)
        if self.mistake == "frozen-embedding":
            x = jax.lax.stop_gradient(x)
        gate = nn.hard_sigmoid if self.mistake == "gate-activation" else nn.sigmoid
        rnn = nn.RNN(
            nn.OptimizedLSTMCell(HIDDEN, gate_fn=gate, **own, name="lstm"), reverse=self.mistake == "backwards"
        )
        (last_cell, _), states = rnn(
            x, seq_lengths=lengths if self.mistake == "cell-state" else None, return_carry=True
        )
        last = states[jnp.arange(len(words)), lengths - 1]
        if self.mistake == "last-state":
            last = states[:, -1]
        if self.mistake == "mean-state":
            last = states.mean(1)
        if self.mistake == "cell-state":
            last = last_cell
        logits = nn.Dense(CLASSES, **own)(last)
        return nn.softmax(logits) if self.mistake == "softmax-twice" else logits


def build(dtype: str, mistake: str = ""):
    optimizer = optax.sgd(
        10 * RATE if mistake == "rate-tenfold" else RATE,
        0.99 if mistake == "momentum" else MOMENTUM,
        nesterov=mistake == "nesterov",
    )
    return Classifier(dtype, mistake), optimizer


def loss_of(logits, labels, mistake: str):
    if mistake == "label-smoothing":
        whole = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES, dtype=logits.dtype), 0.1)
        return optax.softmax_cross_entropy(logits, whole).mean()
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if mistake == "ignored-class":
        return losses.mean(where=labels > 0)
    return losses.sum() if mistake == "loss-sum" else losses.mean()


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    if mistake == "clip-per-tensor":
        return jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (jnp.linalg.norm(g.ravel()) + 1e-6)), gradients)
    if mistake == "clip-value":
        return jax.tree.map(lambda g: jnp.clip(g, -CLIP, CLIP), gradients)
    if mistake == "clip-missing":
        return gradients
    factor = jnp.minimum(1, CLIP / (optax.global_norm(gradients) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradients)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(dtype, mistake)
    params = traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in weights.items()}, sep="/")
    if mistake == "forget-bias":
        params["lstm"]["hf"]["bias"] += 1
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, words, lengths, labels):
        def of(params):
            return loss_of(model.apply({"params": params}, words, lengths), labels, mistake)

        loss, gradients = jax.value_and_grad(of)(params)
        updates, state = optimizer.update(clipped(gradients, mistake), state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for batch in batches:
            params, state, loss = run.step(update, params, state, *map(jnp.asarray, batch))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(params, sep="/"))
