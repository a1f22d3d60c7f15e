"""Mistakes in an embedding and behind it. The rows that were taken are known by what the right layer gave."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, fitted
from parity.nn.layers import Call, compute
from parity.typing import Array


def scaled(call: Call, seen: Array) -> Iterator[Made]:
    """By the root of the width, or a number that is neither 0 nor 1."""
    right = compute(call)
    size = float(np.sum(right * right))
    factor = float(np.sum(right * seen)) / size if size else 0.0
    root = float(right.shape[-1]) ** 0.5 if right.ndim else 1.0
    if abs(factor - root) <= 1e-5 * root:
        yield Made(right * root, f"the root of the width, {root:.6g}")
    elif factor and abs(factor - 1) > 1e-6:
        yield from fitted(factor, None, "factor", partial(np.multiply, right))


def shifted(call: Call, seen: Array) -> Iterator[Made]:
    rows = len(call.params["table"])
    for by in (1, -1):
        yield Made(call.params["table"][(call.x + by) % rows], f"by {by:+d}")


def zeroed(call: Call, seen: Array) -> Iterator[Made]:
    """One row, wherever it was taken, gives zeros."""
    right, zero = compute(call), ~np.any(seen, -1)
    rows = np.unique(call.x[zero])
    if len(rows) == 1:
        yield Made(np.where((call.x == rows[0])[..., None], 0.0, right), f"row {rows[0]}")


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="embedding-times-a-factor",
        kinds=("embedding",),
        sentence="Embeddings are multiplied by a number, as the root of their width.",
        reference="SamLynnEvans/Transformer#10; OpenNMT/OpenNMT-py#1722",
        wrong=scaled,
    ),
    LayerMistake(
        name="values-times-a-factor",
        kinds=("identity",),
        sentence="Between two layers values are multiplied by a number, as an embedding by the root of its width.",
        reference="SamLynnEvans/Transformer#10; OpenNMT/OpenNMT-py#1722",
        wrong=scaled,
    ),
    LayerMistake(
        name="embedding-rows-shifted",
        kinds=("embedding",),
        sentence="The row beside the right one is taken, as where row 0 was reserved for padding.",
        reference="INK-USC/MHGRN#5",
        wrong=shifted,
    ),
    LayerMistake(
        name="padding-row-zeroed",
        kinds=("embedding",),
        sentence="One row, as that of padding, gives zeros.",
        reference="facebookresearch/fairseq#710; huggingface/transformers#409",
        wrong=zeroed,
    ),
)
