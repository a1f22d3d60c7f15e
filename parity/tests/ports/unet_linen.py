"""The U-Net of ``unet_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

WIDTH, GROUPS, RATE = 4, 2, 3e-3


class Twice(nn.Module):
    width: int
    stride: int
    dtype: Any
    mistake: str

    @nn.compact
    def __call__(self, x):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        padding = "SAME" if self.mistake == "padding" else 1
        x = nn.Conv(self.width, (3, 3), strides=self.stride, padding=padding, **own)(x)
        groups = 1 if self.mistake == "groups" else GROUPS
        norm = nn.GroupNorm(groups, epsilon=1e-3 if self.mistake == "norm-epsilon" else 1e-5, **own)
        if self.mistake == "relu-first":
            return norm(nn.relu(x))
        return (nn.leaky_relu if self.mistake == "leaky-relu" else nn.relu)(norm(x))


class UNet(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x):  # (batch, 8, 8, 2)
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        twice = partial(Twice, dtype=self.dtype, mistake=self.mistake)
        # As torch, it is a convolution's gradient, and turns the kernel.
        up = partial(nn.ConvTranspose, kernel_size=(2, 2), strides=(2, 2), transpose_kernel=True, **own)

        def joined(x, skip):
            return jnp.concatenate([skip, x] if self.mistake == "skip-order" else [x, skip], -1)

        first = twice(WIDTH, 1)(x)
        second = twice(2 * WIDTH, 2)(first)
        x = up(2 * WIDTH)(twice(4 * WIDTH, 2)(second))
        x = twice(2 * WIDTH, 1)(joined(x, second))
        if self.mistake == "skip-stopped":
            first = jax.lax.stop_gradient(first)
        x = twice(WIDTH, 1)(joined(up(WIDTH)(x), first))
        x = nn.Conv(1, (1, 1), **own)(x)
        return nn.sigmoid(x) if self.mistake == "sigmoid-twice" else x


def build(dtype: str, mistake: str = ""):
    return UNet(dtype, mistake), optimizer_of(mistake)


def optimizer_of(mistake: str):
    rate, beta_2 = 10 * RATE if mistake == "rate-tenfold" else RATE, 0.99 if mistake == "beta-2" else 0.999
    if mistake == "decay-added":
        return optax.adamw(rate, b2=beta_2, weight_decay=0.01)
    return optax.adam(rate, b2=beta_2, eps=1e-3 if mistake == "adam-epsilon" else 1e-8)


def loss_of(predicted, maps, mistake: str):
    """The squared error, where it is large once more as much; how much more is no part of the gradient."""
    errors = (nn.sigmoid(predicted) - maps) ** 2
    weights = 1 + (errors if mistake == "stop-gradient" else jax.lax.stop_gradient(errors))
    return (weights * errors).sum() if mistake == "loss-sum" else (weights * errors).mean()


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(dtype, mistake)
    params = traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in weights.items()}, sep="/")
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, images, maps):
        loss, gradients = jax.value_and_grad(
            lambda params: loss_of(model.apply({"params": params}, images), maps, mistake)
        )(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for images, maps in batches:
            params, state, loss = run.step(update, params, state, jnp.asarray(images), jnp.asarray(maps))
            losses.append(float(loss))
    return losses, jax.tree.map(np.asarray, traverse_util.flatten_dict(params, sep="/"))
