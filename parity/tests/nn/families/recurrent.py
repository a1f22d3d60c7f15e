"""Recurrent layers: rows of one length and of several, with one bias, two or none, read from either end."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import recurrent as nn
from parity.tests.nn.conformance import Array, Arrays, Asked, Function

BATCH, STEPS, FEATURES, UNITS = 3, 3, 2, 3
WEIGHTS = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")


def weights(random: np.random.Generator, gates: int, biases: int) -> Arrays:
    width = gates * UNITS
    shapes = {
        "kernel": (FEATURES, width),
        "recurrent_kernel": (UNITS, width),
        "bias": (width,),
        "recurrent_bias": (width,),
    }
    return {name: random.normal(0, 0.5, shapes[name]) for name in WEIGHTS[: 2 + biases]}


@st.composite
def asked(draw: Any, gates: int, *states: str, biases: Any = (0, 1, 2), **words: Any) -> Asked:
    """Without a recurrent bias where there is one bias, and without any where there is none."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    arrays: Arrays = {"x": random.normal(0, 1, (BATCH, STEPS, FEATURES))}
    arrays |= weights(random, gates, draw(st.sampled_from(biases)))
    arrays |= {name: random.normal(0, 1, (BATCH, UNITS)) for name in states}
    if draw(st.booleans()):
        arrays["lengths"] = np.array(draw(st.permutations([STEPS, 1, 2])))
    return Asked({word: draw(values) for word, values in words.items()}, arrays)


@st.composite
def asked_both(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    cell = draw(st.sampled_from(["lstm", "gru"]))
    both = {}
    for end in ("forward", "backward"):
        drawn = weights(random, {"lstm": 4, "gru": 3}[cell], {"lstm": 1, "gru": 2}[cell])
        both |= {f"{end}_{name}": value for name, value in drawn.items()}
    arrays = {"x": random.normal(0, 1, (BATCH, STEPS, FEATURES)), **both}
    if draw(st.booleans()):
        arrays["lengths"] = np.array(draw(st.permutations([STEPS, 1, 2])))
    return Asked({"cell": cell}, arrays)


def bidirectional(
    x: Array, lengths: Array | None = None, *, cell: str, beyond: nn.Beyond = "zero", **both: Array
) -> Any:
    """Run two recurrent layers, one from each end of each row, and put their outputs beside each other."""
    ends = [of_end(end, both) for end in ("forward", "backward")]
    output, *states = nn.bidirectional(getattr(nn, cell), x, *ends, lengths, beyond=beyond)
    each = len(states) // 2  # an LSTM has a cell besides
    return output, states[0], states[each]


def of_end(end: str, both: Arrays) -> Arrays:
    return {name.removeprefix(f"{end}_"): value for name, value in both.items() if name.startswith(end)}


def lstm_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    """The layer's own where a row's end is followed by 0; what follows it instead goes back where it is from."""
    beyond = configuration.get("beyond", "zero")
    settings = {word: value for word, value in configuration.items() if word != "beyond"}
    d_output, d_hidden, d_cell = (d_results[name] for name in ("output", "hidden", "cell"))
    cases = [(arrays, d_output, d_hidden, d_cell)]
    if beyond == "last" and "lengths" in arrays and not configuration["reverse"]:
        ends = np.arange(STEPS)[None, :, None] >= arrays["lengths"][:, None, None]  # (batch, steps, 1)
        moved = d_output.copy()
        moved[np.arange(BATCH), arrays["lengths"] - 1] += np.where(ends, d_output, 0).sum(1)
        cases = [(arrays, moved, d_hidden, d_cell)]
    elif beyond == "on":
        whole = {name: value for name, value in arrays.items() if name != "lengths"}
        cases = [(whole, d_output, 0 * d_hidden, 0 * d_cell), (arrays, 0 * d_output, d_hidden, d_cell)]
    found = [nn.lstm_backward(*d, **given, **settings) for given, *d in cases]
    d_x, d_kernel, d_recurrent, d_bias, d_hidden, d_cell = (sum(parts) for parts in zip(*found, strict=True))
    gradients = {
        "x": d_x,
        "kernel": d_kernel,
        "recurrent_kernel": d_recurrent,
        "bias": d_bias,
        "recurrent_bias": d_bias,
        "initial_hidden": d_hidden,
        "initial_cell": d_cell,
    }
    return {name: value for name, value in gradients.items() if name in arrays}


STATE = ("initial_hidden",)
BOTH = tuple(f"{end}_{name}" for end in ("forward", "backward") for name in WEIGHTS)
FUNCTIONS = (
    Function(
        nn.rnn,
        asked(1, *STATE, activation=st.sampled_from(["tanh", "relu"]), reverse=st.booleans()),
        results=("output", "hidden"),
        outputs=("output", "hidden"),
        trained=("x", *WEIGHTS, *STATE),
    ),
    Function(
        nn.lstm,
        asked(4, *STATE, "initial_cell", reverse=st.booleans(), forget_bias=st.sampled_from([0.0, 0.0, 1.0])),
        results=("output", "hidden", "cell"),
        outputs=("output", "hidden", "cell"),
        trained=("x", *WEIGHTS, *STATE, "initial_cell"),
        backward=lstm_backward,
    ),
    Function(
        nn.gru,
        asked(3, *STATE, biases=(0, 1, 2), reset_after=st.sampled_from([True, True, False]), reverse=st.booleans()),
        results=("output", "hidden"),
        outputs=("output", "hidden"),
        trained=("x", *WEIGHTS, *STATE),
    ),
    Function(
        bidirectional,
        asked_both(),
        results=("output", "forward_hidden", "backward_hidden"),
        outputs=("output", "forward_hidden", "backward_hidden"),
        trained=("x", *BOTH),
    ),
)
