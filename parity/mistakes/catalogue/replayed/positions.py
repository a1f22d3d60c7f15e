"""Mistakes in the sines and cosines that tell positions, where they are added to an embedding."""

from __future__ import annotations

from collections.abc import Callable

from parity.mistakes.layer import LayerMistake, calls
from parity.nn.layers import Call


def interleaved(now: bool) -> Callable[[Call], list[Call]]:
    """The other order of sines and cosines, if the right one is this."""
    return lambda call: [call.set(interleaved=not now)] if call.settings.get("interleaved", True) is now else []


def begun(call: Call) -> list[Call]:
    """Counted from another place."""
    start = call.settings.get("start", 0)
    return [call.set(start=place) for place in (0, 1, 2) if place != start]


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="sines-before-cosines",
        kinds=("positions",),
        sentence="Sinusoidal positions have all sines before all cosines instead of both in turn.",
        reference="tensorflow/tensor2tensor#391; tatp22/multidim-positional-encoding#20",
        wrong=calls(interleaved(True)),
    ),
    LayerMistake(
        name="sines-and-cosines-in-turn",
        kinds=("positions",),
        sentence="Sinusoidal positions have sines and cosines in turn instead of all sines first.",
        reference="tensorflow/tensor2tensor#391; tensorflow/tensor2tensor#1925",
        wrong=calls(interleaved(False)),
    ),
    LayerMistake(
        name="positions-begin-elsewhere",
        kinds=("positions",),
        sentence="Sinusoidal positions are counted from another number, 1 for 0.",
        reference="facebookresearch/fairseq#1177; huggingface/transformers#20761",
        wrong=calls(begun),
    ),
)
