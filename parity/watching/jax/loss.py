"""Find the loss among the numbers that an update returns."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import jax
import numpy as np

from parity.watching.jax.stir import is_float

DIFFERENTIATED = "value_and_grad.<locals>.value_and_grad_f"
"""What ``jax.grad`` and ``jax.value_and_grad`` call."""


def loss_at(results: Any, again: Callable[[], tuple[Any, Sequence[Any]]]) -> int:
    """Find the loss among the leaves of what an update returns beside the state.

    It is the only number there, or the only one that is called ``loss``, or the one that is what ``value_and_grad``
    gave, or the only one in whose name "loss" is.

    Args:
        results: A tree of arrays.
        again: Makes the update aside; returns such results and the values of its differentiations, as
            ``differentiated`` does. It is called if the names do not tell the loss.

    Returns:
        The number of the leaf.

    Raises:
        ValueError: If there is no number, or if several are and none of the above tells.
    """
    named = [(jax.tree_util.keystr(path), path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(results)]
    scalars = [k for k, (_, _, leaf) in enumerate(named) if is_float(leaf) and leaf.size == 1]
    if not scalars:
        raise ValueError(_no_loss([leaf for _, _, leaf in named if is_float(leaf)]))
    called = [k for k in scalars if _last(named[k][1]) == "loss"]
    for only in (scalars, called):
        if len(only) == 1:
            return only[0]
    remade, values = again()
    leaves = jax.tree.leaves(remade)
    for same in (operator.is_, _equal):
        which = [k for k in scalars if any(same(leaves[k], value) for value in values)]
        if which and all(leaves[k] is leaves[which[0]] for k in which):
            return which[0]
    called = [k for k in scalars if "loss" in named[k][0].lower()]
    if len(called) == 1:
        return called[0]
    raise ValueError(
        f"the update returns {len(scalars)} numbers beside its state, and nothing tells which of them is the loss: "
        "none of them alone is what jax.value_and_grad gave in it. Return the loss by its name, as "
        'state, {"loss": loss, "accuracy": accuracy}, or no other number beside it'
    )


def differentiated(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[Any]]:
    """Call a function op by op, and keep the value of each differentiation in it.

    Args:
        function: A function of arrays.
        arguments: What it is called with.

    Returns:
        What it returned, and what ``jax.value_and_grad`` gave for values.
    """
    values: list[Any] = []

    def seen(frame: FrameType, event: str, result: Any) -> None:
        if event == "return" and frame.f_code.co_qualname == DIFFERENTIATED and result is not None:
            values.append(jax.tree.leaves(result[0])[0])

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        with jax.disable_jit():
            found = function(*arguments)
    finally:
        sys.setprofile(before)
    return found, [value for value in values if not isinstance(value, jax.core.Tracer)]


def _equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other))


def _last(path: Sequence[Any]) -> Any:
    return getattr(path[-1], "key", getattr(path[-1], "name", None)) if path else None


def _no_loss(floats: Sequence[Any]) -> str:
    said = "the update returns no loss: let it return the loss of the batch, after a new state if any"
    if not floats:
        return said
    return (
        f"{said}. It returns floats of shape {tuple(floats[0].shape)}: if these are the losses of several updates, as "
        "jax.lax.scan stacks them, hand run.step the function of one update, as state, loss = run.step(step, state, "
        "batch) in a loop over the batches; if they are the losses of a batch's rows, return their mean"
    )
