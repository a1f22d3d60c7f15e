"""The ResNet of ``resnet_torch`` as its porter wrote it in flax nnx, with optax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

WIDTHS, STRIDES, CLASSES = (4, 8, 8), (1, 2, 2), 10
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-3


def layers(mistake: str, **own: Any):
    norm = partial(
        nnx.BatchNorm,
        momentum=0.1 if mistake == "norm-momentum" else 0.9,
        epsilon=1e-3 if mistake == "norm-epsilon" else 1e-5,
        **own,
    )
    return partial(nnx.Conv, use_bias=False, **own), norm


class Block(nnx.Module):
    def __init__(self, channels: int, width: int, stride: int, mistake: str, **own: Any) -> None:
        conv, norm = layers(mistake, **own)
        padding = "SAME" if stride > 1 and mistake == "padding" else 1
        self.conv1, self.norm1 = conv(channels, width, (3, 3), strides=stride, padding=padding), norm(width)
        self.conv2, self.norm2 = conv(width, width, (3, 3), padding=1), norm(width)
        self.shortcut, self.mistake = stride > 1, mistake if stride == 1 else ""
        if self.shortcut:
            self.conv3, self.norm3 = conv(channels, width, (1, 1), strides=stride), norm(width)

    def __call__(self, x):
        out = nnx.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.mistake == "residual-missing":
            return nnx.relu(out)
        if self.mistake == "relu-early":
            return nnx.relu(out) + x
        return nnx.relu(out + (self.norm3(self.conv3(x)) if self.shortcut else x))


class ResNet(nnx.Module):
    def __init__(self, dtype: str, mistake: str, rngs: nnx.Rngs) -> None:
        own = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        conv, norm = layers(mistake, **own)
        self.stem, self.norm = conv(3, WIDTHS[0], (3, 3), padding=1), norm(WIDTHS[0])
        shapes = zip((WIDTHS[0], *WIDTHS), WIDTHS, STRIDES, strict=False)
        self.blocks = nnx.List([Block(*shape, mistake, **own) for shape in shapes])
        self.head, self.mistake = nnx.Linear(4 * WIDTHS[-1], CLASSES, **own), mistake

    def __call__(self, x):  # (batch, 16, 16, 3)
        x = self.stem(x[..., ::-1] if self.mistake == "channel-order" else x)
        if self.mistake == "relu-first":
            x = self.norm(nnx.relu(x))
        else:
            x = (nnx.leaky_relu if self.mistake == "leaky-relu" else nnx.relu)(self.norm(x))
        for block in self.blocks:
            x = block(x)
        x = (nnx.max_pool if self.mistake == "max-pool" else nnx.avg_pool)(x, (2, 2), (2, 2))
        if self.mistake != "flatten-order":
            x = x.transpose(0, 3, 1, 2)
        logits = self.head(x.reshape(len(x), -1))
        return nnx.softmax(logits) if self.mistake == "softmax-twice" else logits


def build(weights, dtype: str, mistake: str = "") -> tuple[ResNet, nnx.Optimizer]:
    model = ResNet(dtype, mistake, nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable[...] = jnp.asarray(weights["/".join(map(str, path))])
    if mistake == "running-statistics":
        model.eval()

    def kernels(params):
        return jax.tree.map(lambda p: p.ndim > 1 or mistake == "decay-mask", params)

    sgd = optax.sgd(10 * RATE if mistake == "rate-tenfold" else RATE, MOMENTUM, nesterov=mistake == "nesterov")
    optimizer = optax.chain(optax.add_decayed_weights(DECAY, kernels), sgd)
    if mistake == "decay-decoupled":
        optimizer = optax.chain(sgd, optax.add_decayed_weights(-RATE * DECAY, kernels))
    return model, nnx.Optimizer(model, optimizer, wrt=nnx.Param)


def loss_of(model, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def update(model, optimizer, images, labels):
    loss, gradients = nnx.value_and_grad(loss_of)(model, images, labels)
    optimizer.update(model, gradients)
    return loss


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, optimizer = build(weights, dtype, mistake)
    losses = []
    with watch(model, optimizer) as run:
        for images, labels in batches:
            losses.append(float(run.step(update, model, optimizer, jnp.asarray(images), jnp.asarray(labels))))
    return losses, {
        "/".join(map(str, path)): np.asarray(v) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
