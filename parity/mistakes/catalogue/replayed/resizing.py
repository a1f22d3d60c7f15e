"""Mistakes in resizing: where the input is read, and what is made of the values around that place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.layers import Call, compute
from parity.typing import Array

CUBICS = (-0.5, -0.75, -1.0)
"""The coefficients with which cubics are written."""


def lines(call: Call) -> bool:
    return call.settings["method"] != "nearest"


def moved(now: str, places: str) -> Callable[[Call], list[Call]]:
    """Read at other places, if the right ones are these."""

    def change(call: Call) -> list[Call]:
        return [call.set(places=places)] if lines(call) and call.settings.get("places", "half") == now else []

    return change


def nearest(call: Call) -> list[Call]:
    return [call.set(method="nearest", places=places) for places in ("half", "corner")] if lines(call) else []


def blurred(call: Call) -> list[Call]:
    """With antialiasing, or without, where the output is smaller. torch's cubic is another one then."""
    sizes = zip(call.settings["output_size"], call.x.shape[1:-1], strict=True)
    if not lines(call) or all(new >= old for new, old in sizes):
        return []
    if call.settings.get("antialias"):
        return [call.set(antialias=False, cubic=a, border=b) for a, b in ((-0.5, "renormalized"), (-0.75, "repeated"))]
    return [call.set(antialias=True, cubic=-0.5, border="renormalized")]


def other_cubic(call: Call, seen: Array) -> Iterator[Made]:
    if call.settings["method"] == "cubic" and not call.settings.get("antialias"):
        now = call.settings.get("cubic", -0.5)
        for cubic in (one for one in CUBICS if one != now):
            for border in ("renormalized", "repeated"):
                yield Made(compute(call.set(cubic=cubic, border=border)), f"{cubic:g} for {now:g}")


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="corners-aligned-in-a-resize",
        kinds=("upsample",),
        sentence="A resize aligns the corners of input and output, which it should not.",
        reference="xinntao/EDVR#133; huaifeng1993/DFANet#8",
        wrong=calls(moved("half", "aligned")),
    ),
    LayerMistake(
        name="corners-not-aligned-in-a-resize",
        kinds=("upsample",),
        sentence="A resize does not align the corners of input and output, which it should.",
        reference="intel/webml-polyfill#400; xinntao/EDVR#133",
        wrong=calls(moved("aligned", "half")),
    ),
    LayerMistake(
        name="half-pixels-left-out-of-a-resize",
        kinds=("upsample",),
        sentence="A resize reads the input at i n / m instead of (i + ½) n / m - ½, as TF1 without half_pixel_centers.",
        reference="pytorch/pytorch#10604; onnx/tensorflow-onnx#914",
        wrong=calls(moved("half", "corner")),
    ),
    LayerMistake(
        name="nearest-for-bilinear",
        kinds=("upsample",),
        sentence="A resize takes the nearest value instead of what lies between several.",
        reference="onnx/onnx-tensorflow#416; MingiJi/FRSKD#9",
        wrong=calls(nearest),
    ),
    LayerMistake(
        name="another-antialiasing",
        kinds=("upsample",),
        sentence="A resize to fewer values is antialiased, as JAX's is by default, or is not where it should be.",
        reference="sayakpaul/cmmd-pytorch#4; pytorch/vision#2950",
        wrong=calls(blurred),
    ),
    LayerMistake(
        name="another-cubic",
        kinds=("upsample",),
        sentence="A bicubic resize has another coefficient: -0.75 is torch's, -0.5 TensorFlow's and JAX's.",
        reference="Blaizzy/mlx-vlm#1241",
        wrong=other_cubic,
    ),
)
