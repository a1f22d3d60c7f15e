"""Dense layers and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import linear as nn
from parity.tests.nn.conformance import Arrays, Asked, Function


@st.composite
def products(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4)]))
    arrays = {"x": random.normal(size=shape), "kernel": random.normal(size=(4, 5))}
    return Asked({}, arrays | ({"bias": random.normal(size=5)} if draw(st.booleans()) else {}))


@st.composite
def rows(draw: Any) -> Asked:
    """Some rows are taken twice, some never."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    indices = random.integers(0, 5, draw(st.sampled_from([(6,), (2, 4)])))
    padding = draw(st.none() | st.integers(0, 4))
    return Asked({"padding_index": padding}, {"indices": indices, "table": random.normal(size=(5, 3))})


def dense_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    gradients = nn.dense_backward(d_results["output"], arrays["x"], arrays["kernel"])
    return {name: value for name, value in zip(("x", "kernel", "bias"), gradients, strict=True) if name in arrays}


def embedding_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    return {"table": nn.embedding_backward(d_results["output"], **arrays, **configuration)}


FUNCTIONS = (
    Function(nn.dense, products(), trained=("x", "kernel", "bias"), backward=dense_backward),
    Function(
        nn.embedding,
        rows(),
        trained=("table",),
        backward=embedding_backward,
        derivable=lambda asked: asked.configuration["padding_index"] is None,
    ),
)
