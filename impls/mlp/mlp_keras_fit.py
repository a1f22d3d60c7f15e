"""The perceptron with several layers as most people train it in Keras: Keras's own cross-entropy, ``compile`` and
``fit``, the weight decay a regularizer of every layer."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, ops

from impls.mlp.spec import widths
from parity import Trainer
from parity.layout import Layout, Slot
from parity.spec import Case, Sgd
from parity.trainers.keras_fit_trainer import fit_trainer

REDUCTIONS = {"sum": "sum", "mean": "sum_over_batch_size"}


def layout(layers: int) -> Layout:
    kernels = [Slot(f"dense{n}/kernel", f"dense{n}/kernel") for n in range(1, layers + 1)]
    biases = [Slot(f"dense{n}/bias", f"dense{n}/bias") for n in range(1, layers + 1)]
    return (*kernels, *biases)


def forward(widths: Sequence[int], decay: float, dtype: str) -> keras.Model:
    def penalty(p: KerasTensor) -> KerasTensor:
        # Its gradient is decay · p. Keras's own L2 rounds its factor to float32, its weight_decay is AdamW's.
        return decay / 2 * ops.sum(ops.square(p))

    decayed = {"kernel_regularizer": penalty, "bias_regularizer": penalty}
    layers = [
        keras.layers.Dense(width, activation="relu", dtype=dtype, name=f"dense{n}", **decayed)  # (n, in) -> (n, out)
        for n, width in enumerate(widths[1:], 1)
    ]
    return keras.Sequential([*layers, keras.layers.Activation("log_softmax", dtype=dtype)])  # (n, classes)


def build(case: Case, dtype: str, device: str) -> Trainer:
    sizes, rule, reduction = widths(case.initial()), case.optimizer, REDUCTIONS[case.loss.reduction]
    assert isinstance(rule, Sgd)
    # Keras has no loss from log-probabilities. They are logits, too: those whose exponentials already add up to 1.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction, dtype=dtype)
    return fit_trainer(case, dtype, device, forward(sizes, rule.weight_decay, dtype), layout(len(sizes) - 1), loss)
