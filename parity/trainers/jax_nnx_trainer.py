"""Training a flax nnx module: split into its graph and its arrays, it is a pure function that JAX trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import unflatten_dict

from parity.layout import Layout
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer


@dataclass(frozen=True)
class Merged:
    """A module as a function of its parameters. Modules of one graph give equal functions, which compile once."""

    graph: nnx.GraphDef[Any]

    def __call__(self, params: Arrays, x: jax.Array) -> jax.Array:
        return nnx.merge(self.graph, nnx.State(unflatten_dict(params, sep="/")))(x)


def nnx_trainer(case: Case, dtype: str, device: str, layout: Layout, module: nnx.Module) -> JaxTrainer:
    """Make a trainer of a flax nnx module.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the module's parameters, by their paths within it, as in
            ``dense/kernel``.
        module: The model, from inputs (batch, ...) to predictions, in that dtype. Its own values are not used.

    Returns:
        The trainer, with optax's optimizer of the case.

    Raises:
        ValueError: If JAX sees no such device.
    """
    return JaxTrainer(case, dtype, device, layout, Merged(nnx.graphdef(module)))
