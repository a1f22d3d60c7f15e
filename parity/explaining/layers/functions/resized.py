"""Images that were resized between layers, of a source that is known, or of the model's input that nobody recorded.

Where the input is not recorded, two runs that resized it otherwise tell it together: what is made of one image by two
linear maps agrees wherever both maps see the same of it. Those combinations are known for each pair of resizes, and a
pair whose combinations all agree is what the runs computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.explaining.layers.functions.form import Form, Given, apart, fits
from parity.nn.layers import Call
from parity.nn.resizing import resize
from parity.tolerance import FACTOR
from parity.typing import Array

METHODS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("nearest, half-pixel", {"method": "nearest"}),
    ("nearest, from the corner", {"method": "nearest", "places": "corner"}),
    ("nearest, corners aligned", {"method": "nearest", "places": "aligned"}),
    *(
        (f"{word}, {where}", {"method": method, "places": places, **more})
        for word, method, more in (
            ("bilinear", "linear", {}),
            ("bicubic", "cubic", {"cubic": -0.5}),
            ("bicubic (-0.75, borders repeated)", "cubic", {"cubic": -0.75, "border": "repeated"}),
        )
        for where, places in (("half-pixel", "half"), ("from the corner", "corner"), ("corners aligned", "aligned"))
    ),
    ("bilinear, half-pixel, with antialiasing", {"method": "linear", "antialias": True}),
    ("bicubic, half-pixel, with antialiasing", {"method": "cubic", "antialias": True}),
)
"""The ways to resize, in words and in those of ``parity.nn.resizing``."""
SIDE, UNKNOWN = 512, 64
"""Larger images are not looked at; nor larger ones of which the source is not known, which takes longer."""
EXAMPLES = 16
"""So many images and channels stand for all."""
TOGETHER = 8
"""So many numbers of two runs must agree for it to be no chance."""


def last(values: Array, channels_first: bool) -> Array:
    """An image (batch, height, width, channels)."""
    return np.moveaxis(values, 1, -1) if channels_first else values


@np.errstate(all="ignore")  # a recording may hold any numbers
def resizes(given: Given) -> Iterator[list[Form]]:
    """List the resizes that may have made an image of a known one.

    Args:
        given: What was given, and what it may have been made of.

    Yields:
        The resizes that make it. Those that are the same for these sizes are joined by "or".
    """
    found: list[Form] = []
    images = [source for source in given.sources if source.values.ndim == 4] if given.values.ndim == 4 else []
    for source, ours, theirs in itertools.product(images, (True, False), (True, False)):
        made, x = last(given.values, ours), last(source.values, theirs)
        if (len(x), x.shape[-1]) != (len(made), made.shape[-1]) or x.shape == made.shape:
            continue
        if max(*x.shape[1:3], *made.shape[1:3]) > SIDE:
            continue
        few = slice(max(1, EXAMPLES // made.shape[-1]))
        for words, settings in _told_apart(x.shape[1:3], made.shape[1:3]):
            far = apart(resize(x[few], output_size=made.shape[1:3], **settings), made[few], given.made.floor)
            if fits(far):
                said = {**settings, "output_size": made.shape[1:3]}
                # Where the channels are first, mistakes are replayed on nothing: what was seen lies otherwise.
                call = Call(kind="upsample", settings=said, inputs=(x,)) if not ours else None
                words_of = f"{source.tensor.label} resized {words}"
                found.append(Form(("resized", words, source.number), words_of, far, call))
    yield found


@np.errstate(all="ignore")  # a recording may hold any numbers
def resized_together(first: Array, second: Array, size: int, floor: float) -> list[tuple[int, int, float]]:
    """Find the pairs of resizes that make two images of one that nobody recorded.

    Args:
        first: What the first run made (batch, height, width, channels).
        second: What the second run made, of the same shape.
        size: How many values the image has that both were made of.
        floor: The noise floor of what was made.

    Returns:
        The numbers of two of ``METHODS`` for each pair that fits, and how far what they share is apart.
    """
    batch, height, width, channels = first.shape
    sizes = _sizes(size, batch * channels, height, width)
    if sizes is None or max(*sizes, height, width) > UNKNOWN:
        return []
    few = slice(max(1, EXAMPLES // channels))
    images = [np.moveaxis(each[few].astype(np.float64), -1, 1) for each in (first, second)]  # (batch, channels, h, w)
    maps = [
        [_map(old, new, settings) for old, new in zip(sizes, (height, width), strict=True)] for _, settings in METHODS
    ]
    alone = [[_outside(one) for one in both] for both in maps]
    # An image that is made larger tells by itself which maps cannot have made it.
    may = [[number for number in range(len(METHODS)) if _inside(image, alone[number], floor)] for image in images]
    told = [words for words, _ in _told_apart(sizes, (height, width))]
    found = []
    for i, j in itertools.product(*may):
        if METHODS[i][0] not in told or METHODS[j][0] not in told:
            continue
        if all(np.allclose(one, two) for one, two in zip(maps[i], maps[j], strict=True)):
            continue
        shared = [_shared(maps[i][0], maps[j][0])]
        square = sizes[0] == sizes[1] and height == width
        shared.append(shared[0] if square else _shared(maps[i][1], maps[j][1]))
        one, two = (
            shared[0][which].T @ image @ shared[1][which] for which, image in enumerate(images)
        )  # each (batch, channels, shared, shared)
        if one.size < TOGETHER:
            continue
        far = float(np.max(np.abs(one - two), initial=0.0)) / floor
        if far <= FACTOR:
            found.append((i, j, far))
    return found


def _told_apart(old: Sequence[int], new: Sequence[int]) -> list[tuple[str, Mapping[str, Any]]]:
    """The ways to resize; of an image that is not made smaller antialiasing changes nothing."""
    smaller = any(one > other for one, other in zip(old, new, strict=True))
    return [one for one in METHODS if smaller or not one[1].get("antialias")]


def _sizes(size: int, others: int, height: int, width: int) -> tuple[int, int] | None:
    """The height and width of an image of so many values, if both sides were resized alike; None if none fits."""
    if size % others:
        return None
    area = size // others
    side = round((area * height / width) ** 0.5)
    return (side, area // side) if side and area % side == 0 and side * width == area // side * height else None


def _map(old: int, new: int, settings: Mapping[str, Any]) -> Array:
    """The matrix (new, old) that resizes along one axis."""
    matrix: Array = resize(np.eye(old)[None], output_size=(new,), **settings)[0]
    return matrix


def _outside(matrix: Array) -> Array:
    """The combinations of what a map gives that are zero whatever it is given, (new, combinations)."""
    left, values, _ = np.linalg.svd(matrix)
    return left[:, int(np.sum(values > 1e-8 * values[0])) :]


def _inside(image: Array, outside: list[Array], floor: float) -> bool:
    """Tell whether an image may have been made by a map, along each axis."""
    rows, columns = outside
    over = [rows.T @ image, image @ columns]
    return all(float(np.max(np.abs(one), initial=0.0)) <= FACTOR * floor for one in over)


def _shared(one: Array, two: Array) -> tuple[Array, Array]:
    """Combinations of what two maps give that are equal whatever they are given, (new, combinations) of each."""
    both = np.concatenate([one, -two])  # (2 new, old)
    left, values, _ = np.linalg.svd(both)
    null = left[:, int(np.sum(values > 1e-8 * values[0])) :]
    return null[: len(one)], null[len(one) :]
