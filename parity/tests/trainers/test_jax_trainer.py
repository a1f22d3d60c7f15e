"""A process in which JAX trains many models lets go of what it compiled for the earlier ones."""

from __future__ import annotations

from unittest import mock

import numpy as np
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


def losses_of(rows: int) -> list[float]:
    """Called where JAX is: the losses of class 0 with probabilities between 0 and 1, compiled as in a run."""
    import jax
    import numpy as np

    from parity.trainers.jax_trainer import binary_crossentropy

    p = np.linspace(0, 1, rows + 2)[1:-1]
    found = jax.jit(binary_crossentropy)(p, np.zeros_like(p))
    assert found.dtype == np.float64
    return [float(loss) for loss in found]


@pytest.mark.asks(question=losses_of, framework="jax", rows=2001)
def test_the_loss_of_a_probability_is_right_to_the_last_places(answer: list[float]) -> None:
    """Where XLA's own log1p is not."""
    right = -np.log1p(-np.linspace(0, 1, len(answer) + 2)[1:-1])
    units = np.abs(answer - right) / np.spacing(right)
    assert units.max() <= 3, f"{units.max():.0f} units in the last place, at {np.argmax(units)} of {len(answer)}"


@pytest.mark.asks(question=kept, framework="jax")
@pytest.mark.parametrize(("limit", "programs"), [(0, 0), (1 << 30, 1)])
def test_what_was_compiled_is_let_go_of_before_the_system_ends_the_process(
    limit: int, programs: int, answer: int
) -> None:
    """Linux allows a process so many mappings of memory, and a program of XLA's has several."""
    assert answer == programs
