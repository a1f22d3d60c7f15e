"""The batches that every port of a model is given, as its author's data set would give them: images channels last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BATCH = 8


def batches(model: str, seed: int, steps: int, dtype: str) -> Iterator[tuple[Any, ...]]:
    """Give each update's batch, the same numbers in every dtype."""
    draw = np.random.RandomState(1000 + seed)
    for _ in range(steps):
        found = GIVEN[model](draw)
        yield tuple(part.astype(dtype) if part.dtype.kind == "f" else part for part in found)


def _images(draw: np.random.RandomState) -> tuple[Any, ...]:
    labels = draw.randint(0, 10, BATCH)
    return (draw.normal(size=(BATCH, 16, 16, 3)) + 0.1 * labels[:, None, None, None]).astype(np.float32), labels


def _text(draw: np.random.RandomState) -> tuple[Any, ...]:
    text = (np.arange(13) * draw.randint(1, 4, (BATCH, 1)) + draw.randint(0, 17, (BATCH, 1))) % 17
    return text[:, :-1], text[:, 1:]


def _lines(draw: np.random.RandomState) -> tuple[Any, ...]:
    """Lines of unequal lengths; a target of -100 behind the end of each."""
    text = (np.arange(11) * draw.randint(1, 5, (BATCH, 1)) + draw.randint(0, 19, (BATCH, 1))) % 19
    ended = np.arange(10) >= draw.randint(4, 11, (BATCH, 1))
    return text[:, :-1], np.where(ended, -100, text[:, 1:])


def _sentences(draw: np.random.RandomState) -> tuple[Any, ...]:
    """Words from 1 on, 0 behind the end of each sentence; their lengths, and the label."""
    lengths, labels = draw.randint(2, 11, BATCH), draw.randint(0, 3, BATCH)
    words = (draw.randint(0, 4, (BATCH, 10)) + 3 * labels[:, None]) % 11 + 1
    return np.where(np.arange(10) < lengths[:, None], words, 0), lengths, labels


def _maps(draw: np.random.RandomState) -> tuple[Any, ...]:
    x = draw.normal(size=(BATCH, 8, 8, 2)).astype(np.float32)
    return x, (x.sum(-1, keepdims=True) > 0).astype(np.float32)


GIVEN = {"resnet": _images, "gpt": _text, "llama": _lines, "lstm": _sentences, "unet": _maps}
