"""A character model in NumPy: embedding, GRU in torch's form, output layer; back-propagation through time by hand.

With the gates r, z, n (H wide each, side by side in every kernel and bias) and the reset applied to the hidden
part after its bias, one step is

    r, z = σ(x W_i + b_i + h W_h + b_h)      n = tanh(x W_in + b_in + r · (h W_hn + b_hn))      h' = (1 - z) n + z h

By the chain rule, each gate's derivative is dh' times a factor that is known after the forward pass.
"""

from typing import NamedTuple

import numpy as np

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


class Cache(NamedTuple):
    """The values of T characters that ``backward`` needs: ``x`` (T,), the others (T, H). ``h`` and ``h_new`` are the
    states before and after each character, ``hidden_n`` is the hidden part of n."""

    x: Array
    embedded: Array
    h: Array
    h_new: Array
    r: Array
    z: Array
    n: Array
    hidden_n: Array


def sigmoid(x: Array) -> Array:
    return 0.5 * np.tanh(0.5 * x) + 0.5  # cannot overflow


def forward(params: Params, x: Array) -> tuple[Array, Cache]:
    embedded = params["embedding/table"][x]  # (T,) -> (T, H)
    inputs = embedded @ params["gru/input_kernel"] + params["gru/input_bias"]  # (T, H) -> (T, 3H)
    kernel, bias = params["gru/recurrent_kernel"], params["gru/recurrent_bias"]
    length, size = embedded.shape
    states = np.zeros_like(embedded, shape=(length + 1, size))
    r, z, n, hidden_n = np.empty_like(embedded, shape=(4, length, size))
    for t, h in enumerate(states[:-1]):
        hidden = h @ kernel + bias  # (H,) -> (3H,)
        gates = sigmoid(inputs[t, : 2 * size] + hidden[: 2 * size])
        r[t], z[t], hidden_n[t] = gates[:size], gates[size:], hidden[2 * size :]
        n[t] = np.tanh(inputs[t, 2 * size :] + r[t] * hidden_n[t])
        states[t + 1] = (1 - z[t]) * n[t] + z[t] * h
    logits = states[1:] @ params["dense/kernel"] + params["dense/bias"]  # (T, H) -> (T, characters)
    return logits, Cache(x, embedded, states[:-1], states[1:], r, z, n, hidden_n)


def backward(params: Params, cache: Cache, d_logits: Array) -> Params:
    x, embedded, h, h_new, r, z, n, hidden_n = cache
    d_output = d_logits @ params["dense/kernel"].T  # (T, characters) -> (T, H)
    by_n = (1 - z) * (1 - n * n)
    by_r = by_n * hidden_n * r * (1 - r)
    by_z = (h - n) * z * (1 - z)
    by_hidden = np.stack([by_r, by_z, by_n * r], 1)  # (T, 3, H)
    transposed = np.ascontiguousarray(params["gru/recurrent_kernel"].T)
    d_new, d_hidden = np.empty_like(d_output), np.empty_like(d_output, shape=(len(x), len(transposed)))
    d_h = np.zeros_like(d_output[0])
    for t in reversed(range(len(x))):
        d_new[t] = d_output[t] + d_h
        d_hidden[t] = (by_hidden[t] * d_new[t]).reshape(-1)
        d_h = z[t] * d_new[t] + d_hidden[t] @ transposed  # (3H,) -> (H,)
    d_inputs = np.concatenate([d_hidden[:, : 2 * h.shape[1]], by_n * d_new], 1)  # (T, 3H)
    d_table = np.zeros_like(params["embedding/table"])
    np.add.at(d_table, x, d_inputs @ params["gru/input_kernel"].T)  # a character may occur more than once
    return {
        "embedding/table": d_table,
        "gru/input_kernel": embedded.T @ d_inputs,
        "gru/recurrent_kernel": h.T @ d_hidden,
        "gru/input_bias": d_inputs.sum(0),
        "gru/recurrent_bias": d_hidden.sum(0),
        "dense/kernel": h_new.T @ d_logits,
        "dense/bias": d_logits.sum(0),
    }


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
