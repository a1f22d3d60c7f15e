"""Say what a mistake in a layer is: a wrong function of the call of a layer that is right.

Such a mistake is replayed on what a recording has of a layer: its kind, settings, parameters, what it took and what it
gave. A number that the mistake leaves open, as an epsilon, is fitted to what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from parity.nn.layers import Call, compute
from parity.recording.steps import Phase
from parity.typing import Array


@dataclass(frozen=True)
class Made:
    """What a mistake makes of a call.

    Attributes:
        output: What the layer gives, channels last.
        said: The number that was fitted, in words; empty if there is none.
    """

    output: Array
    said: str = ""


Wrong = Callable[[Call, Array], Iterable[Made]]
"""``(call, seen)``, a right call and an output that was seen of another one, to what the mistake may make of the call.

A mistake that is made in several ways makes several; those with rounder numbers come first. It makes none if the call
gives no occasion for it.
"""


@dataclass(frozen=True, kw_only=True)
class LayerMistake:
    """A named porting mistake in a layer, that recordings tell by its replay.

    Attributes:
        name: Its name.
        kinds: The kinds of layers that give occasion for it, in the words of ``parity.nn.configuration``.
        sentence: The mistake in one sentence.
        reference: An issue, a document or a library's own page that shows people making it.
        wrong: The mistake as a function of a right call and of what was seen.
        phase: Where a walk from shared states first sees it.
    """

    name: str
    kinds: tuple[str, ...]
    sentence: str
    reference: str
    wrong: Wrong
    phase: Phase = Phase.PREDICTION


def calls(change: Callable[[Call], Iterable[Call]]) -> Wrong:
    """Make a mistake of other calls: another kind, other settings, other parameters.

    Args:
        change: The right call to the wrong ones.

    Returns:
        What each of them gives.

    Examples:
        >>> relu_missing = calls(lambda call: [Call(kind="identity", inputs=call.inputs)])
        >>> x = np.array([-1.0, 1.0])
        >>> [made.output.tolist() for made in relu_missing(Call(kind="relu", inputs=(x,)), x)]
        [[-1.0, 1.0]]
    """

    def wrong(call: Call, seen: Array) -> Iterator[Made]:
        for one in change(call):
            yield Made(compute(one))

    return wrong


def becomes(kind: str, **settings: object) -> Wrong:
    """Make a mistake of another kind of layer on the same inputs and parameters, with more settings."""
    return calls(lambda call: [Call(kind=kind, settings=settings, inputs=call.inputs, params=call.params)])


def rounder(number: float) -> list[float]:
    """Give a number that was fitted, after the rounder ones that it may stand for.

    Args:
        number: Any number.

    Returns:
        It, rounded to one, two, three and six digits, and as it is; each once.

    Examples:
        >>> rounder(0.0010002)
        [0.001, 0.0010002]
    """
    found = [float(f"{number:.{digits}e}") for digits in (0, 1, 2, 5)]
    return list(dict.fromkeys((*found, float(number))))


def fitted(number: float | None, right: float | None, word: str, make: Callable[[float], Array]) -> Iterator[Made]:
    """Make what a number that was fitted gives, and say it.

    Args:
        number: The number; None or what is not finite makes nothing.
        right: The number of the right call; None if it has none.
        word: What the number is called.
        make: The number to the output.

    Yields:
        The outputs, those of rounder numbers first.
    """
    if number is None or not np.isfinite(number):
        return
    for one in rounder(number):
        against = "" if right is None else f" for {right:.6g}"
        yield Made(make(one), f"{word} {one:.6g}{against}")
