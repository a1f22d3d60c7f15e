"""Activation functions as flax exports them, each in a module of its own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

FUNCTIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "tanh": nn.tanh}

LAYOUT = tuple(Slot(f"{name}/{role}", f"{name}/{role}") for name in FUNCTIONS for role in ("shift", "scale"))


class Pointwise(nn.Module):
    function: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shift = self.param("shift", nn.initializers.zeros, x.shape[1:], x.dtype)
        scale = self.param("scale", nn.initializers.ones, x.shape[1:], x.dtype)
        return scale * self.function(x + shift)


class Activations(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        columns = [Pointwise(f, name=name)(x) for name, f in FUNCTIONS.items()]
        return jnp.stack(columns, -1)  # (n, points) -> (n, points, 3)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    return Activations().apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
