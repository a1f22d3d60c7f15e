"""The mistakes in layers that recordings tell by their replay, a file for each family."""

from __future__ import annotations

from parity.mistakes.catalogue.replayed import activations, normalization
from parity.mistakes.layer import LayerMistake

REPLAYED: tuple[LayerMistake, ...] = tuple(
    mistake for family in (activations, normalization) for mistake in family.MISTAKES
)
