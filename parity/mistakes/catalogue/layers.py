"""Mistakes in a model's layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from parity import nn
from parity.mistakes.in_torch import torch_functions, torch_output
from parity.mistakes.mistake import Mistake, of_loss
from parity.mistakes.pieces import after_output, with_functions
from parity.mistakes.planting import either
from parity.mistakes.stepwise import on_step
from parity.recording.steps import Phase
from parity.spec import Case
from parity.typing import Array, Params


def softmax(x: Array) -> Array:
    return np.exp(nn.log_softmax(x))


def softmax_backward(d_output: Array, output: Array) -> Array:
    return output * (d_output - (d_output * output).sum(-1, keepdims=True))


def squares_transposed(params: Params) -> Params:
    def square(name: str, p: Array) -> bool:
        return name.endswith("kernel") and p.ndim == 2 and p.shape[0] == p.shape[1]

    return {name: p.T if square(name, p) else p for name, p in params.items()}


def rearranged(params: Params, back: bool) -> Params:
    """Put the rows of the first kernel in another order: down the columns of a square image, or the last input first.

    The first by its name: parameters and gradients come in any order.
    """
    name = min((name for name in params if name.endswith("kernel")), default=None)
    if name is None:
        return params
    rows = len(params[name])
    side = round(rows**0.5)
    order = np.arange(rows).reshape(side, side).T.ravel() if side > 1 and side * side == rows else np.arange(rows)[::-1]
    return params | {name: params[name][np.argsort(order) if back else order]}


def without_biases(params: Params) -> Params:
    return {name: np.zeros_like(p) if name.endswith("bias") else p for name, p in params.items()}


def tables_scaled(params: Params) -> Params:
    """Multiply embeddings by the root of their width; the same factor takes a gradient back."""
    return {name: p * p.shape[1] ** 0.5 if name.endswith("/table") else p for name, p in params.items()}


def leaky_relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def leaky_relu_backward(d_output: Array, output: Array) -> Array:
    return np.where(output > 0, d_output, 0.01 * d_output)


def one_at_zero(d_output: Array, output: Array) -> Array:
    return d_output * (output >= 0)


def tanh_backward(d_output: Array, output: Array) -> Array:
    return d_output * (1 - output * output)


def torch_leaky_relu(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    return {"relu": lambda x, inplace=False: torch.where(x > 0, x, 0.01 * x)}


def torch_relu_let_through(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    """Make the backward pass the identity: an output of 0 has the derivative 1 then, as all other outputs have."""
    return {"relu": lambda x, inplace=False: x + (torch.relu(x) - x).detach()}


def torch_log_softmax_over_rows(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    return {"log_softmax": lambda x, *arguments, **options: torch.log_softmax(x, 0)}


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="kernel-transposed",
        phase=Phase.PREDICTION,
        sentence="Square kernels are taken for (out, in) instead of (in, out).",
        reference=(
            "PyTorch documentation, Linear: weight is (out_features, in_features), Keras's Dense has (inputs, units)"
        ),
        how=on_step(squares_transposed, squares_transposed),
    ),
    Mistake(
        name="rows-permuted",
        phase=Phase.PREDICTION,
        sentence="The rows of the first kernel belong to the inputs in another order.",
        reference="microsoft/MMdnn#250; keras-team/keras#13830",
        how=on_step(partial(rearranged, back=False), partial(rearranged, back=True)),
    ),
    Mistake(
        name="bias-missing",
        phase=Phase.PREDICTION,
        sentence="The layers have no bias.",
        reference="pudae/tensorflow-densenet#21; OpenNMT/CTranslate2#833",
        how=on_step(without_biases, without_biases),
    ),
    Mistake(
        name="embedding-scaled",
        phase=Phase.PREDICTION,
        sentence="Embeddings are multiplied by the root of their width.",
        reference="SamLynnEvans/Transformer#10; OpenNMT/OpenNMT-py#1722",
        how=on_step(tables_scaled, tables_scaled),
    ),
    Mistake(
        name="relu-after-the-last-layer",
        phase=Phase.PREDICTION,
        sentence="A ReLU follows the last layer, which should have none.",
        reference="hunkim/PyTorchZeroToAll#4; pytorch/tutorials#1654; nerfstudio-project/nerfstudio#932",
        applies=of_loss("squared_error", "crossentropy"),
        how=either(after_output(nn.relu, nn.relu_backward), torch_output(lambda torch, z: torch.relu(z))),
        pieces_of=("torch",),
    ),
    Mistake(
        name="leaky-relu",
        phase=Phase.PREDICTION,
        sentence="ReLUs have a slope of .01 below 0 instead of none.",
        reference="torch-points3d/torch-points3d#248; jinyu121/DW2TF#2",
        how=either(
            with_functions(nn, relu=leaky_relu, relu_backward=leaky_relu_backward),
            torch_functions(torch_leaky_relu),
        ),
        pieces_of=("torch",),
    ),
    Mistake(
        name="tanh-for-sigmoid",
        phase=Phase.PREDICTION,
        sentence="A tanh takes the place of the sigmoid.",
        reference="tflearn/tflearn#200; google/e3d_lstm#17",
        how=with_functions(nn, sigmoid=np.tanh, sigmoid_backward=tanh_backward),
    ),
    Mistake(
        name="softmax-twice",
        phase=Phase.PREDICTION,
        sentence="The model ends with a softmax, and the loss, which takes logits, applies another.",
        reference="tflearn/tflearn#562; nfmcclure/tensorflow_cookbook#86",
        applies=of_loss("crossentropy"),
        how=either(after_output(softmax, softmax_backward), torch_output(lambda torch, z: torch.softmax(z, -1))),
        pieces_of=("torch",),
    ),
    Mistake(
        name="log-softmax-over-the-batch",
        phase=Phase.PREDICTION,
        sentence="The model's log-softmax runs over the rows of a batch instead of the classes.",
        reference="MicrosoftDocs/pytorchfundamentals#21",
        how=either(
            with_functions(
                nn,
                log_softmax=partial(nn.log_softmax, axis=0),
                log_softmax_backward=partial(nn.log_softmax_backward, axis=0),
            ),
            torch_functions(torch_log_softmax_over_rows),
        ),
        pieces_of=("torch",),
    ),
    Mistake(
        name="probabilities-for-log-probabilities",
        phase=Phase.PREDICTION,
        sentence="The model ends with a softmax instead of the log-softmax that the negative log-likelihood needs.",
        reference="AnubhavGupta3377/Text-Classification-Models-Pytorch#9; clvrai/ACGAN-PyTorch#4",
        applies=of_loss("nll"),
        how=either(after_output(np.exp, np.multiply), torch_output(lambda torch, log_p: torch.exp(log_p))),
        pieces_of=("torch",),
    ),
    # Mistakes in the gradient.
    Mistake(
        name="relu-derivative-one-at-zero",
        phase=Phase.GRADIENT,
        sentence="The derivative of ReLU, asked of its output, is 1 at 0, where every closed unit stands.",
        reference="tensorflow/playground#19; pytorch/tutorials#269",
        how=either(with_functions(nn, relu_backward=one_at_zero), torch_functions(torch_relu_let_through)),
        pieces_of=("torch",),
    ),
)
