"""What is known of a mistake that a port can make."""

from __future__ import annotations

from dataclasses import dataclass, field

from parity.recording.steps import Phase

ALL = ("torch", "linen", "nnx", "keras")
PORTED = ALL[1:]
BY_HAND = ("torch", "keras")
"""Where the step is a loop of the user's own, or a layer is a class that they can change."""


@dataclass(frozen=True)
class Mistake:
    """A mistake of one model, and where it shows first.

    Attributes:
        name: The port's argument.
        model: Whose.
        phase: The part of an update that differs first.
        layers: The layer or parameter that differs first, as each framework calls it; a part of its name.
        update: The update that differs first, from 0.
        frameworks: The ports that can make it.
        about: What is wrong.
        cause: A pattern of what the explanation says of the cause; empty if recordings cannot tell it.
    """

    name: str
    model: str
    phase: Phase
    layers: dict[str, str] = field(hash=False)
    about: str
    update: int = 0
    frameworks: tuple[str, ...] = ALL
    cause: str = ""


def named(torch: str, linen: str, nnx: str, keras: str) -> dict[str, str]:
    """What each framework calls a layer; a part of its name."""
    return {"torch": torch, "linen": linen, "nnx": nnx, "keras": keras}


ANY = named("", "", "", "")
"""The mistake is of no layer of its own."""
