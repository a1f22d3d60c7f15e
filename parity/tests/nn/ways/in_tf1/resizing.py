"""TensorFlow's resizing: TF1's functions, and the one of TF2. All but the nearest value is float32."""

from __future__ import annotations

from typing import Any

import tensorflow as tf2
import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.resizing import TABLE, flat, is_

METHODS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
OLD = {"nearest": "nearest_neighbor", "linear": "bilinear", "cubic": "bicubic"}


def of_tf1(method: str) -> Any:
    def resize(x: Any, *, output_size: Any, places: str, **others: Any) -> dict[str, Any]:
        function = getattr(tf.image, f"resize_{OLD[method]}")
        said = {"align_corners": places == "aligned", "half_pixel_centers": places == "half"}
        return {"output": function(x, output_size, **said)}

    return resize


def of_tf2(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    return {"output": tf2.image.resize(x, output_size, METHODS[method], antialias=antialias)}


def others(method: str) -> Any:
    return lambda asked: asked.configuration["method"] != method


def way(method: str, *departures: Departure) -> Way:
    return Way(
        "resize",
        (f"tensorflow.compat.v1.image.resize_{OLD[method]}",),
        of_tf1(method),
        {"one axis": flat, "other methods": others(method)}
        | ({} if method == "nearest" else {"antialiasing": is_(antialias=True)}),
        departures,
        words={"size": "output_size"},
        # Neither of its two words is said, and that is the place of the corner.
        measured=lambda: {"places": "corner"},
        dtype="float32",
    )


def old_cubic(asked: Any) -> bool:
    return asked.configuration["places"] != "half"


WAYS = (
    way("nearest"),
    way("linear"),
    way(
        "cubic",
        Departure(
            "cubic of -0.75",
            "Without half pixels the cubic's coefficient is -0.75.",
            like={"cubic": -0.75},
            when=old_cubic,
        ),
        Departure(
            "the border is repeated",
            "Without half pixels, beyond the border the cubic takes the last value again.",
            like={"border": "repeated"},
            when=old_cubic,
        ),
        TABLE,
    ),
    Way(
        "resize",
        ("tensorflow.image.resize",),
        of_tf2,
        {"one axis": flat, "aligned corners": is_(places="aligned"), "half pixels left out": is_(places="corner")},
        (TABLE,),
        words={"size": "output_size"},
        measured=lambda: {"places": "half"},
        dtype="float32",
    ),
)
