"""Attention: each query takes a weighted mean of the values, by how well their keys suit it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from parity.typing import Array


def attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    without_keys: Literal["mean", "zero"] = "mean",
) -> Array:
    """Give softmax(scale · query keyᵀ + bias) value, for each head.

    A mask says which keys a query may look at. torch's ``MultiheadAttention`` says the contrary, in both of its masks:
    its True hides a key. Frameworks agree that the first query's only key is the first one where attention is causal,
    also if there are more keys than queries, as in the use of a cache, where the last query should see them all.

    Args:
        query: ``(batch, queries, heads, width)``, of any dtype. torch has heads before queries.
        key: ``(batch, keys, groups, width)``; each group of heads has one key. As many groups as heads is the usual.
        value: ``(batch, keys, groups, value width)``.
        bias: Added to the scores, ``(batch, heads, queries, keys)`` or what broadcasts to it.
        mask: Boolean, of such a shape: where a query may look at a key.
        scale: What scores are multiplied by; none for 1 / √width.
        causal: Whether a query may look at keys up to its own place alone.
        without_keys: What a query that may look at no key gets: the mean of all values, as where the scores are a large
            negative number, or 0, as in torch's function.

    Returns:
        ``(batch, queries, heads, value width)``.

    Source:
        Vaswani et al. 2017, "Attention is all you need", equation 1; Ainslie et al. 2023, "GQA: training generalized
        multi-query transformer models", for grouped heads.

    Examples:
        >>> x = np.array([[[[0.0]], [[2.0]]]])  # two steps of one head
        >>> attention(x, x, x).ravel().round(3).tolist(), attention(x, x, x, causal=True).ravel().round(3).tolist()
        ([1.0, 1.964], [0.0, 1.964])
    """
    weights = _weights(query, key, bias, mask, scale, causal, without_keys)  # (batch, heads, queries, keys)
    return (weights @ _heads(_repeated(value, query))).swapaxes(1, 2)


def attention_backward(
    d_output: Array,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    without_keys: Literal["mean", "zero"] = "mean",
) -> tuple[Array, Array, Array]:
    """Give the gradients of the query, the key and the value.

    Args:
        d_output: The gradient of the output, ``(batch, queries, heads, value width)``.
        query: As in ``attention``, like all that follows.
        key: The keys.
        value: The values.
        bias: Added to the scores.
        mask: Where a query may look at a key.
        scale: What scores are multiplied by.
        causal: Whether a query may look at keys up to its own place alone.
        without_keys: What a query gets that may look at no key. Where it is the mean, the scores have no gradient.

    Returns:
        The gradients, in the shapes of query, key and value.

    Source:
        The derivative of ``attention``.

    Examples:
        >>> x = np.array([[[[0.0]], [[2.0]]]])
        >>> [gradient.ravel().round(3).tolist() for gradient in attention_backward(np.ones_like(x), x, x, x)]
        [[1.0, 0.071], [-0.071, 0.071], [0.518, 1.482]]
    """
    weights = _weights(query, key, bias, mask, scale, causal, without_keys)  # (batch, heads, queries, keys)
    d_mixed = _heads(d_output)
    d_value = _gathered((weights.swapaxes(2, 3) @ d_mixed).swapaxes(1, 2), value)
    d_weights = d_mixed @ _heads(_repeated(value, query)).swapaxes(2, 3)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True))
    d_scores = np.where(_seen(query, key, mask, causal), d_scores, 0) * _scale(query, scale)
    d_query = (d_scores @ _heads(_repeated(key, query))).swapaxes(1, 2)
    d_key = _gathered((d_scores.swapaxes(2, 3) @ _heads(query)).swapaxes(1, 2), key)
    return d_query, d_key, d_value


def multi_head_attention(
    query: Array,
    value: Array,
    query_kernel: Array,
    key_kernel: Array,
    value_kernel: Array,
    output_kernel: Array,
    query_bias: Array | None = None,
    key_bias: Array | None = None,
    value_bias: Array | None = None,
    output_bias: Array | None = None,
    mask: Array | None = None,
    *,
    heads: int,
    groups: int | None = None,
    causal: bool = False,
) -> Array:
    """Attend in several heads, each with a part of the projected features, and project what they get.

    The key's bias adds the same number to all scores of a query, so that its gradient is 0 but for rounding.

    Args:
        query: ``(batch, queries, features)``, of any dtype.
        value: ``(batch, keys, value features)``, of which keys are made as well; the query itself for self-attention.
        query_kernel: ``(features, heads · width)``. torch keeps those of query, key and value in one, transposed.
        key_kernel: ``(value features, groups · width)``.
        value_kernel: ``(value features, groups · width)``.
        output_kernel: ``(heads · width, features)``.
        query_bias: ``(heads · width,)``; none adds 0.
        key_bias: ``(groups · width,)``; none adds 0.
        value_bias: ``(groups · width,)``; none adds 0.
        output_bias: ``(features,)``; none adds 0.
        mask: Boolean, ``(batch, heads, queries, keys)`` or what broadcasts to it: where a query may look at a key.
        heads: How many heads there are.
        groups: How many keys and values there are for them; none for one for each head.
        causal: Whether a query may look at keys up to its own place alone.

    Returns:
        ``(batch, queries, features)``.

    Source:
        Vaswani et al. 2017, "Attention is all you need", section 3.2.2.

    Examples:
        >>> x, eye = np.ones((1, 3, 2)), np.eye(2)
        >>> multi_head_attention(x, x, eye, eye, eye, eye, heads=2).shape
        (1, 3, 2)
    """

    def projected(x: Array, kernel: Array, bias: Array | None, parts: int) -> Array:
        flat = x @ kernel if bias is None else x @ kernel + bias
        return flat.reshape(*x.shape[:2], parts, -1)  # (batch, steps, parts, width)

    found = attention(
        projected(query, query_kernel, query_bias, heads),
        projected(value, key_kernel, key_bias, groups or heads),
        projected(value, value_kernel, value_bias, groups or heads),
        mask=mask,
        causal=causal,
    )
    output = found.reshape(*query.shape[:2], -1) @ output_kernel
    return output if output_bias is None else output + output_bias


def _weights(
    query: Array,
    key: Array,
    bias: Array | None,
    mask: Array | None,
    scale: float | None,
    causal: bool,
    without_keys: str,
) -> Array:
    scores = _heads(query) @ _heads(_repeated(key, query)).swapaxes(2, 3) * _scale(query, scale)
    if bias is not None:
        scores = scores + bias
    seen = np.broadcast_to(_seen(query, key, mask, causal), scores.shape)
    none = ~seen.any(-1, keepdims=True)
    # A query without keys has the same weight for all, as from scores that are one large negative number.
    scores = np.where(none, 0, np.where(seen, scores, -np.inf))
    exponential = np.exp(scores - scores.max(-1, keepdims=True))
    weights = exponential / exponential.sum(-1, keepdims=True)
    return np.where(none, 0, weights) if without_keys == "zero" else weights


def _seen(query: Array, key: Array, mask: Array | None, causal: bool) -> Array:
    """Where a query may look at a key; it broadcasts to (batch, heads, queries, keys)."""
    seen = np.ones((query.shape[1], key.shape[1]), bool)
    seen = np.tril(seen) if causal else seen
    return seen if mask is None else seen & mask


def _scale(query: Array, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _repeated(grouped: Array, query: Array) -> Array:
    """One key or value for each head, from one for each group: (batch, keys, heads, width)."""
    return np.repeat(grouped, query.shape[2] // grouped.shape[2], axis=2)


def _heads(x: Array) -> Array:
    """Heads before steps: (batch, steps, heads, width) -> (batch, heads, steps, width)."""
    return x.swapaxes(1, 2)


def _gathered(of_heads: Array, grouped: Array) -> Array:
    """The sum over each group's heads, in the shape of the group's array."""
    batch, keys, groups, width = grouped.shape
    return of_heads.reshape(batch, keys, groups, -1, width).sum(3)
