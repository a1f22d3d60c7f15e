"""Clipping: gradients that are too long, and others that are not."""

from __future__ import annotations

import math
from functools import wraps
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import clipping as nn
from parity.tests.nn.conformance import Array, Asked, Function


@st.composite
def asked(draw: Any, *names: str, **words: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    size = draw(st.sampled_from([0.0, 0.1, 1.0, 1e3]))
    arrays = {name: random.normal(0, size, shape) for name, shape in zip(names, [(2, 3), (4,)], strict=False)}
    configuration = {"limit": draw(st.sampled_from([0.5, 1.0, 5.0]))}
    return Asked(configuration | {word: draw(values) for word, values in words.items()}, arrays)


@wraps(nn.clip_by_global_norm)
def clip_by_global_norm(first: Array, second: Array, **settings: Any) -> tuple[Array, ...]:
    return tuple(nn.clip_by_global_norm([first, second], **settings))


FUNCTIONS = (
    Function(nn.clip_by_value, asked("gradient"), outputs=(), trained=()),
    Function(nn.clip_by_norm, asked("gradient"), outputs=(), trained=()),
    Function(
        clip_by_global_norm,
        asked("first", "second", order=st.sampled_from([2.0, 2.0, math.inf])),
        results=("first", "second"),
        outputs=(),
        trained=(),
    ),
)
