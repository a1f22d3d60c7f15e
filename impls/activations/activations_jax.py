"""Activation functions of ``jax.nn``, differentiated by ``jax.grad``."""

import jax
import jax.numpy as jnp

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

FUNCTIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jax.nn.tanh}

LAYOUT = tuple(Slot(f"{name}/{role}", f"{name}/{role}") for name in FUNCTIONS for role in ("shift", "scale"))


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    columns = [params[f"{name}/scale"] * f(x + params[f"{name}/shift"]) for name, f in FUNCTIONS.items()]
    return jnp.stack(columns, -1)  # (n, points) -> (n, points, 3)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
