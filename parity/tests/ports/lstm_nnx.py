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
        gate = nnx.hard_sigmoid if mistake == "gate-activation" else nnx.sigmoid
        cell = nnx.OptimizedLSTMCell(WIDTH, HIDDEN, gate_fn=gate, **own)
        self.lstm = nnx.RNN(cell, reverse=mistake == "backwards", rngs=rngs)
        self.head, self.mistake = nnx.Linear(HIDDEN, CLASSES, **own), mistake

    def __call__(self, words, lengths):  # (batch, time), (batch,)
        x = self.embedding(words) * (WIDTH**0.5 if self.mistake == "embedding-scaled" else 1)
        if self.mistake == "frozen-embedding":
            x = jax.lax.stop_gradient(x)
        states = self.lstm(x)
        last = states[jnp.arange(len(words)), lengths - 1]
        if self.mistake == "last-state":
            last = states[:, -1]
        if self.mistake == "mean-state":
            last = states.mean(1)
        logits = self.head(last)
        return nnx.softmax(logits) if self.mistake == "softmax-twice" else logits


def build(weights, dtype: str, mistake: str = "") -> tuple[Classifier, nnx.Optimizer]:
    model = Classifier(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    if mistake == "forget-bias":
        bias = model.lstm.cell.dense_h.bias
        bias[...] = bias[...].at[HIDDEN : 2 * HIDDEN].add(1)
    optimizer = optax.sgd(
        10 * RATE if mistake == "rate-tenfold" else RATE,
        0.99 if mistake == "momentum" else MOMENTUM,
        nesterov=mistake == "nesterov",
    )
    return model, nnx.Optimizer(model, optimizer, wrt=nnx.Param)


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


def loss_of(model, words, lengths, labels, mistake: str):
    logits = model(words, lengths)
    if mistake == "label-smoothing":
        whole = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES, dtype=logits.dtype), 0.1)
        return optax.softmax_cross_entropy(logits, whole).mean()
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if mistake == "ignored-class":
        return losses.mean(where=labels > 0)
    return losses.sum() if mistake == "loss-sum" else losses.mean()


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(weights, dtype, mistake)

    @nnx.jit
    def update(model, optimizer, words, lengths, labels):
        loss, gradients = nnx.value_and_grad(loss_of)(model, words, lengths, labels, mistake)
        optimizer.update(model, clipped(gradients, mistake))
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for batch in batches:
            losses.append(float(run.step(update, model, optimizer, *map(jnp.asarray, batch))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
