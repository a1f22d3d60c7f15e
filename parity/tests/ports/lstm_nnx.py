"""The classifier of ``lstm_torch`` as its porter wrote it in flax nnx, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

WORDS, WIDTH, HIDDEN, CLASSES = 12, 8, 8, 3
RATE, MOMENTUM, CLIP = 0.3, 0.9, 0.05


class Classifier(nnx.Module):
    def __init__(self, dtype: str, mistake: str, rngs: nnx.Rngs) -> None:
        own = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.embedding = nnx.Embed(WORDS, WIDTH, **own)
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(WIDTH, HIDDEN, **own), rngs=rngs)
        self.head, self.padded = nnx.Linear(HIDDEN, CLASSES, **own), mistake == "last-state"

    def __call__(self, words, lengths):  # (batch, time), (batch,)
        states = self.lstm(self.embedding(words))
        return self.head(states[:, -1] if self.padded else states[jnp.arange(len(words)), lengths - 1])


def build(weights, dtype: str, mistake: str = "") -> tuple[Classifier, nnx.Optimizer]:
    model = Classifier(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    if mistake == "forget-bias":
        bias = model.lstm.cell.dense_h.bias
        bias[...] = bias[...].at[HIDDEN : 2 * HIDDEN].add(1)
    return model, nnx.Optimizer(model, optax.sgd(RATE, MOMENTUM), wrt=nnx.Param)


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    if mistake == "clip-per-tensor":
        return jax.tree.map(lambda g: g * jnp.minimum(1, CLIP / (jnp.linalg.norm(g.ravel()) + 1e-6)), gradients)
    factor = jnp.minimum(1, CLIP / (optax.global_norm(gradients) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradients)


def loss_of(model, words, lengths, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(words, lengths), labels).mean()


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(weights, dtype, mistake)

    @nnx.jit
    def update(model, optimizer, words, lengths, labels):
        loss, gradients = nnx.value_and_grad(loss_of)(model, words, lengths, labels)
        optimizer.update(model, clipped(gradients, mistake))
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for batch in batches:
            losses.append(float(run.step(update, model, optimizer, *map(jnp.asarray, batch))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
