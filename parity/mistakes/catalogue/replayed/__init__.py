"""The mistakes in layers that recordings tell by their replay, a file for each family."""

from __future__ import annotations

from parity.mistakes.catalogue.replayed import (
    activations,
    attention,
    convolution,
    embedding,
    functions,
    gates,
    linear,
    normalization,
    pooling,
    positions,
    recurrent,
    regularization,
    resizing,
)
from parity.mistakes.layer import LayerMistake

FAMILIES = (
    *(activations, normalization, linear, convolution, pooling, resizing),
    *(embedding, positions, regularization, recurrent, attention, gates, functions),
)
REPLAYED: tuple[LayerMistake, ...] = tuple(mistake for family in FAMILIES for mistake in family.MISTAKES)
