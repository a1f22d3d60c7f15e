"""Mistakes in a recurrent layer: its gates, its biases, its direction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from parity.mistakes.catalogue.replayed.activations import old_hard_sigmoid
from parity.mistakes.layer import LayerMistake, Made, calls
from parity.mistakes.planting import replaced
from parity.nn import recurrent
from parity.nn.activations import hard_sigmoid
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


def steps_for_rows(call: Call, seen: Array) -> Iterator[Made]:
    """The steps of all rows at once are read as one row's."""
    turned = Call(kind=call.kind, settings=call.settings, inputs=(np.swapaxes(call.x, 0, 1),), params=call.params)
    found = np.swapaxes(compute(turned.set(last=False)), 0, 1)
    yield Made(found[:, -1] if call.settings.get("last") else found)


def cell_for_hidden(call: Call, seen: Array) -> Iterator[Made]:
    """Of an LSTM whose last step alone is used."""
    p = call.params
    if call.settings["cell"] == "LSTM" and call.settings.get("last"):
        given = p["kernel"], p["recurrent_kernel"], p.get("bias"), p.get("recurrent_bias")
        yield Made(recurrent.lstm(call.x, *given, reverse=bool(call.settings.get("reverse")))[2])


def hard_gates(call: Call, seen: Array) -> Iterator[Made]:
    """As Keras had them by default before version 2.3, or as it has them now if they are asked for."""
    if call.settings["cell"] != "RNN":
        for gate, said in ((old_hard_sigmoid, "0.2 x + 0.5"), (hard_sigmoid, "x / 6 + 0.5")):
            with replaced(recurrent, {"sigmoid": gate}):
                made = compute(call)
            yield Made(made, said)  # whoever stops asking here leaves the gates as they are


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
    LayerMistake(
        name="batch-taken-for-steps",
        kinds=("recurrent",),
        sentence="A recurrent layer takes the examples of a batch for the steps of a sequence.",
        reference="AndersonJo/dqn-pytorch#1; pytorch/pytorch#1538",
        wrong=steps_for_rows,
    ),
    LayerMistake(
        name="cell-for-hidden-state",
        kinds=("recurrent",),
        sentence="An LSTM's cell state takes the place of its output, as where (h, c) is read as (c, h).",
        reference="microsoft/nni#2839",
        wrong=cell_for_hidden,
    ),
    LayerMistake(
        name="hard-sigmoid-in-the-gates",
        kinds=("recurrent",),
        sentence="The gates of a recurrent layer have a hard sigmoid, as Keras's had before version 2.3.",
        reference="tensorflow/tensorflow#47495; minimaxir/textgenrnn#153",
        wrong=hard_gates,
    ),
)
