"""Mistakes in an activation: another function, or another number in it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, becomes, calls, fitted
from parity.nn import activations as functions
from parity.nn.layers import Call, compute
from parity.typing import Array

ELEMENTWISE = (
    *("relu", "relu6", "gelu", "gelu_sigmoid", "silu", "tanh", "sigmoid", "hard_sigmoid", "hard_swish"),
    *("leaky_relu", "prelu", "elu", "selu", "mish", "softplus", "softmax", "log_softmax"),
)


def exact_if_approximate(call: Call) -> list[Call]:
    return [call.set(approximate=False)] if call.settings.get("approximate") else []


def approximate_if_exact(call: Call) -> list[Call]:
    return [] if call.settings.get("approximate") else [call.set(approximate=True)]


def another_slope(call: Call, seen: Array) -> Iterator[Made]:
    """The slope is the ratio of what was seen below 0 to what was taken there."""
    below = call.x < 0
    taken = call.x[below]
    if not np.any(taken):
        return
    slope = float(np.sum(taken * seen[below]) / np.sum(taken * taken))
    right = call.settings.get("negative_slope", 0.0 if call.kind == "relu" else None)
    if slope and slope != right and abs(slope - 1) > 1e-6:  # 1 is no activation at all
        yield from fitted(slope, right, "slope", partial(functions.leaky_relu, call.x))


def another_alpha(call: Call, seen: Array) -> Iterator[Made]:
    below = call.x < 0
    curve = np.expm1(call.x[below])
    if np.any(curve):
        alpha = float(np.sum(curve * seen[below]) / np.sum(curve * curve))
        yield from fitted(alpha, call.settings.get("alpha", 1.0), "alpha", partial(functions.elu, call.x))


def another_beta(call: Call, seen: Array) -> Iterator[Made]:
    """softplus of 0 is log 2 / beta; the value that was seen nearest to 0 begins a search for beta by bisection."""
    at = int(np.argmin(np.abs(call.x)))
    x, y = float(call.x.flat[at]), float(seen.flat[at])
    low, high = 1e-3, 1e3
    for _ in range(100):
        middle = float(np.sqrt(low * high))
        # softplus falls as its beta grows.
        if np.logaddexp(0.0, middle * x) / middle > y:
            low = middle
        else:
            high = middle
    yield from fitted(low, call.settings.get("beta", 1.0), "beta", lambda beta: compute(call.set(beta=beta)))


def another_axis(call: Call) -> list[Call]:
    now = call.settings.get("axis", -1) % call.x.ndim
    return [call.set(axis=axis) for axis in range(call.x.ndim) if axis != now]


def another_temperature(call: Call, seen: Array) -> Iterator[Made]:
    """The logarithm of a softmax is its input over the temperature, less one number for each row."""
    axis = call.settings.get("axis", -1)
    with np.errstate(divide="ignore"):
        logits = np.log(np.maximum(seen, 0))
    if np.isfinite(logits).all():
        x, y = (one - one.mean(axis, keepdims=True) for one in (call.x, logits))
        if np.sum(y * y) and np.sum(x * y):
            temperature = float(np.sum(x * x) / np.sum(x * y))
            yield from fitted(temperature, 1.0, "temperature", lambda t: compute(call.set(temperature=t)))


def halves_swapped(call: Call) -> list[Call]:
    axis = call.settings.get("axis", -1)
    first, second = np.split(call.x, 2, axis)
    return [Call(kind=call.kind, settings=call.settings, inputs=(np.concatenate([second, first], axis),))]


def old_hard_sigmoid(x: Array) -> Array:
    """As Keras had it before version 3."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def unchanged(call: Call, seen: Array) -> Iterator[Made]:
    yield Made(call.x)


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="gelu-by-tanh",
        kinds=("gelu",),
        sentence="GELU is computed by its approximation with a tanh instead of the normal distribution itself.",
        reference="jax-ml/jax#4428",
        wrong=calls(approximate_if_exact),
    ),
    LayerMistake(
        name="gelu-exact",
        kinds=("gelu",),
        sentence="GELU is computed from the normal distribution itself instead of the approximation with a tanh.",
        reference="jax-ml/jax#4428",
        wrong=calls(exact_if_approximate),
    ),
    LayerMistake(
        name="gelu-by-sigmoid",
        kinds=("gelu",),
        sentence="GELU is computed as x sigmoid(1.702 x).",
        reference="monatis/clip.cpp#10",
        wrong=becomes("gelu_sigmoid"),
    ),
    LayerMistake(
        name="gelu-for-gelu-by-sigmoid",
        kinds=("gelu_sigmoid",),
        sentence="GELU, exact or by tanh, takes the place of x sigmoid(1.702 x).",
        reference="mindspore-lab/mindone#225",
        wrong=calls(lambda call: [Call(kind="gelu", settings={"approximate": a}, inputs=call.inputs) for a in (0, 1)]),
    ),
    LayerMistake(
        name="silu-for-gelu",
        kinds=("gelu", "gelu_sigmoid"),
        sentence="SiLU takes the place of GELU.",
        reference="togethercomputer/stripedhyena#9",
        wrong=becomes("silu"),
    ),
    LayerMistake(
        name="gelu-for-silu",
        kinds=("silu",),
        sentence="GELU, exact or by tanh, takes the place of SiLU.",
        reference="togethercomputer/stripedhyena#9",
        wrong=calls(lambda call: [Call(kind="gelu", settings={"approximate": a}, inputs=call.inputs) for a in (0, 1)]),
    ),
    LayerMistake(
        name="relu-for-gelu",
        kinds=("gelu", "gelu_sigmoid", "silu"),
        sentence="ReLU takes the place of GELU or SiLU.",
        reference="PyTorch documentation, TransformerEncoderLayer: the activation is relu unless one says another",
        wrong=becomes("relu"),
    ),
    LayerMistake(
        name="another-negative-slope",
        kinds=("leaky_relu",),
        sentence="A leaky ReLU has another slope below 0.",
        reference="Dobiasd/frugally-deep#446",
        wrong=another_slope,
    ),
    LayerMistake(
        name="leaky-relu-for-relu",
        kinds=("relu",),
        sentence="ReLU has a slope below 0.",
        reference="torch-points3d/torch-points3d#248; jinyu121/DW2TF#2",
        wrong=another_slope,
    ),
    LayerMistake(
        name="relu-for-leaky-relu",
        kinds=("leaky_relu", "prelu"),
        sentence="ReLU takes the place of a leaky one.",
        reference="microsoft/MMdnn#914",
        wrong=becomes("relu"),
    ),
    LayerMistake(
        name="relu6-for-relu",
        kinds=("relu",),
        sentence="ReLU is cut off at 6.",
        reference="titu1994/MobileNetworks#3",
        wrong=becomes("relu6"),
    ),
    LayerMistake(
        name="relu-for-relu6",
        kinds=("relu6",),
        sentence="ReLU6 is not cut off at 6.",
        reference="microsoft/MMdnn#72",
        wrong=becomes("relu"),
    ),
    LayerMistake(
        name="another-elu-alpha",
        kinds=("elu",),
        sentence="ELU tends to another value below 0.",
        reference="VeriSilicon/TIM-VX#305",
        wrong=another_alpha,
    ),
    LayerMistake(
        name="old-hard-sigmoid",
        kinds=("hard_sigmoid",),
        sentence="The hard sigmoid is 0.2 x + 0.5, as Keras had it, instead of x / 6 + 0.5.",
        reference="tensorflow/tensorflow#65381",
        wrong=lambda call, seen: (Made(old_hard_sigmoid(call.x)),),
    ),
    LayerMistake(
        name="hard-sigmoid-for-sigmoid",
        kinds=("sigmoid",),
        sentence="A hard sigmoid, either of the two, takes the place of the sigmoid.",
        reference="keras-team/keras#9112",
        wrong=lambda call, seen: (Made(functions.hard_sigmoid(call.x)), Made(old_hard_sigmoid(call.x))),
    ),
    LayerMistake(
        name="silu-for-hard-silu",
        kinds=("hard_swish",),
        sentence="SiLU takes the place of the hard one.",
        reference="tensorflow/tpu#886",
        wrong=becomes("silu"),
    ),
    LayerMistake(
        name="tanh-in-place-of-sigmoid",
        kinds=("sigmoid",),
        sentence="A tanh takes the place of the sigmoid.",
        reference="tflearn/tflearn#200; google/e3d_lstm#17",
        wrong=becomes("tanh"),
    ),
    LayerMistake(
        name="tanh-for-relu",
        kinds=("relu",),
        sentence="A tanh takes the place of ReLU.",
        reference="RahulBhalley/alexnet-architecture.tensorflow#2",
        wrong=becomes("tanh"),
    ),
    LayerMistake(
        name="another-softplus-beta",
        kinds=("softplus",),
        sentence="Softplus has another beta.",
        reference="lanl-ansi/MathOptAI.jl#112",
        wrong=another_beta,
    ),
    LayerMistake(
        name="softmax-over-another-axis",
        kinds=("softmax", "log_softmax"),
        sentence="A softmax runs over another axis.",
        reference="labmlai/annotated_deep_learning_paper_implementations#146; MicrosoftDocs/pytorchfundamentals#21",
        wrong=calls(another_axis),
    ),
    LayerMistake(
        name="log-softmax-for-softmax",
        kinds=("softmax",),
        sentence="A softmax gives logarithms.",
        reference="HobbitLong/RepDistiller#52",
        wrong=calls(lambda call: [Call(kind="log_softmax", settings=call.settings, inputs=call.inputs)]),
    ),
    LayerMistake(
        name="softmax-for-log-softmax",
        kinds=("log_softmax",),
        sentence="A log-softmax gives no logarithms.",
        reference="AnubhavGupta3377/Text-Classification-Models-Pytorch#9; clvrai/ACGAN-PyTorch#4",
        wrong=calls(lambda call: [Call(kind="softmax", settings=call.settings, inputs=call.inputs)]),
    ),
    LayerMistake(
        name="another-temperature",
        kinds=("softmax",),
        sentence="A softmax has another temperature.",
        reference="huawei-noah/Pretrained-Language-Model#11",
        wrong=another_temperature,
    ),
    LayerMistake(
        name="sigmoid-for-softmax",
        kinds=("softmax",),
        sentence="A sigmoid of each value takes the place of a softmax over all.",
        reference="hunkim/DeepLearningZeroToAll#51",
        wrong=becomes("sigmoid"),
    ),
    LayerMistake(
        name="softmax-for-sigmoid",
        kinds=("sigmoid",),
        sentence="A softmax takes the place of the sigmoid; of one value it is 1.",
        reference="AstraZeneca/chemicalx#78",
        wrong=becomes("softmax"),
    ),
    LayerMistake(
        name="gate-and-value-swapped",
        kinds=("glu",),
        sentence="A gated linear unit takes the first half for the gate instead of the second.",
        reference="ooples/AiDotNet.Tensors#46; tgo-app-dev/vpipe#2",
        wrong=calls(halves_swapped),
    ),
    LayerMistake(
        name="activation-missing",
        kinds=ELEMENTWISE,
        sentence="There is no activation at this place.",
        reference="YujiaBao/ls#1; proceduralia/pytorch-conv2_1d#2",
        wrong=unchanged,
    ),
)
