"""Mistakes that people make with an LSTM over padded sequences. Those on the parameters and gradients are planted in
every framework; the state under the padding, in NumPy and PyTorch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from impls.lstm import lstm_numpy
from parity.mistakes import Gradients, Mistake, Phase, either, on_step, torch_functions, with_functions
from parity.spec import Array, Case, Params

FORGET = "lstm/input_bias"


def cell_and_forget_exchanged(params: Params) -> Params:
    """Take the blocks i, f, g, o of each tensor of the LSTM for TF1's i, g, f, o. The same takes gradients back."""

    def exchanged(p: Array) -> Array:
        i, f, g, o = np.split(p, 4, -1)
        return np.concatenate([i, g, f, o], -1)

    return {name: exchanged(p) if name.startswith("lstm/") else p for name, p in params.items()}


def forget_bias_left_out(params: Params) -> Params:
    i, f, g, o = np.split(params[FORGET], 4, -1)
    return params | {FORGET: np.concatenate([i, f - 1, g, o], -1)}


def one_bias_moves(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    loss, found = gradients(x, y)
    return loss, found | {"lstm/recurrent_bias": np.zeros_like(found["lstm/recurrent_bias"])}


def every_step(words: Array) -> Array:
    return np.ones_like(words, bool)


def torch_every_step(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    return {"count_nonzero": lambda x, axis: torch.full(x.shape[:1], x.shape[1])}


MISTAKES = (
    Mistake(
        name="lstm-state-under-the-padding",
        phase=Phase.PREDICTION,
        sentence="The LSTM reads the padding on, and its state after that is taken for the row's last.",
        reference="thtrieu/qclass_dl#1; ray-project/ray#21392",
        how=either(
            with_functions(lstm_numpy, counted=every_step),
            torch_functions(torch_every_step, lambda torch: torch),
        ),
        pieces_of=("torch",),
    ),
    Mistake(
        name="lstm-gates-in-another-order",
        phase=Phase.PREDICTION,
        sentence="The blocks of the LSTM's tensors are taken in TF1's order i, g, f, o instead of i, f, g, o.",
        reference="tensorflow/tensorflow#29308; keras-team/keras#10179",
        how=on_step(cell_and_forget_exchanged, cell_and_forget_exchanged),
    ),
    Mistake(
        name="lstm-forget-bias-left-out",
        phase=Phase.PREDICTION,
        sentence="The 1 that the bias of the forget gate begins with is left out.",
        reference="tensorflow/tensorflow#14223; pytorch/pytorch#750; pytorch/pytorch#20102",
        how=on_step(forget_bias_left_out),
    ),
    Mistake(
        name="lstm-one-bias-for-two",
        phase=Phase.GRADIENT,
        sentence="One of the LSTM's two biases is trained instead of both, so their sum moves at half the rate.",
        reference="onnx/onnx#1127; nntrainer/nntrainer#1768",
        how=on_step(evaluate=one_bias_moves),
    ),
)
