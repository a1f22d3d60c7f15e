"""Keras's resizing, on TensorFlow, which makes float32 of what it resizes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from parity.tests.nn.conformance import Asked, Way
from parity.tests.nn.families.resizing import TABLE, flat, is_, read_off

METHODS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}


def resize(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    return {"output": keras.ops.image.resize(x, output_size, METHODS[method], antialias=antialias)}


def resizing(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    return {"output": layers.Resizing(*output_size, METHODS[method], antialias=antialias, dtype=x.dtype)(x)}


def up(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    factors = tuple(new // old for new, old in zip(output_size, x.shape[1:-1], strict=True))
    return {"output": layers.UpSampling2D(factors, interpolation=METHODS[method], dtype=x.dtype)(x)}


LINE = np.array([0.0, 3.0], np.float32).reshape(1, 1, 2, 1)


def places() -> dict[str, Any]:
    return {"places": read_off(keras.ops.image.resize(LINE, (1, 4)))}


def by_no_whole_number(asked: Asked) -> bool:
    sizes = zip(asked.configuration["output_size"], asked.arrays["x"].shape[1:-1], strict=True)
    return any(new % old for new, old in sizes)


CANNOT = {
    "one axis": flat,
    "aligned corners": is_(places="aligned"),
    "half pixels left out": is_(places="corner"),
}
WORDS = {"size": "output_size", "interpolation": "method"}
WAYS = (
    Way("resize", ("keras.ops.image.resize",), resize, CANNOT, (TABLE,), words=WORDS, measured=places, dtype="float32"),
    Way(
        "resize", ("keras.layers.Resizing",), resizing, CANNOT, (TABLE,), words=WORDS, measured=places, dtype="float32"
    ),
    Way(
        "resize",
        ("keras.layers.UpSampling2D",),
        up,
        {**CANNOT, "by no whole number": by_no_whole_number, "antialiasing": is_(antialias=True)},
        words={"interpolation": "method"},
        measured=places,
        dtype="float32",
    ),
)
