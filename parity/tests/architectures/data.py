"""The batches that every port of an architecture is given: images channels last, sentences padded with 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BATCH = 4


def batches(model: str, steps: int, dtype: str, seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """Give each update's batch, the same numbers in every dtype."""
    draw = np.random.RandomState(2000 + seed)
    for _ in range(steps):
        yield tuple(part.astype(dtype) if part.dtype.kind == "f" else part for part in GIVEN[model](draw))


def _images(draw: np.random.RandomState) -> tuple[Any, ...]:
    labels = draw.randint(0, 5, BATCH)
    return (draw.normal(size=(BATCH, 16, 16, 3)) + 0.2 * labels[:, None, None, None]).astype(np.float32), labels


def _translations(draw: np.random.RandomState) -> tuple[Any, ...]:
    """Words of the source from 1 on with 0 behind its end, and the target: the source backwards, begun by 1."""
    lengths = draw.randint(3, 8, BATCH)
    source = np.where(np.arange(7) < lengths[:, None], draw.randint(2, 13, (BATCH, 7)), 0)
    target = np.concatenate([np.ones((BATCH, 1), int), source[:, ::-1]], 1)
    return source, target[:, :-1], target[:, 1:]


def _text(draw: np.random.RandomState) -> tuple[Any, ...]:
    text = (np.arange(9) * draw.randint(1, 4, (BATCH, 1)) + draw.randint(0, 13, (BATCH, 1))) % 13
    return text[:, :-1], text[:, 1:]


GIVEN = {"mobile": _images, "translator": _translations, "stacked": _text}
