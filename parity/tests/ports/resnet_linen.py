"""The ResNet of ``resnet_torch`` as its porter wrote it in flax linen, with optax and a TrainState."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util
from flax.training import train_state

WIDTHS, STRIDES, CLASSES = (4, 8, 8), (1, 2, 2), 10
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-3


class Block(nn.Module):
    width: int
    stride: int
    conv: Any
    norm: Any
    padding: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        out = self.conv(self.width, (3, 3), strides=self.stride, padding=self.padding if self.stride > 1 else 1)(x)
        out = nn.relu(self.norm()(out))
        out = self.norm()(self.conv(self.width, (3, 3), padding=1)(out))
        if self.stride > 1:
            x = self.norm()(self.conv(self.width, (1, 1), strides=self.stride)(x))
        if self.mistake == "residual-missing":
            return nn.relu(out)
        if self.mistake == "relu-early":
            return nn.relu(out) + x
        return nn.relu(out + x)


class ResNet(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x):  # (batch, 16, 16, 3)
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        conv = partial(nn.Conv, use_bias=False, **own)
        norm = partial(
            nn.BatchNorm,
            use_running_average=self.mistake == "running-statistics",
            momentum=0.1 if self.mistake == "norm-momentum" else 0.9,
            epsilon=1e-3 if self.mistake == "norm-epsilon" else 1e-5,
            **own,
        )
        x = conv(WIDTHS[0], (3, 3), padding=1)(x[..., ::-1] if self.mistake == "channel-order" else x)
        if self.mistake == "relu-first":
            x = norm()(nn.relu(x))
        else:
            x = (nn.leaky_relu if self.mistake == "leaky-relu" else nn.relu)(norm()(x))
        for width, stride in zip(WIDTHS, STRIDES, strict=True):
            padding = "SAME" if self.mistake == "padding" else 1
            x = Block(width, stride, conv, norm, padding, self.mistake if stride == 1 else "")(x)
        x = (nn.max_pool if self.mistake == "max-pool" else nn.avg_pool)(x, (2, 2), (2, 2))
        if self.mistake != "flatten-order":
            x = x.transpose(0, 3, 1, 2)
        logits = nn.Dense(CLASSES, **own)(x.reshape(len(x), -1))
        return nn.softmax(logits) if self.mistake == "softmax-twice" else logits


class TrainState(train_state.TrainState):
    batch_stats: Any


def build(weights, dtype: str, mistake: str = "") -> TrainState:
    model = ResNet(dtype, mistake)
    begun = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3), dtype))
    params = traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in weights.items()}, sep="/")

    def kernels(params):
        return jax.tree.map(lambda p: p.ndim > 1 or mistake == "decay-mask", params)

    sgd = optax.sgd(10 * RATE if mistake == "rate-tenfold" else RATE, MOMENTUM, nesterov=mistake == "nesterov")
    optimizer = optax.chain(optax.add_decayed_weights(DECAY, kernels), sgd)
    if mistake == "decay-decoupled":
        optimizer = optax.chain(sgd, optax.add_decayed_weights(-RATE * DECAY, kernels))
    stats = jax.tree.map(lambda s: s.astype(dtype), begun["batch_stats"])
    return TrainState.create(apply_fn=model.apply, params=params, tx=optimizer, batch_stats=stats)


@jax.jit
def update(state, images, labels):
    def loss_of(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, seen = state.apply_fn(variables, images, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), seen["batch_stats"]

    (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradients, batch_stats=stats), loss


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    state, losses = build(weights, dtype, mistake), []
    with watch(state) as run:
        for images, labels in batches:
            state, loss = run.step(update, state, jnp.asarray(images), jnp.asarray(labels))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(state.params, sep="/"))
