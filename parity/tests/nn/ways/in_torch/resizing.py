"""torch's resizing. Channels are the second axis."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from parity.tests.nn.conformance import Asked, Departure, Way
from parity.tests.nn.families.resizing import is_, read_off
from parity.tests.nn.ways.in_torch import first, last

LINEAR = {1: "linear", 2: "bilinear"}


def resize(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    if method == "nearest":
        said = {"mode": "nearest" if places == "corner" else "nearest-exact"}
    else:
        mode = LINEAR[x.ndim - 2] if method == "linear" else "bicubic"
        said = {"mode": mode, "align_corners": places == "aligned", "antialias": antialias}
    return {"output": last(functional.interpolate(first(x), tuple(output_size), **said))}


def places() -> dict[str, Any]:
    return {"places": read_off(functional.interpolate(torch.tensor([[[0.0, 3.0]]]), 4, mode="linear"))}


def of_one_axis(asked: Asked) -> bool:
    blurred = asked.configuration["antialias"] or asked.configuration["method"] == "cubic"
    return blurred and asked.arrays["x"].ndim == 3


def corners(asked: Asked) -> bool:
    other = "aligned" if asked.configuration["method"] == "nearest" else "corner"
    return asked.configuration["places"] == other


def sharp(asked: Asked) -> bool:
    return is_(method="cubic", antialias=False)(asked)


WAYS = (
    Way(
        "resize",
        ("torch.nn.functional.interpolate",),
        resize,
        cannot={
            "corners left out between lines, or aligned for the nearest": corners,
            "a cubic or antialiasing along one axis": of_one_axis,
        },
        departures=(
            Departure(
                "cubic of -0.75",
                "The cubic's coefficient is -0.75; with antialiasing it is -0.5.",
                like={"cubic": -0.75},
                when=sharp,
            ),
            Departure(
                "the border is repeated",
                "Beyond the border the cubic takes the last value again; with antialiasing nothing is there.",
                like={"border": "repeated"},
                when=sharp,
            ),
        ),
        words={"size": "output_size", "mode": "method"},
        measured=places,
    ),
)
