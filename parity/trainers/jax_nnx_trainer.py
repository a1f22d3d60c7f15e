"""Training a flax nnx module: split into its graph and its arrays, it is a pure function that JAX trains."""

from __future__ import annotations

from collections.abc import Callable
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

    def __call__(self, params: Arrays, x: jax.Array, *training: bool) -> Any:
        """The prediction; of a case with buffers, whether it trains is said, and they come out beside it."""
        module = nnx.merge(self.graph, nnx.State(unflatten_dict(params, sep="/")))
        if not training:
            return module(x)
        module.train() if training[0] else module.eval()
        prediction = module(x)
        moved = nnx.to_flat_state(nnx.state(module, nnx.BatchStat))
        return prediction, {"/".join(map(str, path)): variable[...] for path, variable in moved}


def nnx_trainer(case: Case, dtype: str, device: str, layout: Layout, make: Callable[[], nnx.Module]) -> JaxTrainer:
    """Make a trainer of a flax nnx module.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the module's parameters, by their paths within it, as in
            ``dense/kernel``.
        make: Makes the model, from inputs (batch, ...) to predictions, in that dtype. No value of it is computed.

    Returns:
        The trainer, with optax's optimizer of the case.

    Raises:
        ValueError: If JAX sees no such device.
    """
    return JaxTrainer(case, dtype, device, layout, Merged(nnx.graphdef(nnx.eval_shape(make))))
