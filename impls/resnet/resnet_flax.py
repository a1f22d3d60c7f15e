"""A small residual network as a flax (linen) module. Its running statistics are the collection ``batch_stats``."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from impls.resnet.spec import EPSILON, MOMENTUM
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

STATISTICS = {"mean": "mean", "variance": "var"}


def layout(case: Case) -> Layout:
    def own(name: str) -> str:
        layer, role = name.rsplit("/", 1)
        return f"batch_stats/{layer}/{STATISTICS[role]}" if role in STATISTICS else f"params/{name}"

    return [Slot(name, own(name)) for name in case.initial()]


def conv(out: int, size: int, stride: int, dtype: jnp.dtype, name: str) -> nn.Conv:
    reach = (size // 2,) * 2  # as many zeros on every side as the kernel reaches beyond its middle
    return nn.Conv(
        out,
        (size, size),
        (stride, stride),
        (reach, reach),
        use_bias=False,
        dtype=dtype,
        param_dtype=dtype,
        name=name,
    )


def norm(training: bool, dtype: jnp.dtype, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
        not training,
        momentum=MOMENTUM,
        epsilon=EPSILON,
        dtype=dtype,
        param_dtype=dtype,
        use_fast_variance=False,
        name=name,
    )


class Block(nn.Module):
    out: int
    stride: int

    @nn.compact
    def __call__(self, h: jax.Array, training: bool) -> jax.Array:
        kind = h.dtype
        a = nn.relu(norm(training, kind, "norm1")(conv(self.out, 3, self.stride, kind, "conv1")(h)))
        a = norm(training, kind, "norm2")(conv(self.out, 3, 1, kind, "conv2")(a))
        if self.stride > 1:
            h = norm(training, kind, "projection_norm")(conv(self.out, 1, self.stride, kind, "projection")(h))
        return nn.relu(a + h)


class ResNet(nn.Module):
    width: int
    wider: int
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        kind = x.dtype
        h = nn.relu(norm(training, kind, "norm")(conv(self.width, 3, 1, kind, "conv")(x)))  # -> (n, 8, 8, 6)
        h = Block(self.width, 1, name="block1")(h, training)
        h = Block(self.wider, 2, name="block2")(h, training)  # (n, 8, 8, 6) -> (n, 4, 4, 12)
        dense = nn.Dense(self.classes, dtype=kind, param_dtype=kind, name="dense")
        return dense(h.mean((1, 2)))  # (n, 4, 4, 12) -> (n, 12) -> (n, 10)


def forward(params: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
    width, (wider, classes) = len(params["params/norm/scale"]), params["params/dense/kernel"].shape
    model, variables = ResNet(width, wider, classes), unflatten_dict(params, sep="/")
    logits, moved = model.apply(variables, x, training, mutable=["batch_stats"])
    return logits, flatten_dict(moved, sep="/")


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(case), forward)
