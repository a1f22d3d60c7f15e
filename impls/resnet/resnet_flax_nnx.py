"""A small residual network as a flax nnx module. Its running statistics are variables of their own, ``BatchStat``."""

import jax
import jax.numpy as jnp
from flax import nnx

from impls.resnet.spec import EPSILON, MOMENTUM
from parity import Trainer
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.jax_nnx_trainer import nnx_trainer


def layout(case: Case) -> Layout:
    return [Slot(name, name.replace("/variance", "/var")) for name in case.initial()]


def conv(channels: int, out: int, size: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Conv:
    reach = (size // 2,) * 2  # as many zeros on every side as the kernel reaches beyond its middle
    return nnx.Conv(
        channels,
        out,
        (size, size),
        (stride, stride),
        padding=(reach, reach),
        use_bias=False,
        dtype=dtype,
        param_dtype=dtype,
        rngs=rngs,
    )


def norm(channels: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(
        channels,
        momentum=MOMENTUM,
        epsilon=EPSILON,
        dtype=dtype,
        param_dtype=dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


class Block(nnx.Module):
    def __init__(self, channels: int, out: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.conv1, self.norm1 = conv(channels, out, 3, stride, dtype, rngs), norm(out, dtype, rngs)
        self.conv2, self.norm2 = conv(out, out, 3, 1, dtype, rngs), norm(out, dtype, rngs)
        self.stride = stride
        if stride > 1:
            self.projection = conv(channels, out, 1, stride, dtype, rngs)
            self.projection_norm = norm(out, dtype, rngs)

    def __call__(self, h: jax.Array) -> jax.Array:
        a = nnx.relu(self.norm1(self.conv1(h)))
        a = self.norm2(self.conv2(a))
        if self.stride > 1:
            h = self.projection_norm(self.projection(h))
        return nnx.relu(a + h)


class ResNet(nnx.Module):
    def __init__(self, width: int, wider: int, classes: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.conv, self.norm = conv(1, width, 3, 1, dtype, rngs), norm(width, dtype, rngs)
        self.block1, self.block2 = Block(width, width, 1, dtype, rngs), Block(width, wider, 2, dtype, rngs)
        self.dense = nnx.Linear(wider, classes, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = nnx.relu(self.norm(self.conv(x)))  # (n, 8, 8, 1) -> (n, 8, 8, 6)
        h = self.block2(self.block1(h))  # (n, 8, 8, 6) -> (n, 4, 4, 12)
        return self.dense(h.mean((1, 2)))  # (n, 4, 4, 12) -> (n, 12) -> (n, 10)


def build(case: Case, dtype: str, device: str) -> Trainer:
    initial = case.initial()
    width, (wider, classes) = len(initial["norm/scale"]), initial["dense/kernel"].shape
    kind = jnp.dtype(dtype)
    return nnx_trainer(case, dtype, device, layout(case), lambda: ResNet(width, wider, classes, kind, nnx.Rngs(0)))
