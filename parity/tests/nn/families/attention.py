"""Attention: with a bias or a mask, causal or not, with as many keys as heads or fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import attention as nn
from parity.tests.nn.conformance import Array, Arrays, Asked, Function

BATCH, QUERIES, KEYS, HEADS, WIDTH = 2, 3, 4, 4, 2
FEATURES, VALUE_FEATURES = HEADS * WIDTH, 3


def seen(random: np.random.Generator, alone: bool) -> Array:
    """Where queries may look at keys, (batch, 1, queries, keys): everywhere at the first, or one nowhere."""
    mask = random.random((BATCH, 1, QUERIES, KEYS)) < 0.5
    mask[..., 0] = True
    if alone:
        mask[0, 0, 1] = False
    return mask


@st.composite
def asked(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    groups = draw(st.sampled_from([HEADS, HEADS, 2, 1]))
    arrays: Arrays = {"query": random.normal(0, 1, (BATCH, QUERIES, HEADS, WIDTH))}
    arrays |= {name: random.normal(0, 1, (BATCH, KEYS, groups, WIDTH)) for name in ("key", "value")}
    added = draw(st.sampled_from(["bias", "mask", "mask", ""]))
    if added == "bias":
        arrays["bias"] = random.normal(0, 1, (BATCH, HEADS, QUERIES, KEYS))
    elif added == "mask":
        arrays["mask"] = seen(random, draw(st.booleans()))
    return Asked({"scale": draw(st.sampled_from([None, 0.5])), "causal": draw(st.booleans())}, arrays)


@st.composite
def asked_layer(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    groups = draw(st.sampled_from([HEADS, HEADS, 2, 1]))
    own = draw(st.booleans())
    arrays: Arrays = {"query": random.normal(0, 1, (BATCH, QUERIES, FEATURES))}
    arrays["value"] = arrays["query"] if own else random.normal(0, 1, (BATCH, KEYS, VALUE_FEATURES))
    features, keys = arrays["value"].shape[-1], arrays["value"].shape[1]
    sizes = {
        "query": (FEATURES, HEADS),
        "key": (features, groups),
        "value": (features, groups),
        "output": (FEATURES, HEADS),
    }
    for name, (size, count) in sizes.items():
        arrays[f"{name}_kernel"] = random.normal(0, 0.5, (size, count * WIDTH))
    if draw(st.booleans()):
        for name, (_, count) in sizes.items():
            arrays[f"{name}_bias"] = random.normal(0, 0.5, count * WIDTH)
    if draw(st.booleans()):
        arrays["mask"] = seen(random, False)[..., :keys]
    return Asked({"heads": HEADS, "groups": groups, "causal": draw(st.booleans())}, arrays)


def attention_backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    names = ("query", "key", "value")
    return dict(zip(names, nn.attention_backward(d_results["output"], **arrays, **configuration), strict=True))


PARTS = ("query", "key", "value", "output")
FUNCTIONS = (
    Function(nn.attention, asked(), trained=("query", "key", "value"), backward=attention_backward),
    Function(
        nn.multi_head_attention,
        asked_layer(),
        trained=("query", "value", *(f"{part}_kernel" for part in PARTS), *(f"{part}_bias" for part in PARTS)),
    ),
)
