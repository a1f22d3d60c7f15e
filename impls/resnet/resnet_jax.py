"""A small residual network in raw JAX. BatchNorm's running statistics go in with the parameters and come out moved."""

import jax
import jax.numpy as jnp
from jax import lax

from impls.resnet.spec import EPSILON, MOMENTUM
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer


def layout(case: Case) -> Layout:
    return [Slot(name, name) for name in case.initial()]


def forward(params: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
    moved: Arrays = {}

    def conv(h: jax.Array, name: str, stride: int = 1) -> jax.Array:
        kernel = params[f"{name}/kernel"]
        reach = (kernel.shape[0] // 2,) * 2  # as many zeros on every side as the kernel reaches beyond its middle
        return lax.conv_general_dilated(
            h, kernel, (stride, stride), (reach, reach), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )  # (n, h, w, in) -> (n, h / stride, w / stride, out)

    def norm(h: jax.Array, name: str) -> jax.Array:
        mean, variance = params[f"{name}/mean"], params[f"{name}/variance"]
        if training:
            own = h.mean((0, 1, 2)), h.var((0, 1, 2))  # (n, h, w, channels) -> (channels,)
            moved[f"{name}/mean"] = MOMENTUM * mean + (1 - MOMENTUM) * own[0]
            moved[f"{name}/variance"] = MOMENTUM * variance + (1 - MOMENTUM) * own[1]
            mean, variance = own
        return (h - mean) / jnp.sqrt(variance + EPSILON) * params[f"{name}/scale"] + params[f"{name}/bias"]

    def block(h: jax.Array, name: str, stride: int) -> jax.Array:
        a = jax.nn.relu(norm(conv(h, f"{name}/conv1", stride), f"{name}/norm1"))
        a = norm(conv(a, f"{name}/conv2"), f"{name}/norm2")
        if stride > 1:
            h = norm(conv(h, f"{name}/projection", stride), f"{name}/projection_norm")
        return jax.nn.relu(a + h)

    h = jax.nn.relu(norm(conv(x, "conv"), "norm"))  # (n, 8, 8, 1) -> (n, 8, 8, 6)
    h = block(block(h, "block1", 1), "block2", 2)  # (n, 8, 8, 6) -> (n, 4, 4, 12)
    h = h.mean((1, 2))  # (n, 4, 4, 12) -> (n, 12)
    return h @ params["dense/kernel"] + params["dense/bias"], moved  # (n, 12) -> (n, 10)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(case), forward)
