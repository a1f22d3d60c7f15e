"""Training in Keras as most people do: ``model.compile`` with a loss and an optimizer, then ``model.fit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parity.layout import Layout
from parity.spec import Case, is_plain
from parity.trainer import Trained, Trainer, verbs
from parity.trainers.keras_trainer import KerasTrainer
from parity.typing import Array, Batches, Params


def fit_trainer(
    case: Case, dtype: str, device: str, model: keras.Model, layout: Layout, loss: keras.losses.Loss
) -> Trainer:
    """Make a trainer of a model that its own ``fit`` trains, batch after batch in the case's order.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        model: A model in that dtype, not yet built. The weight decay of ``Sgd`` must be a regularizer of its layers,
            which is part of what ``fit`` minimizes and of no loss that is recorded.
        layout: Which canonical tensor is which of the model's variables, by their paths within it.
        loss: Keras's loss in that dtype, with the case's reduction.

    Returns:
        The trainer.

    Raises:
        ValueError: If TensorFlow sees no such device, or if the case's learning rate changes, its decay leaves
            parameters out or its gradients are clipped: ``fit`` is not told of it here.
    """
    if not is_plain(case.optimizer):
        raise ValueError("fit knows no learning rates, decay masks and clipping of a case: use KerasTrainer")
    own = KerasTrainer(case, dtype, device, model, layout, cost=lambda prediction, y: loss(y, prediction))
    # XLA, which Keras may turn on, rounds otherwise.
    model.compile(own.optimizer, loss, metrics=[LossOfBatch(loss, dtype)], jit_compile=False)
    data = case.data()
    x, y = (values.astype(own.dtype) if values.dtype.kind == "f" else values for values in (data.x, data.y))

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        def batches() -> Iterator[tuple[Array, Array]]:
            for segment in segments:
                for rows in segment:
                    yield x[rows], y[rows]

        seen = Seen(own, inputs)
        with tf.device(own.device):
            model.fit(
                batches(),
                epochs=len(segments),
                steps_per_epoch=len(segments[0]),
                shuffle=False,
                verbose=0,
                callbacks=[seen],
            )
        losses = np.array(seen.losses, next(iter(seen.snapshots[0].values())).dtype)
        return Trained(
            losses.reshape(len(segments), -1),
            {name: np.stack([one[name] for one in seen.snapshots]) for name in seen.snapshots[0]},
            tuple(map(np.stack, zip(*seen.predictions, strict=True))),
        )

    return replace(verbs(own), train=train)


class LossOfBatch(keras.metrics.Metric):
    """The loss of the last batch alone, before its update and without penalties.

    What Keras logs as ``loss`` is the mean of an epoch's batches so far, weighted by their rows, penalties included.
    """

    def __init__(self, loss: keras.losses.Loss, dtype: str) -> None:
        super().__init__(name="loss_of_batch", dtype=dtype)
        self._loss = loss
        self._last = self.add_variable((), "zeros", name="last")

    def update_state(self, y: tf.Tensor, prediction: tf.Tensor, sample_weight: Any = None) -> None:
        self._last.assign(self._loss(y, prediction))

    def result(self) -> tf.Tensor:
        return self._last.value


class Seen(keras.callbacks.Callback):
    """What a call of ``fit`` goes through: each batch's loss, and parameters and predictions after each epoch."""

    def __init__(self, trainer: KerasTrainer, inputs: Sequence[Array]) -> None:
        super().__init__()
        self._trainer, self._inputs = trainer, inputs
        self.losses: list[float] = []
        self.snapshots: list[Params] = []
        self.predictions: list[list[Array]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(float(logs["loss_of_batch"]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.snapshots.append(self._trainer.export().params)
        self.predictions.append([self._trainer.predict(x) for x in self._inputs])
