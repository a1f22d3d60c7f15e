"""The layers of a Keras trainer's model, for one batch."""

from __future__ import annotations

import tensorflow as tf

from parity.trainers.keras_trainer import KerasTrainer
from parity.typing import Array
from parity.watching.inside import Inside
from parity.watching.keras.layers import Layers


def look(trainer: KerasTrainer, x: Array, y: Array) -> Inside:
    """See a batch go through the trainer's model, forward and backward, eagerly. Changes nothing."""
    seen = Layers(trainer.model, lambda variable: str(variable.path))
    with tf.device(trainer.device), seen.watching(trainer.optimizer):
        trainer.eager_loss_and_gradients(x, y)
    found = Inside(seen.activations, seen.gradients, seen.found)
    seen.forget()
    return found
