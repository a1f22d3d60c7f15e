"""Positions: what both kinds of pairs have in common, and what attention sees of them."""

from __future__ import annotations

import numpy as np

from parity.nn.positions import rotary, sinusoidal_positions

WIDTH = 8
X = np.random.default_rng(0).normal(size=(2, 5, 3, WIDTH))


def test_pairs_of_neighbours_are_pairs_of_halves_in_another_order() -> None:
    order = np.arange(WIDTH).reshape(2, -1).T.ravel()  # 0, 4, 1, 5, ...: the pairs of halves as neighbours
    halves = rotary(X, np.arange(5))
    np.testing.assert_array_equal(rotary(X[..., order], np.arange(5), interleaved=True), halves[..., order])


def test_a_query_and_a_key_see_how_far_apart_they_are_and_no_more() -> None:
    def scores(start: int) -> np.ndarray:
        turned = rotary(X, np.arange(start, start + 5))
        return np.einsum("bqhd,bkhd->bhqk", turned, turned)

    # The angles of 1000 have that many times the roundings of those of 1.
    np.testing.assert_allclose(scores(1000), scores(0), atol=1e-12)


def test_a_position_further_on_is_a_turn_by_as_much() -> None:
    here, there = sinusoidal_positions(np.arange(5), WIDTH), sinusoidal_positions(np.arange(3, 8), WIDTH)
    # The pair of a wave is (sine, cosine): to turn it forwards is to turn (cosine, sine) backwards.
    cosine_first = here.reshape(5, -1, 2)[..., ::-1].reshape(1, 5, 1, WIDTH)
    turned = rotary(cosine_first, np.full(5, 3), interleaved=True).reshape(5, -1, 2)[..., ::-1].reshape(5, WIDTH)
    np.testing.assert_allclose(turned, there, atol=1e-15)


def test_sines_and_cosines_are_the_same_in_either_order() -> None:
    halves = sinusoidal_positions(np.arange(5), WIDTH, interleaved=False)
    pairs = sinusoidal_positions(np.arange(5), WIDTH)
    np.testing.assert_array_equal(np.concatenate([pairs[:, ::2], pairs[:, 1::2]], axis=1), halves)
