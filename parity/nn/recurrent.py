"""Recurrent layers: one step after the other, with the rows of a batch as long as they are.

Inputs are (batch, steps, features), kernels (features, gates · units) and (units, gates · units), the gates one beside
the other: input, forget, cell, output for an LSTM, reset, update, new for a GRU. There may be a bias of the input and
one of the state, as torch has them; where both only add up, Keras and flax have one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from parity.nn.activations import relu, sigmoid
from parity.typing import Array

Beyond = Literal["zero", "last", "on"]
"""What the outputs are where a row has ended: 0, as in torch's padded sequences; the last one, as in Keras; or those
of a layer that reads on, as in flax."""


def rnn(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    recurrent_bias: Array | None = None,
    initial_hidden: Array | None = None,
    lengths: Array | None = None,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
    reverse: bool = False,
    beyond: Beyond = "zero",
) -> tuple[Array, Array]:
    """Run Elman's recurrent network, h = tanh(x W + b + h U + c).

    Args:
        x: ``(batch, steps, features)``, of any dtype.
        kernel: W, ``(features, units)``.
        recurrent_kernel: U, ``(units, units)``.
        bias: b, ``(units,)``; none adds 0.
        recurrent_bias: c, ``(units,)``; none adds 0.
        initial_hidden: ``(batch, units)``; none begins with 0.
        lengths: ``(batch,)``, integers: how many steps of each row count; none counts all.
        activation: What is applied to the sum.
        reverse: Whether each row is read from its last step to its first. Outputs stay in the order of the input.
        beyond: What the outputs are where a row has ended.

    Returns:
        The output of each step, ``(batch, steps, units)``, and the last state of each row, ``(batch, units)``.

    Source:
        Elman 1990, "Finding structure in time"; the documentation of ``torch.nn.RNN``.

    Examples:
        >>> output, hidden = rnn(np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1)), activation="relu")
        >>> output.ravel().tolist(), hidden.tolist()
        ([1.0, 2.0], [[2.0]])
    """
    function = np.tanh if activation == "tanh" else relu
    inputs = _with_bias(x @ kernel, bias)  # (batch, steps, units)

    def step(now: Array, hidden: Array) -> tuple[Array]:
        return (function(now + _with_bias(hidden @ recurrent_kernel, recurrent_bias)),)

    states = (_state(initial_hidden, x, recurrent_kernel),)
    outputs, (hidden,) = _scan(step, inputs, states, lengths, reverse, beyond)
    return outputs, hidden


def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    recurrent_bias: Array | None = None,
    initial_hidden: Array | None = None,
    initial_cell: Array | None = None,
    lengths: Array | None = None,
    *,
    forget_bias: float = 0.0,
    reverse: bool = False,
    beyond: Beyond = "zero",
) -> tuple[Array, Array, Array]:
    """Run a long short-term memory without peepholes.

    Its gates are i, f, g, o = σ, σ, tanh, σ of x W + b + h U + c; then the cell is f cell + i g, and h = o tanh(cell).

    Args:
        x: ``(batch, steps, features)``, of any dtype.
        kernel: W, ``(features, 4 · units)``: input, forget, cell, output.
        recurrent_kernel: U, ``(units, 4 · units)``.
        bias: b, ``(4 · units,)``; none adds 0.
        recurrent_bias: c, ``(4 · units,)``; none adds 0.
        initial_hidden: ``(batch, units)``; none begins with 0.
        initial_cell: ``(batch, units)``; none begins with 0.
        lengths: ``(batch,)``, integers: how many steps of each row count; none counts all.
        forget_bias: Added to the forget gate at each step, and in no parameter: 1 in TF1. Keras's ``unit_forget_bias``
            is another thing, an initial value of the bias.
        reverse: Whether each row is read from its last step to its first. Outputs stay in the order of the input.
        beyond: What the outputs are where a row has ended.

    Returns:
        The output of each step, ``(batch, steps, units)``, and the last state and cell of each row, ``(batch, units)``.

    Source:
        Hochreiter & Schmidhuber 1997, "Long short-term memory"; Gers, Schmidhuber & Cummins 2000, "Learning to forget",
        for the forget gate.

    Examples:
        >>> weights = np.ones((1, 4)), np.ones((1, 4))
        >>> output, hidden, cell = lstm(np.zeros((1, 3, 1)), *weights, initial_cell=np.ones((1, 1)))
        >>> output.shape, cell.round(3).tolist()
        ((1, 3, 1), [[0.341]])
    """
    inputs = _with_bias(x @ kernel, bias)  # (batch, steps, 4 · units)

    def step(now: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
        i, f, g, o = _lstm_gates(now + _with_bias(hidden @ recurrent_kernel, recurrent_bias), forget_bias)
        cell = f * cell + i * g
        return o * np.tanh(cell), cell

    states = _state(initial_hidden, x, recurrent_kernel), _state(initial_cell, x, recurrent_kernel)
    outputs, (hidden, cell) = _scan(step, inputs, states, lengths, reverse, beyond)
    return outputs, hidden, cell


def lstm_backward(
    d_outputs: Array,
    d_hidden: Array,
    d_cell: Array,
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    recurrent_bias: Array | None = None,
    initial_hidden: Array | None = None,
    initial_cell: Array | None = None,
    lengths: Array | None = None,
    *,
    forget_bias: float = 0.0,
    reverse: bool = False,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Give the gradients of ``lstm`` whose outputs are 0 where a row has ended.

    Args:
        d_outputs: The gradient of the outputs, ``(batch, steps, units)``.
        d_hidden: That of the last states, ``(batch, units)``.
        d_cell: That of the last cells, ``(batch, units)``.
        x: As in ``lstm``, like all that follows.
        kernel: W.
        recurrent_kernel: U.
        bias: b.
        recurrent_bias: c.
        initial_hidden: The first state.
        initial_cell: The first cell.
        lengths: How many steps of each row count.
        forget_bias: Added to the forget gate.
        reverse: Whether each row is read backwards.

    Returns:
        The gradients of ``x``, the kernel, the recurrent kernel, either bias, the first state and the first cell, in
        the shapes of these.

    Source:
        Werbos 1990, "Backpropagation through time: what it does and how to do it".

    Examples:
        >>> weights = np.ones((1, 1, 1)), np.ones((1, 4)), np.ones((1, 4))
        >>> zero = np.zeros((1, 1))
        >>> d_x, *_ = lstm_backward(np.ones((1, 1, 1)), zero, zero, *weights)
        >>> d_x.round(6).tolist()
        [[[0.347971]]]
    """
    batch, steps, _ = x.shape
    hidden, cell = _state(initial_hidden, x, recurrent_kernel), _state(initial_cell, x, recurrent_kernel)
    inputs = _with_bias(_with_bias(x @ kernel, bias), recurrent_bias)  # (batch, steps, 4 · units)
    counts = _counts(x, lengths)  # (steps, batch, 1)
    order = range(steps)[::-1] if reverse else range(steps)
    kept = []
    for t in order:
        gates = _lstm_gates(inputs[:, t] + hidden @ recurrent_kernel, forget_bias)
        kept.append((t, hidden, cell, gates))
        i, f, g, o = gates
        new = f * cell + i * g
        hidden, cell = np.where(counts[t], o * np.tanh(new), hidden), np.where(counts[t], new, cell)
    d_sums = np.zeros_like(inputs)
    d_recurrent = np.zeros_like(recurrent_kernel)
    for t, hidden, cell, (i, f, g, o) in reversed(kept):
        squashed = np.tanh(f * cell + i * g)
        d_out = np.where(counts[t], d_hidden + d_outputs[:, t], 0)
        d_new = np.where(counts[t], d_cell, 0) + d_out * o * (1 - squashed**2)
        d_sum = np.concatenate(
            [
                d_new * g * i * (1 - i),
                d_new * cell * f * (1 - f),
                d_new * i * (1 - g**2),
                d_out * squashed * o * (1 - o),
            ],
            axis=-1,
        )  # (batch, 4 · units)
        d_sums[:, t] = d_sum
        d_recurrent += hidden.T @ d_sum
        d_hidden = np.where(counts[t], 0, d_hidden) + d_sum @ recurrent_kernel.T
        d_cell = np.where(counts[t], d_new * f, d_cell)
    flat = d_sums.reshape(batch * steps, -1)
    d_kernel = x.reshape(batch * steps, -1).T @ flat  # (features, 4 · units)
    return d_sums @ kernel.T, d_kernel, d_recurrent, flat.sum(0), d_hidden, d_cell


def gru(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    recurrent_bias: Array | None = None,
    initial_hidden: Array | None = None,
    lengths: Array | None = None,
    *,
    reset_after: bool = True,
    reverse: bool = False,
    beyond: Beyond = "zero",
) -> tuple[Array, Array]:
    """Run a gated recurrent unit, h = (1 - z) n + z h.

    Its reset gate r takes part in n = tanh(x W + b + r (h U + c)); in the paper's first version, which Keras has with
    ``reset_after=False`` and TF1 alone, it is n = tanh(x W + b + (r h) U + c). The two biases of n add up in the second
    only, so a layer with one bias cannot say what a layer with two says.

    Args:
        x: ``(batch, steps, features)``, of any dtype.
        kernel: W, ``(features, 3 · units)``: reset, update, new.
        recurrent_kernel: U, ``(units, 3 · units)``.
        bias: b, ``(3 · units,)``; none adds 0.
        recurrent_bias: c, ``(3 · units,)``; none adds 0.
        initial_hidden: ``(batch, units)``; none begins with 0.
        lengths: ``(batch,)``, integers: how many steps of each row count; none counts all.
        reset_after: Whether the reset gate multiplies the state after the recurrent kernel did.
        reverse: Whether each row is read from its last step to its first. Outputs stay in the order of the input.
        beyond: What the outputs are where a row has ended.

    Returns:
        The output of each step, ``(batch, steps, units)``, and the last state of each row, ``(batch, units)``.

    Source:
        Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", whose first and third version on
        arXiv are the two; the documentation of ``torch.nn.GRU``.

    Examples:
        >>> output, hidden = gru(np.zeros((1, 2, 1)), np.ones((1, 3)), np.zeros((1, 3)), initial_hidden=np.ones((1, 1)))
        >>> output.ravel().tolist(), hidden.tolist()
        ([0.5, 0.25], [[0.25]])
    """
    inputs = _with_bias(x @ kernel, bias)  # (batch, steps, 3 · units)
    units = recurrent_kernel.shape[0]

    def step(now: Array, hidden: Array) -> tuple[Array]:
        recurrent = _with_bias(hidden @ recurrent_kernel, recurrent_bias)  # (batch, 3 · units)
        gates = sigmoid((now + recurrent)[:, : 2 * units])
        r, z = gates[:, :units], gates[:, units:]
        if reset_after:
            added = r * recurrent[:, 2 * units :]
        else:
            own = None if recurrent_bias is None else recurrent_bias[2 * units :]
            added = _with_bias((r * hidden) @ recurrent_kernel[:, 2 * units :], own)
        n = np.tanh(now[:, 2 * units :] + added)
        return ((1 - z) * n + z * hidden,)

    states = (_state(initial_hidden, x, recurrent_kernel),)
    outputs, (hidden,) = _scan(step, inputs, states, lengths, reverse, beyond)
    return outputs, hidden


def bidirectional(
    layer: Callable[..., tuple[Array, ...]],
    x: Array,
    forward: Mapping[str, Array],
    backward: Mapping[str, Array],
    lengths: Array | None = None,
    **settings: Any,
) -> tuple[Array, ...]:
    """Run two recurrent layers, one from each end of each row, and put their outputs beside each other.

    Args:
        layer: ``rnn``, ``lstm`` or ``gru``.
        x: ``(batch, steps, features)``, of any dtype.
        forward: The arrays of the layer that reads from the first step on, by the names of its parameters.
        backward: Those of the layer that reads from each row's last step on.
        lengths: ``(batch,)``, integers: how many steps of each row count; none counts all.
        settings: What else the layer is told.

    Returns:
        The outputs, ``(batch, steps, 2 · units)``, then the last states of the first layer and those of the second.

    Source:
        Schuster & Paliwal 1997, "Bidirectional recurrent neural networks".

    Examples:
        >>> weights = {"kernel": np.ones((1, 1)), "recurrent_kernel": np.ones((1, 1))}
        >>> output, *_ = bidirectional(rnn, np.ones((1, 2, 1)), weights, weights, activation="relu")
        >>> output.tolist()
        [[[1.0, 2.0], [2.0, 1.0]]]
    """
    ours, *first = layer(x, **forward, lengths=lengths, **settings)
    theirs, *second = layer(x, **backward, lengths=lengths, reverse=True, **settings)
    return np.concatenate([ours, theirs], axis=-1), *first, *second


def _with_bias(values: Array, bias: Array | None) -> Array:
    return values if bias is None else values + bias


def _state(initial: Array | None, x: Array, recurrent_kernel: Array) -> Array:
    return np.zeros((len(x), len(recurrent_kernel)), x.dtype) if initial is None else initial


def _lstm_gates(sums: Array, forget_bias: float) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = np.split(sums, 4, axis=-1)
    return sigmoid(i), sigmoid(f + forget_bias), np.tanh(g), sigmoid(o)


def _counts(x: Array, lengths: Array | None) -> Array:
    """Whether a step of a row counts, (steps, batch, 1)."""
    batch, steps = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else lengths
    return (np.arange(steps)[:, None] < ends)[..., None]


def _scan(
    step: Callable[..., tuple[Array, ...]],
    inputs: Array,
    states: tuple[Array, ...],
    lengths: Array | None,
    reverse: bool,
    beyond: Beyond,
) -> tuple[Array, tuple[Array, ...]]:
    """The output of each step, which is the first of its states, and the states after each row's last."""
    if beyond == "on" and lengths is not None:
        on, _ = _scan(step, inputs, states, None, reverse, beyond)
        return on, _scan(step, inputs, states, lengths, reverse, "zero")[1]
    counts = _counts(inputs, lengths)  # (steps, batch, 1)
    outputs = [output := np.zeros_like(states[0])] * len(counts)
    for t in range(len(counts))[::-1] if reverse else range(len(counts)):
        new = step(inputs[:, t], *states)
        states = tuple(np.where(counts[t], one, old) for one, old in zip(new, states, strict=True))
        output = np.where(counts[t], new[0], output if beyond == "last" else 0)
        outputs[t] = output
    return np.stack(outputs, axis=1), states
