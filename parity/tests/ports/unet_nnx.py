"""The U-Net of ``unet_torch`` as its porter wrote it in flax nnx, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

WIDTH, GROUPS, RATE = 4, 2, 3e-3


class Twice(nnx.Module):
    def __init__(self, channels: int, width: int, stride: int, mistake: str, **own: Any) -> None:
        padding = "SAME" if mistake == "padding" else 1
        self.conv = nnx.Conv(channels, width, (3, 3), strides=stride, padding=padding, **own)
        groups, self.mistake = 1 if mistake == "groups" else GROUPS, mistake
        self.norm = nnx.GroupNorm(width, groups, epsilon=1e-3 if mistake == "norm-epsilon" else 1e-5, **own)

    def __call__(self, x):
        if self.mistake == "relu-first":
            return self.norm(nnx.relu(self.conv(x)))
        return (nnx.leaky_relu if self.mistake == "leaky-relu" else nnx.relu)(self.norm(self.conv(x)))


class UNet(nnx.Module):
    def __init__(self, dtype: str, mistake: str, rngs: nnx.Rngs) -> None:
        own = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}

        def up(channels, width):
            # As torch, it is a convolution's gradient, and turns the kernel.
            return nnx.ConvTranspose(channels, width, (2, 2), strides=(2, 2), transpose_kernel=True, **own)

        self.enter, self.down = Twice(2, WIDTH, 1, mistake, **own), Twice(WIDTH, 2 * WIDTH, 2, mistake, **own)
        self.lower = Twice(2 * WIDTH, 4 * WIDTH, 2, mistake, **own)
        self.up1, self.join1 = up(4 * WIDTH, 2 * WIDTH), Twice(4 * WIDTH, 2 * WIDTH, 1, mistake, **own)
        self.up2, self.join2 = up(2 * WIDTH, WIDTH), Twice(2 * WIDTH, WIDTH, 1, mistake, **own)
        self.last = nnx.Conv(WIDTH, 1, (1, 1), **own)
        self.mistake = mistake

    def joined(self, x, skip):
        return jnp.concatenate([skip, x] if self.mistake == "skip-order" else [x, skip], -1)

    def __call__(self, x):  # (batch, 8, 8, 2)
        first = self.enter(x)
        second = self.down(first)
        x = self.join1(self.joined(self.up1(self.lower(second)), second))
        if self.mistake == "skip-stopped":
            first = jax.lax.stop_gradient(first)
        x = self.last(self.join2(self.joined(self.up2(x), first)))
        return nnx.sigmoid(x) if self.mistake == "sigmoid-twice" else x


def build(weights, dtype: str, mistake: str = "") -> tuple[UNet, nnx.Optimizer]:
    model = UNet(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    return model, nnx.Optimizer(model, optimizer_of(mistake), wrt=nnx.Param)


def optimizer_of(mistake: str):
    rate, beta_2 = 10 * RATE if mistake == "rate-tenfold" else RATE, 0.99 if mistake == "beta-2" else 0.999
    if mistake == "decay-added":
        return optax.adamw(rate, b2=beta_2, weight_decay=0.01)
    return optax.adam(rate, b2=beta_2, eps=1e-3 if mistake == "adam-epsilon" else 1e-8)


def loss_of(model, images, maps, mistake: str):
    """The squared error, where it is large once more as much; how much more is no part of the gradient."""
    errors = (nnx.sigmoid(model(images)) - maps) ** 2
    weights = 1 + (errors if mistake == "stop-gradient" else jax.lax.stop_gradient(errors))
    return (weights * errors).sum() if mistake == "loss-sum" else (weights * errors).mean()


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(weights, dtype, mistake)

    @nnx.jit
    def update(model, optimizer, images, maps):
        loss, gradients = nnx.value_and_grad(loss_of)(model, images, maps, mistake)
        optimizer.update(model, gradients)
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for images, maps in batches:
            losses.append(float(run.step(update, model, optimizer, jnp.asarray(images), jnp.asarray(maps))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
