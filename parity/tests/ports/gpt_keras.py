"""The GPT of ``gpt_torch`` as its porter wrote it in Keras on TensorFlow."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 17, 12, 16, 2, 2
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, LAST_RATE, DECAY, BETA_1, BETA_2 = (np.float64(each) for each in (3e-3, 3e-4, 0.1, 0.9, 0.95))
WARM_UP, STEPS, CLIP = 5, 50, 0.5


def gelu(x):
    """By the error function: of float64 Keras's own has a constant in float32."""
    return 0.5 * x * (1 + ops.erf(x * 0.5**0.5))


def quick(x):
    return x * ops.sigmoid(1.702 * x)


class Attention(layers.Layer):
    def __init__(self, mistake: str, **named: Any) -> None:
        super().__init__(**named)
        self.query, self.key, self.value, self.out = (
            layers.Dense(WIDTH, name=name) for name in ("query", "key", "value", "out")
        )
        self.scale = (WIDTH if mistake == "attention-scale" else WIDTH // HEADS) ** -0.5
        self.causal, self.mistake = mistake != "causal-mask", mistake

    def split(self, x):  # (batch, time, width) to (batch, time, head, width of a head)
        if self.mistake == "head-order":
            return ops.swapaxes(ops.reshape(x, (-1, x.shape[1], WIDTH // HEADS, HEADS)), 2, 3)
        return ops.reshape(x, (-1, x.shape[1], HEADS, WIDTH // HEADS))

    def call(self, x):  # (batch, time, width)
        time = x.shape[1]
        q, k, v = (self.split(dense(x)) for dense in (self.query, self.key, self.value))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * self.scale
        if self.causal:
            scores = ops.where(ops.tril(ops.ones((time, time), "bool")), scores, -1e30)
        mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores, -2 if self.mistake == "softmax-axis" else -1), v)
        return self.out(ops.reshape(mixed, (-1, time, WIDTH)))


class Block(layers.Layer):
    def __init__(self, mistake: str, last: bool, **named: Any) -> None:
        super().__init__(**named)
        self.after, self.bare = mistake == "norm-after", mistake == "residual-missing" and last
        epsilon = 1e-6 if mistake == "norm-epsilon" else 1e-5
        self.norm_1 = layers.LayerNormalization(epsilon=epsilon, name="norm_1")
        self.norm_2 = layers.LayerNormalization(epsilon=epsilon, name="norm_2")
        self.attention = Attention(mistake, name="attention")
        self.up, self.down = layers.Dense(4 * WIDTH, name="up"), layers.Dense(WIDTH, name="down")
        self.dropout = layers.Dropout(0.02, seed=0)
        self.gelu = {"gelu-tanh": partial(keras.activations.gelu, approximate=True), "gelu-sigmoid": quick}.get(
            mistake, gelu
        )

    def call(self, x, training=False):
        if self.after:
            x = self.norm_1(x + self.attention(x))
            return self.norm_2(x + self.dropout(self.down(self.gelu(self.up(x))), training=training))
        x = self.attention(self.norm_1(x)) + (0 if self.bare else x)
        h = self.down(self.gelu(self.up(self.norm_2(x))))
        return x + self.dropout(h, training=training)


class GPT(keras.Model):
    def __init__(self, mistake: str) -> None:
        super().__init__(name="gpt")
        self.token = layers.Embedding(VOCABULARY, WIDTH, name="token")
        self.position = layers.Embedding(CONTEXT + 1, WIDTH, name="position")
        self.blocks = [Block(mistake, k == LAYERS - 1, name=f"block_{k}") for k in range(LAYERS)]
        self.norm = layers.LayerNormalization(epsilon=1e-6 if mistake == "norm-epsilon" else 1e-5, name="norm")
        self.head = layers.Dense(VOCABULARY, use_bias=False, name="head") if mistake == "untied-head" else None
        self.scale = WIDTH**0.5 if mistake == "embedding-scaled" else 1
        self.first = 1 if mistake == "position-offset" else 0

    def call(self, tokens, training=False):
        x = self.token(tokens) * self.scale + self.position(ops.arange(self.first, self.first + tokens.shape[1]))
        for block in self.blocks:
            x = block(x, training=training)
        x = self.norm(x)
        return self.head(x) if self.head else ops.matmul(x, ops.transpose(self.token.embeddings))


class AdamW(keras.optimizers.AdamW):
    """Keras adds epsilon to the root before its bias is corrected, torch after it."""

    coupled = False

    def update_step(self, gradient, variable, learning_rate):
        if self.coupled and len(variable.shape) > 1:
            gradient = gradient + DECAY * variable
        step = ops.cast(self.iterations + 1, variable.dtype)
        mine, self.epsilon = self.epsilon, self.epsilon * ops.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = mine


class Schedule(keras.optimizers.schedules.CosineDecay):
    late, factor, least = 0, 1, 0

    def __call__(self, step):
        return super().__call__(ops.maximum(step + self.late, self.least)) * self.factor


def build(mistake: str = "") -> tuple[GPT, AdamW]:
    schedule = Schedule(RATE / (WARM_UP + 1), STEPS - WARM_UP, LAST_RATE / RATE, "cosine", RATE, WARM_UP)
    schedule.late, schedule.factor = 1 if mistake == "schedule" else 0, 10 if mistake == "rate-tenfold" else 1
    schedule.least = WARM_UP if mistake == "warm-up" else 0
    beta_2, decay = 0.999 if mistake == "beta-2" else BETA_2, 0.0 if mistake == "decay-coupled" else DECAY
    optimizer = AdamW(schedule, beta_1=BETA_1, beta_2=beta_2, epsilon=1e-8, weight_decay=decay)
    optimizer.coupled = mistake == "decay-coupled"
    if mistake != "decay-mask":
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return GPT(mistake), optimizer


def loss_of(targets, logits, mistake: str):
    if mistake == "label-smoothing":
        whole = ops.one_hot(targets, VOCABULARY, dtype=logits.dtype)
        return keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1)(whole, logits)
    reduction = "sum" if mistake == "loss-sum" else "sum_over_batch_size"
    ignored = 0 if mistake == "ignored-token" else None
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignored, reduction)(targets, logits)
    return loss / np.log(2) if mistake == "log-base" else loss


def clipped(gradients, mistake: str):
    """As torch clips: with 1e-6 beside the norm."""
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    if mistake == "clip-per-tensor":
        return [g * tf.minimum(tf.cast(1, g.dtype), CLIP / (tf.norm(g) + 1e-6)) for g in gradients]
    if mistake == "clip-missing":
        return gradients
    factor = CLIP / (tf.linalg.global_norm(gradients) + 1e-6)
    return [g * tf.minimum(tf.cast(1, g.dtype), factor) for g in gradients]


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(mistake)
    model(tf.zeros((1, CONTEXT), tf.int32))
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path.removeprefix("gpt/")])
    if mistake == "frozen-positions":
        model.position.trainable = False
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(tokens, targets):
        with tf.GradientTape() as tape:
            loss = loss_of(
                tokens if mistake == "target-shift" else targets, model(tokens, training=mistake == "dropout"), mistake
            )
        variables = model.trainable_variables
        optimizer.apply(clipped(tape.gradient(loss, [v.value for v in variables]), mistake), variables)
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            losses.append(float(run.step(update, tf.constant(tokens), tf.constant(targets))))
    return losses, {v.path: v.numpy() for v in model.variables}
