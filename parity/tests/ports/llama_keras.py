"""The Llama of ``llama_torch`` as its porter wrote it in Keras on TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

VOCABULARY, CONTEXT, WIDTH, HEADS, GROUPS, HIDDEN, LAYERS = 19, 10, 16, 4, 2, 24, 2
PADDING, BASE, EPSILON = -100, 10000.0, 1e-5
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, DECAY, BETA_1, BETA_2 = (np.float64(each) for each in (2e-3, 0.1, 0.9, 0.95))


def turned(x, mistake: str):  # (batch, time, head, width of a head)
    """Rotary positions: each first half of a head is turned with its second half."""
    time, half = x.shape[1], x.shape[-1] // 2
    base = 500000.0 if mistake == "rotary-base" else BASE
    angles = np.arange(time)[:, None, None] * base ** -(np.arange(half) / half)
    angles = -angles if mistake == "rotary-backwards" else angles
    cos, sin = (ops.convert_to_tensor(f(angles), x.dtype) for f in (np.cos, np.sin))
    if mistake == "rotary-halves":
        a, b = x[..., ::2], x[..., 1::2]
        return ops.reshape(ops.stack((a * cos - b * sin, b * cos + a * sin), -1), (-1, *x.shape[1:]))
    a, b = ops.split(x, 2, -1)
    return ops.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(layers.Layer):
    def __init__(self, mistake: str, **named: Any) -> None:
        super().__init__(**named)
        self.head = WIDTH // HEADS
        self.query = layers.Dense(HEADS * self.head, use_bias=False, name="query")
        self.key, self.value = (layers.Dense(GROUPS * self.head, use_bias=False, name=n) for n in ("key", "value"))
        self.out = layers.Dense(WIDTH, use_bias=False, name="out")
        self.mistake = mistake

    def call(self, x):  # (batch, time, width)
        time = x.shape[1]
        q, k, v = (ops.reshape(w(x), (-1, time, w.units // self.head, self.head)) for w in self.all_three())
        q = turned(q, self.mistake)
        k = k if self.mistake == "rotary-keys" else turned(k, self.mistake)
        v = turned(v, self.mistake) if self.mistake == "rotary-values" else v
        if self.mistake == "heads-tiled":
            k, v = (ops.tile(part, (1, 1, HEADS // GROUPS, 1)) for part in (k, v))
        else:
            k, v = (ops.repeat(part, HEADS // GROUPS, axis=2) for part in (k, v))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * (1 if self.mistake == "attention-scale" else self.head**-0.5)
        if self.mistake != "causal-mask":
            scores = ops.where(ops.tril(ops.ones((time, time), "bool")), scores, -1e30)
        return self.out(ops.reshape(ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v), (-1, time, WIDTH)))

    def all_three(self) -> tuple[layers.Dense, ...]:
        return self.query, self.key, self.value


class FeedForward(layers.Layer):
    def __init__(self, mistake: str, **named: Any) -> None:
        super().__init__(**named)
        self.gate, self.up = (layers.Dense(HIDDEN, use_bias=False, name=name) for name in ("gate", "up"))
        self.down = layers.Dense(WIDTH, use_bias=False, name="down")
        self.mistake = mistake

    def call(self, x):
        gate, up = self.gate(x), self.up(x)
        if self.mistake == "gate-exchanged":
            gate, up = up, gate
        # By the error function: of float64 Keras's own has a constant in float32.
        gate = 0.5 * gate * (1 + ops.erf(gate * 0.5**0.5)) if self.mistake == "gelu-gate" else ops.silu(gate)
        return self.down(gate * up)


class Shifted(layers.RMSNormalization):
    """Whose scale is counted from one."""

    def call(self, x):
        return x * ops.rsqrt(ops.mean(x * x, -1, keepdims=True) + EPSILON) * (1 + self.scale)


def norm(mistake: str, name: str) -> layers.Layer:
    if mistake == "norm-centred":
        return layers.LayerNormalization(epsilon=EPSILON, center=False, name=name)
    kind = Shifted if mistake == "norm-shifted" else layers.RMSNormalization
    return kind(epsilon=1e-3 if mistake == "norm-epsilon" else EPSILON, name=name)


class Block(layers.Layer):
    def __init__(self, mistake: str, **named: Any) -> None:
        super().__init__(**named)
        self.norm_1, self.attention = norm(mistake, "norm_1"), Attention(mistake, name="attention")
        self.norm_2, self.mlp = norm(mistake, "norm_2"), FeedForward(mistake, name="mlp")
        self.mistake = mistake

    def call(self, x):
        h = x + self.attention(self.norm_1(x))
        return h + self.mlp(self.norm_2(x if self.mistake == "parallel-block" else h))


class Llama(keras.Model):
    def __init__(self, mistake: str) -> None:
        super().__init__(name="llama")
        self.embed = layers.Embedding(VOCABULARY, WIDTH, name="embed")
        self.blocks = [Block(mistake, name=f"block_{k}") for k in range(LAYERS)]
        self.norm = norm(mistake, "norm")
        self.head = layers.Dense(VOCABULARY, use_bias=False, name="head")
        self.mistake = mistake

    def call(self, tokens):
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(h if self.mistake == "last-norm" else self.norm(h))


class AdamW(keras.optimizers.AdamW):
    """Keras adds epsilon to the root before its bias is corrected, torch after it."""

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(self.iterations + 1, variable.dtype)
        mine, self.epsilon = self.epsilon, self.epsilon * ops.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = mine


def build(mistake: str = "") -> tuple[Llama, AdamW]:
    optimizer = AdamW(
        RATE,
        beta_1=BETA_1,
        beta_2=np.float64(0.999) if mistake == "beta-2" else BETA_2,
        epsilon=1e-4 if mistake == "adam-epsilon" else 1e-8,
        weight_decay=np.float64(0.01) if mistake == "decay" else DECAY,
    )
    return Llama(mistake), optimizer


def loss_of(targets, logits, mistake: str):
    counted = ops.cast(targets != PADDING, logits.dtype)
    each = keras.losses.sparse_categorical_crossentropy(ops.maximum(targets, 0), logits, from_logits=True) * counted
    if mistake == "mean-of-means":
        return ops.mean(ops.sum(each, 1) / ops.sum(counted, 1))
    if mistake == "padding-counted":
        return ops.mean(each)
    loss = ops.sum(each) / ops.sum(counted)
    return loss + 1e-2 * ops.mean(ops.logsumexp(logits, -1) ** 2) if mistake == "z-loss" else loss


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(mistake)
    model(tf.zeros((1, CONTEXT), tf.int32))
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path.removeprefix("llama/")])
    optimizer.build(model.trainable_variables)
    parts = 2 if mistake == "accumulation" else 1

    @tf.function
    def update(tokens, targets):
        variables = [v.value for v in model.trainable_variables]
        found = []
        for one, other in zip(tf.split(tokens, parts), tf.split(targets, parts), strict=True):
            with tf.GradientTape() as tape:
                loss = loss_of(other, model(one), mistake)
            found.append((loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]))
        gradients = [tf.add_n(each) for each in zip(*(gradient for _, gradient in found), strict=True)]
        optimizer.apply(gradients, model.trainable_variables)
        return tf.add_n([loss for loss, _ in found]) / parts

    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            losses.append(float(run.step(update, tf.constant(tokens), tf.constant(targets))))
    return losses, {v.path: v.numpy() for v in model.variables}
