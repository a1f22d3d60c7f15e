"""Dense layers and embeddings: products with a kernel, and rows of a table."""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def dense(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Multiply the last axis by a kernel and add a bias.

    Args:
        x: ``(..., in)``.
        kernel: ``(in, out)``.
        bias: ``(out,)``; none adds 0.

    Returns:
        ``(..., out)``.

    Examples:
        >>> dense(np.array([1.0, 2.0]), np.array([[1.0], [10.0]]), np.array([0.5])).tolist()
        [21.5]
    """
    output = x @ kernel  # (..., out)
    return output if bias is None else output + bias


def dense_backward(d_output: Array, x: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Give the gradients of ``dense``.

    Args:
        d_output: The gradient of the output, ``(..., out)``.
        x: ``(..., in)``.
        kernel: ``(in, out)``.

    Returns:
        The gradients of ``x``, of the kernel and of the bias.

    Examples:
        >>> d_x, d_kernel, d_bias = dense_backward(np.ones((1, 1)), np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        >>> d_x.tolist(), d_kernel.tolist(), d_bias.tolist()
        ([[3.0, 4.0]], [[1.0], [2.0]], [1.0])
    """
    rows, d_rows = x.reshape(-1, x.shape[-1]), d_output.reshape(-1, d_output.shape[-1])  # (rows, in), (rows, out)
    return d_output @ kernel.T, rows.T @ d_rows, d_rows.sum(0)


def embedding(indices: Array, table: Array, *, padding_index: int | None = None) -> Array:
    """Take rows of a table.

    Args:
        indices: Integers of any shape, ``(...)``.
        table: ``(rows, features)``.
        padding_index: A row that is taken like any other and gets no gradient.

    Returns:
        ``(..., features)``.

    Examples:
        >>> embedding(np.array([1, 0, 1]), np.array([[0.5], [2.0]])).tolist()
        [[2.0], [0.5], [2.0]]
    """
    return table[indices]


def embedding_backward(d_output: Array, indices: Array, table: Array, *, padding_index: int | None = None) -> Array:
    """Give the gradient of the table of ``embedding``: what repeated rows get is added up.

    Args:
        d_output: The gradient of the output, ``(..., features)``.
        indices: ``(...)``.
        table: ``(rows, features)``.
        padding_index: As forward.

    Returns:
        The gradient of the table, in its shape.

    Examples:
        >>> embedding_backward(np.ones((3, 1)), np.array([1, 0, 1]), np.zeros((2, 1)), padding_index=0).tolist()
        [[0.0], [2.0]]
    """
    d_table = np.zeros_like(table)
    np.add.at(d_table, indices, d_output)
    if padding_index is not None:
        d_table[padding_index] = 0
    return d_table
