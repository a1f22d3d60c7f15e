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
        x = nn.Embed(WORDS, WIDTH, **own)(words)
        rnn = nn.RNN(nn.OptimizedLSTMCell(HIDDEN, **own, name="lstm"))
        states = rnn(x)
        last = states[:, -1] if self.mistake == "last-state" else states[jnp.arange(len(words)), lengths - 1]
        return nn.Dense(CLASSES, **own)(last)


def build(dtype: str, mistake: str = ""):
    return Classifier(dtype, mistake), optax.sgd(RATE, MOMENTUM)


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    if mistake == "clip-per-tensor":
        return jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (jnp.linalg.norm(g.ravel()) + 1e-6)), gradients)
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
        def loss_of(params):
            logits = model.apply({"params": params}, words, lengths)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(clipped(gradients, mistake), state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for batch in batches:
            params, state, loss = run.step(update, params, state, *map(jnp.asarray, batch))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(params, sep="/"))
