"""A process in which JAX trains many models lets go of what it compiled for the earlier ones."""

from __future__ import annotations

from unittest import mock

import pytest


def kept(limit: int) -> int:
    """Called where JAX is: how many programs of a function are kept for the next run, with so many mappings allowed."""
    import jax
    import jax.numpy as jnp

    from parity.trainers import jax_trainer

    function = jax.jit(jnp.tanh)
    function(jnp.ones(3))
    with mock.patch.object(jax_trainer, "MAPPINGS", limit):
        jax_trainer.settle("cpu")
    return int(function._cache_size())


@pytest.mark.asks(question=kept, framework="jax")
@pytest.mark.parametrize(("limit", "programs"), [(0, 0), (1 << 30, 1)])
def test_what_was_compiled_is_let_go_of_before_the_system_ends_the_process(
    limit: int, programs: int, answer: int
) -> None:
    """Linux allows a process so many mappings of memory, and a program of XLA's has several."""
    assert answer == programs
