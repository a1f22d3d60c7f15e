"""Look into an update of JAX's, made aside: what its layers give, and what its optimizer is given.

An update that the run compiles is compiled here, too, once: all that is looked for is what the program returns, and the
new state is no part of it, so that the compiler leaves the optimizer's work out. Any other update is made op by op.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parity.recording.layers import Layer
from parity.watching.jax.calls import Calls
from parity.watching.jax.layers import LATER, Layers, traced_in
from parity.watching.jax.optax import Part, clipped, parts_of

BRANCHES = frozenset(("cond", "while"))
"""What decides by numbers, of which there are none yet while a program is traced: layers within are hidden then."""
MOST = 20_000
"""A program of more operations, as a long recurrence without its loop is, takes longer to compile than it spares."""


class Numbers(NamedTuple):
    """The arrays of an update, a tree of JAX."""

    activations: list[Any]
    gradients: list[Any]
    inputs: list[Any]
    """What the outermost module was given; empty if there is none."""
    given_back: Any
    """The tree of gradients that differentiation gave."""
    clipped: Any
    """The tree of gradients that the optimizer proper got; None if they are those, or if no optimizer was seen."""


@dataclass(frozen=True)
class Seen:
    """What an update gave on its way."""

    numbers: Numbers
    activations: tuple[str, ...]
    """Their names, in the order in which the layers ended."""
    gradients: tuple[str, ...]
    """The names of the activations of which these are gradients."""
    predicted: str | None
    """The name of the activation that is the prediction."""
    layers: list[Layer]
    notes: list[str]
    parts: list[Part]
    """What the optimizer chains; empty if none was seen."""
    updates: int
    """How many updates the optimizer made."""


@dataclass
class _Program:
    """An update that is compiled with what it is looked at for."""

    function: Callable[..., Any]
    """The update. It is kept, or another could have its id one day."""
    run: Callable[..., Numbers]
    seen: list[Seen]
    """What was seen while it was traced, with no numbers in it."""


NONE = Numbers([], [], [], None, None)


class Look:
    """Looks into updates, one after the other."""

    def __init__(self) -> None:
        self._without_modules = False
        self._wanted: frozenset[int] | None = None
        self._programs: dict[Hashable, _Program | None] = {}

    def op_by_op(self, function: Callable[..., Any], given: Callable[[], Sequence[Any]]) -> Seen:
        """Make an update op by op.

        Args:
            function: Makes it.
            given: Gives what it is called with, anew each time that it is asked.

        Returns:
            What it gave.
        """
        modules, calls = Layers(), Calls()
        if not self._without_modules:
            with modules.watching(), nnx_watched(modules):
                function(*given())
            self._without_modules = not modules.found
        seen: Layers | Calls = modules
        if self._without_modules:
            seen = calls = self._calls(modules, function, given)
        found = _seen(modules, seen, calls.of_params[0] if len(calls.of_params) == 1 else None)
        modules.forget()
        calls.forget()
        return found

    def compiled(
        self, known: Hashable, function: Callable[..., Any], given: Callable[..., Sequence[Any]], numbers: Sequence[Any]
    ) -> Seen | None:
        """Make an update in one program, which is compiled when it is not known yet.

        Args:
            known: Tells the update and the shapes of its arguments from others.
            function: Makes it.
            given: Makes what it is called with of some numbers.
            numbers: Arrays, and what else may be traced.

        Returns:
            What it gave, none of it in the memory of an argument; None if it cannot be compiled whole.
        """
        if known not in self._programs:
            self._programs[known] = self._program(function, given, numbers)
        program = self._programs[known]
        if program is None:
            return None
        found = program.run(*numbers)
        return replace(program.seen[-1], numbers=found)

    def _calls(self, modules: Layers, function: Callable[..., Any], given: Callable[[], Sequence[Any]]) -> Calls:
        """Look at the functions that an update calls; of another than before, once more for what is wanted of it."""
        calls = Calls(self._wanted)
        with modules.watching(), calls.watching():
            function(*given())
        if calls.missed:
            self._wanted = None
            return self._calls(modules, function, given)
        self._wanted = frozenset(calls.used)
        return calls

    def _program(
        self, function: Callable[..., Any], given: Callable[..., Sequence[Any]], numbers: Sequence[Any]
    ) -> _Program | None:
        kept: list[Seen] = []

        def whole(*numbers: Any) -> Numbers:
            with traced_in(numbers):
                seen = self.op_by_op(function, lambda: given(*numbers))
            kept.append(replace(seen, numbers=NONE))
            # A result that is an argument would lie in its memory, which the run's own update may take.
            found: Numbers = jax.tree.map(jnp.copy, seen.numbers)
            return found

        run = jax.jit(whole)
        try:
            operations = run.trace(*numbers).jaxpr.jaxpr.eqns
        except _untraceable():
            return None
        seen = kept[-1]
        hidden = LATER in seen.notes and any(each.primitive.name in BRANCHES for each in operations)
        held = (value for part in seen.parts for value in part.held.values())
        if hidden or len(operations) > MOST or any(isinstance(value, jax.core.Tracer) for value in held):
            return None
        return _Program(function, run, kept)


def _untraceable() -> tuple[type[Exception], ...]:
    """What is raised where an update asks for a number, as Python's ``if`` does, or changes what lies outside."""
    flax = sys.modules.get("flax.errors")
    return (jax.errors.JAXTypeError, *([flax.TraceContextError] if flax is not None else []))


def is_compiled(function: Callable[..., Any]) -> bool:
    """Say whether a function is one that ``jax.jit``, or nnx's, has made.

    Examples:
        >>> is_compiled(jax.jit(abs)), is_compiled(abs)
        (True, False)
    """
    return hasattr(function, "lower")


def nnx_watched(modules: Layers) -> AbstractContextManager[None]:
    """Let ``modules`` know of the calls of nnx modules, too, if anybody has imported nnx."""
    if "flax.nnx" not in sys.modules:
        return nullcontext()
    from parity.watching.jax.nnx_layers import calls_seen

    return calls_seen(modules)


def identity(function: Callable[..., Any]) -> Hashable:
    """What tells functions apart, also such as a loop makes anew for each update."""
    return getattr(inspect.unwrap(function), "__code__", None) or id(function)


def is_number(leaf: Any) -> bool:
    """Say whether an argument is traced, and no switch as ``train=True`` is, on which code branches."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex) and not isinstance(leaf, bool)


def apart(leaves: Sequence[Any]) -> tuple[list[int], dict[int, Any], Hashable]:
    """Tell the arguments of an update that are traced from those that are fixed.

    Args:
        leaves: The leaves of the arguments.

    Returns:
        The numbers of the leaves that are traced, the other leaves by theirs, and what the update is known by.
    """
    numbers = [k for k, leaf in enumerate(leaves) if is_number(leaf)]
    fixed = {k: leaf for k, leaf in enumerate(leaves) if not is_number(leaf)}
    shapes = [(np.shape(leaves[k]), str(getattr(leaves[k], "dtype", type(leaves[k])))) for k in numbers]
    said = tuple((k, leaf if isinstance(leaf, bool | str) else id(leaf)) for k, leaf in fixed.items())
    return numbers, fixed, (str(shapes), said)


def put_together(form: Any, numbers: Sequence[int], given: Sequence[Any], fixed: Mapping[int, Any]) -> Any:
    """Put arguments together of those that are traced and those that are fixed."""
    every = {**fixed, **dict(zip(numbers, given, strict=True))}
    return jax.tree.unflatten(form, [every[k] for k in range(len(every))])


def _seen(modules: Layers, seen: Layers | Calls, given_back: Any) -> Seen:
    """Sum up what was seen."""
    before, after, parts = modules.of_params if given_back is None else given_back, None, list[Part]()
    if modules.optimizer is not None:
        transformation, *given_to = modules.optimizer
        parts = parts_of(transformation)
        after = clipped(parts, *given_to)
    activations, gradients = seen.activations, seen.gradients
    back, on = [*gradients.values()], None if after is before else after
    return Seen(
        Numbers([*activations.values()], back, list(modules.inputs), before, on),
        tuple(activations),
        tuple(gradients),
        next((name for name, value in activations.items() if value is seen.prediction), None),
        seen.found,
        list(seen.notes),
        parts,
        modules.updates,
    )
