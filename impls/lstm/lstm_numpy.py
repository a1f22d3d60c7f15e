"""A classifier of padded sequences in NumPy: embedding, LSTM, last state, output layer; back-propagation by hand.

With the gates i, f, g, o (H wide each, side by side in every kernel and bias) one step is

    i, f, o = σ(x W + b + h U + d)      g = tanh(x W + b + h U + d)      c' = f c + i g      h' = o tanh(c')

Where a row has ended, it keeps its state; so after the last step every row is in its last state, and backwards the
gradient waits there until it meets the row's last word.
"""

from typing import NamedTuple

import numpy as np

from parity import nn
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


class Cache(NamedTuple):
    """What ``backward`` needs, by step: ``words`` and ``counts`` (T, n), the inputs (T, n, E), the states before each
    step and the gates (T, n, H), tanh of the new cell (T, n, H); and the last state of each row (n, H)."""

    words: Array
    counts: Array
    embedded: Array
    h: Array
    c: Array
    gates: Array
    squashed: Array
    last: Array


def counted(words: Array) -> Array:
    """Whether a step of a row counts: word 0 is padding."""
    return words != 0


def forward(params: Params, x: Array) -> tuple[Array, Cache]:
    words = x.T  # (n, T) -> (T, n)
    counts = counted(words)
    embedded = params["embedding/table"][words]  # (T, n) -> (T, n, E)
    inputs = embedded @ params["lstm/input_kernel"] + params["lstm/input_bias"]  # (T, n, E) -> (T, n, 4H)
    kernel, bias = params["lstm/recurrent_kernel"], params["lstm/recurrent_bias"]
    (length, rows), size = words.shape, len(kernel)
    h, c = np.zeros_like(embedded, shape=(2, length + 1, rows, size))
    gates = np.empty_like(embedded, shape=(length, 4, rows, size))
    squashed = np.empty_like(embedded, shape=(length, rows, size))
    for t in range(length):
        sums = inputs[t] + (h[t] @ kernel + bias)  # (n, H) -> (n, 4H)
        i, f, g, o = np.split(sums, 4, -1)  # (n, 4H) -> 4 of (n, H)
        i, f, g, o = gates[t] = nn.sigmoid(i), nn.sigmoid(f), np.tanh(g), nn.sigmoid(o)
        new = f * c[t] + i * g
        squashed[t] = np.tanh(new)
        here = counts[t][:, None]  # (n,) -> (n, 1)
        c[t + 1] = np.where(here, new, c[t])
        h[t + 1] = np.where(here, o * squashed[t], h[t])
    logits = h[-1] @ params["dense/kernel"] + params["dense/bias"]  # (n, H) -> (n, classes)
    return logits, Cache(words, counts, embedded, h[:-1], c[:-1], gates, squashed, h[-1])


def backward(params: Params, cache: Cache, d_logits: Array) -> Params:
    words, counts, embedded, h, c, gates, squashed, last = cache
    d_h = d_logits @ params["dense/kernel"].T  # (n, classes) -> (n, H)
    d_c = np.zeros_like(d_h)
    transposed = params["lstm/recurrent_kernel"].T
    d_sums = np.empty_like(embedded, shape=(*words.shape, transposed.shape[0]))
    for t in reversed(range(len(words))):
        i, f, g, o = gates[t]
        here = counts[t][:, None]  # (n,) -> (n, 1)
        d_out = np.where(here, d_h, 0)
        d_new = np.where(here, d_c, 0) + d_out * o * (1 - squashed[t] ** 2)
        d_i = nn.sigmoid_backward(d_new * g, i)
        d_f = nn.sigmoid_backward(d_new * c[t], f)
        d_g = d_new * i * (1 - g**2)
        d_o = nn.sigmoid_backward(d_out * squashed[t], o)
        d_sums[t] = np.concatenate([d_i, d_f, d_g, d_o], -1)  # 4 of (n, H) -> (n, 4H)
        d_h = np.where(here, d_sums[t] @ transposed, d_h)  # (n, 4H) -> (n, H)
        d_c = np.where(here, d_new * f, d_c)
    d_table = np.zeros_like(params["embedding/table"])
    np.add.at(d_table, words, d_sums @ params["lstm/input_kernel"].T)  # a word may occur more than once
    flat = d_sums.reshape(-1, d_sums.shape[-1])  # (T, n, 4H) -> (T n, 4H)
    d_bias = flat.sum(0)
    return {
        "embedding/table": d_table,
        "lstm/input_kernel": embedded.reshape(len(flat), -1).T @ flat,
        "lstm/recurrent_kernel": h.reshape(len(flat), -1).T @ flat,
        "lstm/input_bias": d_bias,
        "lstm/recurrent_bias": d_bias.copy(),
        "dense/kernel": last.T @ d_logits,
        "dense/bias": d_logits.sum(0),
    }


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
