"""The meaning of layers, losses and optimizers, in NumPy: forward and backward, each family in a file of its own.

Models take their functions from here, as ``nn.relu``, so that a mistake in one can be replayed in every model.
"""

from parity.nn.activations import log_softmax, log_softmax_backward, relu, relu_backward, sigmoid, sigmoid_backward
from parity.nn.losses import LOSSES, Loss, binary_crossentropy, crossentropy, nll, squared_error, total
from parity.nn.narrow import Bfloat16, Float16, Narrow, narrowed
from parity.nn.updates import UPDATES, adam, decayed, sgd, slot_names

__all__ = [
    "LOSSES",
    "UPDATES",
    "Bfloat16",
    "Float16",
    "Loss",
    "Narrow",
    "adam",
    "binary_crossentropy",
    "crossentropy",
    "decayed",
    "log_softmax",
    "log_softmax_backward",
    "narrowed",
    "nll",
    "relu",
    "relu_backward",
    "sgd",
    "sigmoid",
    "sigmoid_backward",
    "slot_names",
    "squared_error",
    "total",
]
