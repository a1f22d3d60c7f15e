"""Mistakes in a recurrent layer: its gates, its biases, its direction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.layers import Call, compute
from parity.typing import Array

GATES = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new")}
"""The order of the gates in ``parity.nn``."""


def other_gates(call: Call, seen: Array) -> Iterator[Made]:
    """The blocks of every kernel and bias in another order."""
    gates = GATES.get(call.settings["cell"], ())
    for order in list(itertools.permutations(range(len(gates))))[1:]:
        moved = {
            role: np.concatenate([np.split(value, len(gates), -1)[gate] for gate in order], -1)
            for role, value in call.params.items()
        }
        yield Made(compute(call.holding(**moved)), ", ".join(gates[gate] for gate in order))


def reset_otherwise(call: Call) -> list[Call]:
    if call.settings["cell"] != "GRU":
        return []
    return [call.set(reset_after=not call.settings.get("reset_after", True))]


def forget_bias(call: Call, seen: Array) -> Iterator[Made]:
    if call.settings["cell"] != "LSTM":
        return
    units = len(call.params["recurrent_kernel"])
    for by in (1.0, -1.0):
        bias = call.params.get("bias", np.zeros(4 * units)).copy()
        bias[units : 2 * units] += by
        yield Made(compute(call.holding(bias=bias)), f"{by:+g}")


def one_bias_missing(call: Call, seen: Array) -> Iterator[Made]:
    for role, said in (("bias", "that of the input"), ("recurrent_bias", "that of the state")):
        if np.any(call.params.get(role, 0)):
            yield Made(compute(call.without(role)), said)


def reversed_steps(call: Call, seen: Array) -> Iterator[Made]:
    """The steps read from the other end, and what they give in that order or in the input's."""
    other = compute(call.set(reverse=not call.settings.get("reverse", False)))
    yield Made(other)
    if other.ndim > 2:
        yield Made(other[:, ::-1], "outputs in that order")


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="gates-in-another-order",
        kinds=("recurrent",),
        sentence="The gates of a recurrent layer's kernels and biases lie in another order.",
        reference="keras-team/keras#8720; tensorflow/tensorflow#29308",
        wrong=other_gates,
    ),
    LayerMistake(
        name="reset-on-the-other-side-of-the-product",
        kinds=("recurrent",),
        sentence="A GRU's reset gate multiplies before the recurrent kernel does instead of after it, or the reverse.",
        reference="keras-team/keras#9112; pytorch/pytorch#8153",
        wrong=calls(reset_otherwise),
    ),
    LayerMistake(
        name="forget-bias-of-one",
        kinds=("recurrent",),
        sentence="An LSTM adds 1 to its forget gate that the other does not, or lacks it.",
        reference="apache/tvm#3410; tensorflow/tensorflow#14223",
        wrong=forget_bias,
    ),
    LayerMistake(
        name="one-of-two-biases-missing",
        kinds=("recurrent",),
        sentence="A recurrent layer lacks the bias of its input or that of its state.",
        reference="keras-team/keras#15915",
        wrong=one_bias_missing,
    ),
    LayerMistake(
        name="sequence-reversed",
        kinds=("recurrent",),
        sentence="A recurrent layer reads its sequence from the other end.",
        reference="qjadud1994/CRNN-Keras#26; onnx/keras-onnx#523",
        wrong=reversed_steps,
    ),
)
