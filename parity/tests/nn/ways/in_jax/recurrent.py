"""flax's recurrent layers: a cell, and ``RNN``, which reads on where a row has ended and gives its state from there."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from parity.tests.nn.conformance import Asked, Departure, Way
from parity.tests.nn.families.recurrent import STEPS, UNITS, of_end


@partial(jax.jit, static_argnames=("kind", "reverse", "activation"))
def run(
    kind: Any, weights: Any, x: Any, states: Any, lengths: Any, reverse: bool, activation: Any = None
) -> tuple[Any, Any]:
    """The last states, and the outputs in the order of the input. Uncompiled, each call would compile its loop."""
    cell = kind(UNITS, param_dtype=x.dtype, **({"activation_fn": activation} if activation else {}))
    layer = linen.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    state, output = layer.apply({"params": {"cell": weights}}, x, initial_carry=states, seq_lengths=lengths)
    return state, counted(output, lengths) if reverse else output


@partial(jax.jit, static_argnames="kind")
def run_both(kind: Any, weights: Any, x: Any, lengths: Any) -> tuple[Any, Any]:
    ends = [linen.RNN(kind(UNITS, param_dtype=x.dtype), name=name) for name in ("forward", "backward")]
    states, output = linen.Bidirectional(*ends, return_carry=True).apply({"params": weights}, x, seq_lengths=lengths)
    return states, counted(output, lengths)


def counted(output: Any, lengths: Any) -> Any:
    """Backwards, what follows a row's end comes from a place of its own; here it is 0."""
    return jnp.where(jnp.arange(STEPS)[:, None] < lengths[:, None, None], output, 0)


def all_if_none(x: Any, lengths: Any) -> Any:
    return jnp.full(len(x), STEPS) if lengths is None else lengths


def dense(kernel: Any, bias: Any = None) -> dict[str, Any]:
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}


def rnn(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    initial_hidden: Any,
    lengths: Any = None,
    *,
    activation: str,
    reverse: bool,
) -> dict[str, Any]:
    weights = {"i": dense(kernel, bias), "h": dense(recurrent_kernel)}
    function = {"tanh": linen.tanh, "relu": linen.relu}[activation]
    hidden, output = run(linen.SimpleCell, weights, x, initial_hidden, all_if_none(x, lengths), reverse, function)
    return {"output": output, "hidden": hidden}


def lstm_weights(kernel: Any, recurrent_kernel: Any, bias: Any) -> dict[str, Any]:
    gates = zip("ifgo", *(jnp.split(one, 4, axis=-1) for one in (kernel, recurrent_kernel, bias)), strict=True)
    found = {}
    for gate, own, other, shift in gates:
        found |= {f"i{gate}": dense(own), f"h{gate}": dense(other, shift)}
    return found


def lstm(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    initial_hidden: Any,
    initial_cell: Any,
    lengths: Any = None,
    *,
    reverse: bool,
    forget_bias: float,
) -> dict[str, Any]:
    states = initial_cell, initial_hidden
    weights = lstm_weights(kernel, recurrent_kernel, bias)
    (last, hidden), output = run(linen.OptimizedLSTMCell, weights, x, states, all_if_none(x, lengths), reverse)
    return {"output": output, "hidden": hidden, "cell": last}


def gru_weights(kernel: Any, recurrent_kernel: Any, bias: Any, recurrent_bias: Any) -> dict[str, Any]:
    """Of reset and update both biases only add up, and the cell has one for the sum."""
    own, other, shift, shift_new = (
        jnp.split(one, 3, axis=-1) for one in (kernel, recurrent_kernel, bias, recurrent_bias)
    )
    sums = [one + another for one, another in zip(shift[:2], shift_new[:2], strict=True)]
    found = {}
    for gate, weight, recurrent, added in zip("rz", own, other, sums, strict=False):
        found |= {f"i{gate}": dense(weight, added), f"h{gate}": dense(recurrent)}
    return found | {"in": dense(own[2], shift[2]), "hn": dense(other[2], shift_new[2])}


def gru(
    x: Any, initial_hidden: Any, lengths: Any = None, *, reset_after: bool, reverse: bool, **weights: Any
) -> dict[str, Any]:
    hidden, output = run(linen.GRUCell, gru_weights(**weights), x, initial_hidden, all_if_none(x, lengths), reverse)
    return {"output": output, "hidden": hidden}


def bidirectional(x: Any, lengths: Any = None, *, cell: str, **both: Any) -> dict[str, Any]:
    kind, order = {"lstm": (linen.LSTMCell, lstm_weights), "gru": (linen.GRUCell, gru_weights)}[cell]
    weights = {f"{end}_rnn": {"cell": order(**of_end(end, both))} for end in ("forward", "backward")}
    states, output = run_both(kind, weights, x, all_if_none(x, lengths))
    hidden = [state[1] if cell == "lstm" else state for state in states]
    return {"output": output, "forward_hidden": hidden[0], "backward_hidden": hidden[1]}


def has_two(asked: Asked) -> bool:
    return "recurrent_bias" in asked.arrays


NOT_ONE = {"two biases": has_two, "no bias": lambda asked: "bias" not in asked.arrays}


ON = Departure(
    "outputs go on",
    "Where a row has ended the outputs are those of a layer that reads on, and have a gradient. Its last state is "
    "right.",
    like={"beyond": "on"},
    when=lambda asked: "lengths" in asked.arrays and not asked.configuration["reverse"],
)
BASE = "flax.linen."


# Cells of nnx hold their weights, and its ``RNN`` is a loop around one.


@partial(jax.jit, static_argnames=("kind", "reverse", "activation"))
def run_nnx(
    kind: Any, weights: Any, x: Any, states: Any, lengths: Any, reverse: bool, activation: Any = None
) -> tuple[Any, Any]:
    """As ``run``, of a cell of nnx with these weights by the names of its attributes."""
    # SimpleCell alone computes in float32 unless its dtype is said, and its loop refuses a state of float64 then.
    chosen = {"activation_fn": activation, "dtype": x.dtype} if activation else {}
    cell = kind(x.shape[-1], UNITS, param_dtype=x.dtype, rngs=nnx.Rngs(0), **chosen)
    for name, values in weights.items():
        for role, value in values.items():
            getattr(getattr(cell, name), role).set_value(value)
    layer = nnx.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    state, output = layer(x, initial_carry=states, seq_lengths=lengths)
    return state, counted(output, lengths) if reverse else output


def nnx_rnn(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    initial_hidden: Any,
    lengths: Any = None,
    *,
    activation: str,
    reverse: bool,
) -> dict[str, Any]:
    weights = {"dense_i": dense(kernel, bias), "dense_h": dense(recurrent_kernel)}
    function = {"tanh": linen.tanh, "relu": linen.relu}[activation]
    hidden, output = run_nnx(nnx.SimpleCell, weights, x, initial_hidden, all_if_none(x, lengths), reverse, function)
    return {"output": output, "hidden": hidden}


def nnx_lstm(kind: Any) -> Any:
    def call(
        x: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any,
        initial_hidden: Any,
        initial_cell: Any,
        lengths: Any = None,
        *,
        reverse: bool,
        forget_bias: float,
    ) -> dict[str, Any]:
        if kind is nnx.LSTMCell:
            weights = lstm_weights(kernel, recurrent_kernel, bias)
            weights["if_"] = weights.pop("if")  # a word of Python's
        else:
            weights = {"dense_i": dense(kernel), "dense_h": dense(recurrent_kernel, bias)}
        states = initial_cell, initial_hidden
        (last, hidden), output = run_nnx(kind, weights, x, states, all_if_none(x, lengths), reverse)
        return {"output": output, "hidden": hidden, "cell": last}

    return call


def nnx_gru(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    initial_hidden: Any,
    lengths: Any = None,
    *,
    reset_after: bool,
    reverse: bool,
) -> dict[str, Any]:
    weights = {"dense_i": dense(kernel, bias), "dense_h": dense(recurrent_kernel)}
    hidden, output = run_nnx(nnx.GRUCell, weights, x, initial_hidden, all_if_none(x, lengths), reverse)
    return {"output": output, "hidden": hidden}


CONSTANT = {"a constant in the forget gate": lambda asked: asked.configuration["forget_bias"] != 0}
BEFORE = {"a reset before the kernel": lambda asked: not asked.configuration["reset_after"]}
WAYS = (
    Way("rnn", (BASE + "SimpleCell",), rnn, NOT_ONE, (ON,), words={"activation_fn": "activation"}),
    Way(
        "lstm",
        (BASE + "OptimizedLSTMCell",),
        lstm,
        {**NOT_ONE, **CONSTANT},
        (ON,),
    ),
    Way(
        "gru",
        (BASE + "GRUCell",),
        gru,
        {"other than two biases": lambda asked: not has_two(asked), **BEFORE},
        (ON,),
    ),
    Way("bidirectional", (BASE + "Bidirectional",), bidirectional),
    Way(
        "rnn",
        ("flax.nnx.SimpleCell",),
        nnx_rnn,
        NOT_ONE,
        (ON,),
        words={"activation_fn": "activation"},
    ),
    *(
        Way("lstm", (f"flax.nnx.{kind.__name__}",), nnx_lstm(kind), {**NOT_ONE, **CONSTANT}, (ON,))
        for kind in (nnx.LSTMCell, nnx.OptimizedLSTMCell)
    ),
    Way("gru", ("flax.nnx.GRUCell",), nnx_gru, {**NOT_ONE, **BEFORE}, (ON,)),
)
