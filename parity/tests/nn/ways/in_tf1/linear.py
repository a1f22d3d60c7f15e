"""TensorFlow's functions for products and rows of a table."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Way


def dense(x: Any, kernel: Any, bias: Any) -> dict[str, Any]:
    return {"output": tf.nn.xw_plus_b(x, kernel, bias)}


def embedding(indices: Any, table: Any, *, padding_index: int | None) -> dict[str, Any]:
    return {"output": tf.nn.embedding_lookup(table, indices)}


WAYS = (
    Way(
        "dense",
        ("tensorflow.compat.v1.nn.xw_plus_b",),
        dense,
        cannot={
            "no bias": lambda asked: "bias" not in asked.arrays,
            "more than two axes": lambda asked: asked.arrays["x"].ndim > 2,
        },
    ),
    Way(
        "embedding",
        ("tensorflow.compat.v1.nn.embedding_lookup",),
        embedding,
        cannot={"a padding index": lambda asked: asked.configuration["padding_index"] is not None},
    ),
)
