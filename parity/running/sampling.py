"""Text from a model that predicts the next character: the same characters in every framework.

No framework draws anything. NumPy draws a uniform for each character, and maps it to a character by the cumulative
distribution, which it computes from the logits in float64. Frameworks whose logits agree to a rounding error pick the
same character, unless the uniform falls within that error of a bound between two characters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity.typing import Array


def check(alphabet: str, prime: str, length: int, temperature: float) -> None:
    """Refuse a request for text that cannot be met: ValueError."""
    if not alphabet:
        raise ValueError("this case writes no text: its spec gives no alphabet")
    if not prime:
        raise ValueError("a text needs at least one character to begin with")
    outside = sorted(set(prime) - set(alphabet))
    if outside:
        raise ValueError(f"{outside[0]!r} is not in the case's alphabet of {len(alphabet)} characters")
    if length < 0:
        raise ValueError(f"a text cannot go on for {length} characters")
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature must be a positive number, not {temperature}")


def sample(
    predict: Callable[[Array], Array], alphabet: str, prime: str, length: int, temperature: float, seed: int
) -> str:
    """Continue ``prime`` by ``length`` characters, drawn with ``RandomState(seed)``. ValueError as in ``check``.

    ``predict`` maps classes (T,) int64 to logits (T, classes) of the class after each. T is always the length of the
    whole text, with zeros for the characters still to come: no logit depends on a later character, and one shape is
    compiled once. A temperature below 1 sharpens the distribution, one above 1 flattens it.
    """
    check(alphabet, prime, length, temperature)
    uniforms = np.random.RandomState(seed).random_sample(length)
    text = np.zeros(len(prime) + length, np.int64)
    text[: len(prime)] = [alphabet.index(character) for character in prime]
    for place, uniform in enumerate(uniforms, len(prime)):
        logits = predict(text)[place - 1].astype(np.float64) / temperature
        cumulative = np.cumsum(np.exp(logits - logits.max()))
        chosen = np.searchsorted(cumulative, uniform * cumulative[-1], "right")
        text[place] = min(int(chosen), len(cumulative) - 1)  # the product may round up to the last bound
    return "".join(alphabet[character] for character in text)
