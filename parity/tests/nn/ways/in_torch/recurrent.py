"""torch's recurrent layers. They have two biases, and know rows of several lengths as packed sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.recurrent import UNITS, of_end


def run(layer: Any, weights: dict[str, Any], x: Any, states: Any, lengths: Any) -> tuple[Any, Any]:
    """The layer's outputs, 0 where a row has ended, and what it says of the last states."""
    if lengths is None:
        return functional_call(layer, weights, (x, states))
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, last = functional_call(layer, weights, (packed, states))
    return nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0], last


def named(end: str, kernel: Any, recurrent_kernel: Any, bias: Any = None, recurrent_bias: Any = None) -> dict[str, Any]:
    """The weights by torch's names. Gates are in its order already."""
    found = {f"weight_ih_l0{end}": kernel.T, f"weight_hh_l0{end}": recurrent_kernel.T}
    if bias is not None:
        zero = torch.zeros_like(bias)
        found |= {f"bias_ih_l0{end}": bias, f"bias_hh_l0{end}": zero if recurrent_bias is None else recurrent_bias}
    return found


def made(kind: Any, x: Any, bias: bool, **settings: Any) -> Any:
    return kind(x.shape[-1], UNITS, bias=bias, batch_first=True, dtype=x.dtype, **settings)


def rnn(
    x: Any, initial_hidden: Any, lengths: Any = None, *, activation: str, reverse: bool, **weights: Any
) -> dict[str, Any]:
    layer = made(nn.RNN, x, "bias" in weights, nonlinearity=activation)
    states = initial_hidden[None]
    output, hidden = run(layer, named("", **weights), x, states, lengths)
    return {"output": output, "hidden": hidden[0]}


def lstm(
    x: Any,
    initial_hidden: Any,
    initial_cell: Any,
    lengths: Any = None,
    *,
    reverse: bool,
    forget_bias: float,
    **weights: Any,
) -> dict[str, Any]:
    layer = made(nn.LSTM, x, "bias" in weights)
    states = (initial_hidden[None], initial_cell[None])
    output, (hidden, cell) = run(layer, named("", **weights), x, states, lengths)
    return {"output": output, "hidden": hidden[0], "cell": cell[0]}


def gru(
    x: Any, initial_hidden: Any, lengths: Any = None, *, reset_after: bool, reverse: bool, **weights: Any
) -> dict[str, Any]:
    layer = made(nn.GRU, x, "bias" in weights)
    states = initial_hidden[None]
    output, hidden = run(layer, named("", **weights), x, states, lengths)
    return {"output": output, "hidden": hidden[0]}


def bidirectional(x: Any, lengths: Any = None, *, cell: str, **both: Any) -> dict[str, Any]:
    layer = made({"lstm": nn.LSTM, "gru": nn.GRU}[cell], x, True, bidirectional=True)
    weights = named("", **of_end("forward", both)) | named("_reverse", **of_end("backward", both))
    output, last = run(layer, weights, x, None, lengths)
    hidden = last[0] if cell == "lstm" else last
    return {"output": output, "forward_hidden": hidden[0], "backward_hidden": hidden[1]}


REVERSE = {"one direction, backwards": lambda asked: asked.configuration["reverse"]}
WAYS = (
    Way("rnn", ("torch.nn.RNN",), rnn, REVERSE, words={"nonlinearity": "activation"}),
    Way(
        "lstm",
        ("torch.nn.LSTM",),
        lstm,
        {**REVERSE, "a constant in the forget gate": lambda asked: asked.configuration["forget_bias"] != 0},
    ),
    Way(
        "gru",
        ("torch.nn.GRU",),
        gru,
        {**REVERSE, "a reset before the kernel": lambda asked: not asked.configuration["reset_after"]},
    ),
    Way("bidirectional", ("torch.nn.RNNBase",), bidirectional),
)
