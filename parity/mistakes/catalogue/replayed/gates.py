"""Mistakes in a gated feed-forward network, between its projections: which half is the gate, and its activation."""

from __future__ import annotations

from collections.abc import Iterator

from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.activations import ELEMENTWISE
from parity.nn.layers import Call, compute
from parity.typing import Array


def other_half(call: Call) -> list[Call]:
    return [call.set(gate=1 - call.settings["gate"])]


def another_activation(call: Call, seen: Array) -> Iterator[Made]:
    right = call.settings["activation"]
    for activation in ELEMENTWISE:
        if activation != right:
            yield Made(compute(call.set(activation=activation)), f"{activation} for {right}")


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="other-half-is-the-gate",
        kinds=("gated",),
        sentence="The activation of a gated network is taken of the half that it should gate.",
        reference="ml-explore/mlx-lm#767",
        wrong=calls(other_half),
    ),
    LayerMistake(
        name="another-activation-in-a-gate",
        kinds=("gated",),
        sentence="The gate of a gated network has another activation.",
        reference="huggingface/candle#3745; THUDM/slime#1825",
        wrong=another_activation,
    ),
)
