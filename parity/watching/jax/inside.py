"""The layers of a JAX trainer's flax module, for one batch."""

from __future__ import annotations

import sys

from parity.trainers.jax_trainer import JaxTrainer
from parity.typing import Array
from parity.watching.inside import Inside
from parity.watching.jax.layers import Layers
from parity.watching.jax.look import nnx_watched


def look(trainer: JaxTrainer, x: Array, y: Array) -> Inside | None:
    """See a batch go through the trainer's module, forward and backward, op by op; None if flax is not imported."""
    if "flax" not in sys.modules:
        return None
    seen = Layers()
    with seen.watching(), nnx_watched(seen):
        trainer.gradients(x, y)
    found = Inside(dict(seen.activations), dict(seen.gradients), seen.found, list(seen.notes))
    seen.forget()
    return found
