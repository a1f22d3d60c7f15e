"""Keras's recurrent layers. They have one bias, but for a GRU whose reset comes after, and know lengths as a mask."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Asked, Departure, Way
from parity.tests.nn.families.recurrent import STEPS, UNITS, of_end
from parity.tests.nn.ways.in_keras import applied, there


def mask_of(lengths: Any) -> dict[str, Any]:
    return {} if lengths is None else {"mask": tf.range(STEPS, dtype=lengths.dtype) < lengths[:, None]}


def run(layer: Any, x: Any, weights: tuple[Any, ...], states: list[Any], lengths: Any, reverse: bool) -> list[Any]:
    """The outputs in the order of the input, and the last states."""
    start = {"initial_state": states} if states else {}
    (output, *last), _ = applied(layer, x, *weights, **start, **mask_of(lengths))
    return [tf.reverse(output, [1]) if reverse else output, *last]


def settings(x: Any, bias: bool, reverse: bool = False) -> dict[str, Any]:
    return {
        "units": UNITS,
        "use_bias": bias,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": reverse,
        "dtype": x.dtype,
    }


def rnn(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    initial_hidden: Any,
    bias: Any = None,
    lengths: Any = None,
    *,
    activation: str,
    reverse: bool,
) -> dict[str, Any]:
    layer = layers.SimpleRNN(activation=activation, **settings(x, bias is not None, reverse))
    weights = there(kernel, recurrent_kernel, bias)
    output, hidden = run(layer, x, weights, [initial_hidden], lengths, reverse)
    return {"output": output, "hidden": hidden}


def lstm(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    initial_hidden: Any,
    initial_cell: Any,
    bias: Any = None,
    lengths: Any = None,
    *,
    reverse: bool,
    forget_bias: float,
) -> dict[str, Any]:
    layer = layers.LSTM(**settings(x, bias is not None, reverse))
    weights, states = there(kernel, recurrent_kernel, bias), [initial_hidden, initial_cell]
    output, hidden, cell = run(layer, x, weights, states, lengths, reverse)
    return {"output": output, "hidden": hidden, "cell": cell}


def update_first(weight: Any) -> Any:
    """Keras's order of gates, update, reset, new, from reset, update, new."""
    r, z, n = tf.split(weight, 3, axis=-1)
    return tf.concat([z, r, n], axis=-1)


def gru_weights(
    kernel: Any, recurrent_kernel: Any, bias: Any = None, recurrent_bias: Any = None, reset_after: bool = True
) -> tuple[Any, ...]:
    weights = [update_first(kernel), update_first(recurrent_kernel)]
    if bias is not None:
        own = update_first(bias)
        other = tf.zeros_like(own) if recurrent_bias is None else update_first(recurrent_bias)
        weights.append(tf.stack([own, other]) if reset_after else own)
    return tuple(weights)


def gru(
    x: Any, initial_hidden: Any, lengths: Any = None, *, reset_after: bool, reverse: bool, **weights: Any
) -> dict[str, Any]:
    layer = layers.GRU(reset_after=reset_after, **settings(x, "bias" in weights, reverse))
    own = gru_weights(**weights, reset_after=reset_after)
    output, hidden = run(layer, x, own, [initial_hidden], lengths, reverse)
    return {"output": output, "hidden": hidden}


def bidirectional(x: Any, lengths: Any = None, *, cell: str, **both: Any) -> dict[str, Any]:
    kind, order = {"lstm": (layers.LSTM, lambda **one: tuple(one.values())), "gru": (layers.GRU, gru_weights)}[cell]
    layer = layers.Bidirectional(kind(**settings(x, True)), dtype=x.dtype)
    weights = order(**of_end("forward", both)) + order(**of_end("backward", both))
    output, *states = run(layer, x, weights, [], lengths, False)
    return {"output": output, "forward_hidden": states[0], "backward_hidden": states[len(states) // 2]}


LAST = Departure(
    "the last output is repeated",
    "Where a row has ended the outputs are not 0 but the last one again; 0 stands before the first where a row is read "
    "from its end.",
    like={"beyond": "last"},
    when=lambda asked: "lengths" in asked.arrays,
)


def has_two(asked: Asked) -> bool:
    return "recurrent_bias" in asked.arrays


BASE = "keras.layers."
WAYS = (
    Way("rnn", (BASE + "SimpleRNN",), rnn, {"two biases": has_two}, (LAST,)),
    Way(
        "lstm",
        (BASE + "LSTM",),
        lstm,
        {"two biases": has_two, "a constant in the forget gate": lambda asked: asked.configuration["forget_bias"] != 0},
        (LAST,),
    ),
    Way(
        "gru",
        (BASE + "GRU",),
        gru,
        {"two biases and a reset before": lambda asked: has_two(asked) and not asked.configuration["reset_after"]},
        (LAST,),
    ),
    Way("bidirectional", (BASE + "Bidirectional",), bidirectional),
)
