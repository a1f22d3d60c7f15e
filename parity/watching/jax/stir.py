"""Move the rounding errors of a pure JAX function: the outputs of every operation that rounds, by one unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

ROUNDS = frozenset(
    (
        *("dot_general", "conv_general_dilated", "reduce_sum", "reduce_prod", "reduce_window_sum", "cumsum", "cumprod"),
        *("scatter-add", "scatter_add", "select_and_scatter_add", "add_any"),
        *("div", "pow", "sqrt", "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic"),
        *("sin", "cos", "tan", "atan2", "erf", "erfc", "erf_inv", "lgamma", "digamma"),
    )
)
"""The operations whose results differ between frameworks: sums, whose order is free, and functions that are
approximated. A single product or sum of two is rounded alike everywhere, and the state is moved after every update."""
CALLS = ("jaxpr", "call_jaxpr")
"""Where an operation that calls a function keeps it."""
CALLED = frozenset(
    (
        *("pjit", "jit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
        *("custom_jvp_call", "custom_vjp_call"),
    )
)
"""The operations that call a function once. What a loop or a branch calls is left as it is, its results are moved."""
PRIMES = tuple(np.uint32(prime) for prime in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))
"""Large odd numbers, as hashes multiply by."""
LOOPS = frozenset(("scan", "while", "cond"))


def moved(values: Any, seed: Any) -> Any:
    """Move each float by one unit in its last place, up or down; zeros and what is not finite stay.

    Which way is a hash of the seed, of the value and of its place: a few integer operations, which are compiled a
    hundred times as fast as JAX's own random bits.

    Args:
        values: An array of any dtype; what is no float stays as it is.
        seed: uint32 ().

    Returns:
        An array of the same shape and dtype.
    """
    if not is_float(values):
        return values
    places = jax.lax.broadcasted_iota(jnp.uint32, (values.size,), 0).reshape(values.shape)
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    mixed = ((bits ^ places * PRIMES[0]) + seed) * PRIMES[1]
    up = (mixed ^ (mixed >> 15)) * PRIMES[2] >> 31 == 1
    towards = jnp.where(up, jnp.inf, -jnp.inf).astype(values.dtype)
    return jnp.where((values == 0) | ~jnp.isfinite(values), values, jnp.nextafter(values, towards))


def moved_tree(tree: Any, seed: Any) -> Any:
    """Move every float in a tree of arrays; see ``moved``."""
    leaves, shape = jax.tree.flatten(tree)
    places = tuple(k for k, leaf in enumerate(leaves) if is_float(leaf))
    # In one call: op by op, a state of many tensors would take longer to move than to update.
    for k, leaf in zip(places, _moved([leaves[k] for k in places], jnp.uint32(seed), places), strict=True):
        leaves[k] = leaf
    return jax.tree.unflatten(shape, leaves)


@partial(jax.jit, static_argnames="places")
def _moved(leaves: Sequence[Any], seed: Any, places: tuple[int, ...]) -> list[Any]:
    """Move floats, each with the seed of its place."""
    return [moved(leaf, within(seed, k)) for leaf, k in zip(leaves, places, strict=True)]


def within(seed: Any, number: int) -> Any:
    """Give a seed of its own to each of several."""
    return (jnp.uint32(seed) + np.uint32(number + 1)) * PRIMES[0]


def is_float(leaf: Any) -> bool:
    """Say whether a leaf is an array of floats."""
    return isinstance(getattr(leaf, "dtype", None), np.dtype) and jnp.issubdtype(leaf.dtype, jnp.floating)


def stirred(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Make a function that computes what ``function`` does, with every rounding error moved.

    Args:
        function: A pure function of trees of arrays.
        arguments: Such as it is called with. They give shapes and dtypes alone.

    Returns:
        A compiled function of a seed, uint32 (), and of the same arguments.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    structure = jax.tree.structure(shapes)

    def run(seed: Any, *given: Any) -> Any:
        flat = [jnp.asarray(leaf) if not _is_key(leaf) else leaf for leaf in jax.tree.leaves(given)]
        return jax.tree.unflatten(structure, _evaluate(closed.jaxpr, closed.consts, flat, seed))

    compiled: Callable[..., Any] = jax.jit(run)
    return compiled


def _is_key(leaf: Any) -> bool:
    return isinstance(getattr(leaf, "dtype", None), np.dtype) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _evaluate(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], seed: Any) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for number, equation in enumerate(jaxpr.eqns):
        name, here = equation.primitive.name, within(seed, number)
        given = [value(variable) for variable in equation.invars]
        inner = next((equation.params[call] for call in CALLS if call in equation.params), None)
        if name in CALLED and inner is not None:
            body, consts = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())
            results = _evaluate(body, consts, given, here)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, params = bound if isinstance(bound, tuple) else ((), bound)  # of JAX before 0.10 the first
            results = equation.primitive.bind(*functions, *given, **params)
            results = list(results) if equation.primitive.multiple_results else [results]
            if name in ROUNDS or name in LOOPS:
                results = [moved(each, within(here, k)) for k, each in enumerate(results)]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]
