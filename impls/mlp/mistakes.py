"""Mistakes that people make with the tutorial's perceptron and its images."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fixtures import mnist
from impls.mlp import mlp_numpy
from parity import nn
from parity.mistakes import Mistake, Phase, Plant, either, on_pieces, on_rows, torch_functions
from parity.spec import Array, Case, Dataset, Params
from parity.trainers.numpy_trainer import NumpyTrainer

SCALED: dict[Callable[[], Dataset], Callable[[], Dataset]] = {
    mnist.normalized: mnist.scaled,
    mnist.normalized_full: mnist.scaled_full,
}
"""Each case's images to the same images before normalization."""


def is_normalized(case: Case) -> bool:
    return case.data in SCALED


def not_normalized(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=SCALED[case.data]().x)


def normalized_twice(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=(data.x - mnist.MEAN) / mnist.DEVIATION)


def without_last_relu() -> Plant:
    def change(trainer: NumpyTrainer) -> None:
        trainer.forward, trainer.backward = forward, backward

    return on_pieces(change)


def without_each_last_relu(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    """Let every last call of torch's ReLU pass: a prediction calls it once for each layer."""
    layers, calls = sum(name.endswith("kernel") for name in case.initial()), itertools.count(1)
    return {"relu": lambda x, inplace=False: torch.relu(x) if next(calls) % layers else x}


def forward(params: Params, x: Array) -> tuple[Array, list[Array]]:
    """The forward pass of ``mlp_numpy`` without the last layer's ReLU."""
    last = len(params) // 2
    hidden = {name: p for name, p in params.items() if not name.startswith(f"dense{last}/")}
    _, (*activations, _) = mlp_numpy.forward(hidden, x)
    logits = activations[-1] @ params[f"dense{last}/kernel"] + params[f"dense{last}/bias"]
    log_p = nn.log_softmax(logits)
    return log_p, [*activations, log_p]


def backward(params: Params, cache: list[Array], d_log_p: Array) -> Params:
    *activations, log_p = cache
    last = len(activations)
    d_a = nn.log_softmax_backward(d_log_p, log_p)
    gradients = {}
    for n in reversed(range(1, last + 1)):
        d_z = d_a if n == last else nn.relu_backward(d_a, activations[n])
        gradients[f"dense{n}/kernel"] = activations[n - 1].T @ d_z
        gradients[f"dense{n}/bias"] = d_z.sum(0)
        d_a = d_z @ params[f"dense{n}/kernel"].T
    return gradients


MISTAKES = (
    Mistake(
        name="last-relu-missing",
        phase=Phase.PREDICTION,
        sentence="The last layer has no ReLU, as most have none.",
        reference="luoyetx/deep-landmark#17; USTC-Video-Understanding/I3D_Finetune#2: whether it has one",
        how=either(without_last_relu(), torch_functions(without_each_last_relu)),
        pieces_of=("torch",),
    ),
    Mistake(
        name="mnist-not-normalized",
        phase=Phase.BATCH,
        sentence="The pixels are between 0 and 1 instead of normalized by mean and deviation.",
        reference="airctic/icevision#15",
        applies=is_normalized,
        how=on_rows(not_normalized),
    ),
    Mistake(
        name="mnist-normalized-twice",
        phase=Phase.BATCH,
        sentence="The pixels are normalized twice.",
        reference="talshaharabany/AutoSAM#3; hao-ai-lab/FastVideo#1055",
        applies=is_normalized,
        how=on_rows(normalized_twice),
    ),
)
