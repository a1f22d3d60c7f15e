"""A small GPT as a TF1 graph.

``tf.nn.gelu`` has a constant in float32 whatever the dtype, so GELU is written out.
"""

import math

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

HEADS, EPSILON = 2, 1e-5


def layout(case: Case) -> tuple[Slot, ...]:
    return tuple(Slot(name, name.replace("/", "_")) for name in case.initial())


def dense(params: Tensors, name: str, x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, params[f"{name}_kernel"]) + params[f"{name}_bias"]


def norm(params: Tensors, name: str, x: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, -1, keepdims=True)
    return (x - mean) / tf.sqrt(variance + EPSILON) * params[f"{name}_scale"] + params[f"{name}_bias"]


def gelu(x: tf.Tensor) -> tf.Tensor:
    return x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2


def block(params: Tensors, name: str, x: tf.Tensor) -> tf.Tensor:
    batch, steps = tf.shape(x)[0], x.shape[1]
    joined = tf.matmul(norm(params, f"{name}_norm1", x), params[f"{name}_attention_kernel"])  # (batch, T, 3C)
    heads = tf.reshape(joined, (batch, steps, 3, HEADS, -1))  # (batch, T, 3C) -> (batch, T, 3, heads, C / heads)
    query, key, value = tf.unstack(tf.transpose(heads, (2, 0, 3, 1, 4)))  # three of (batch, heads, T, C / heads)
    scores = tf.matmul(query, key, transpose_b=True) * (x.shape[-1] // HEADS) ** -0.5
    seen = tf.linalg.band_part(tf.ones((steps, steps), tf.bool), -1, 0)
    weights = tf.nn.softmax(tf.where(seen, scores, tf.constant(-math.inf, x.dtype)))  # (batch, heads, T, T)
    mixed = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))  # (batch, T, heads, C / heads)
    h = x + dense(params, f"{name}_projection", tf.reshape(mixed, tf.shape(x)))
    hidden = gelu(dense(params, f"{name}_up", norm(params, f"{name}_norm2", h)))  # (batch, T, C) -> (batch, T, 4C)
    return h + dense(params, f"{name}_down", hidden)  # (batch, T, 4C) -> (batch, T, C)


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    token = params["token_table"]
    h = tf.gather(token, x) + params["position_table"][: x.shape[1]]  # (batch, T) -> (batch, T, C)
    h = block(params, "block2", block(params, "block1", h))
    return tf.matmul(norm(params, "norm", h), token, transpose_b=True)  # (batch, T, C) -> (batch, T, characters)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, layout(case))
