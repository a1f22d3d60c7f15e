"""See the layers of a flax module, and the gradients that an optax optimizer gets, in an update that is made aside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.recording.layers import Layer
from parity.watching.flow import Call, Flow, as_plain, base_of
from parity.watching.jax.optax import clips
from parity.watching.jax.stir import is_float

LATER = "what jax.checkpoint and the like compute later has no layers here"


class Layers:
    """What an update gives on its way, op by op and not compiled, while ``watching`` lasts.

    Under ``jax.disable_jit`` the forward rule of a function with its own derivative is given numbers, even where JAX
    differentiates, and its backward rule the numbers that come back. So an identity with such rules tells both.
    """

    def __init__(self) -> None:
        self.activations: dict[str, Any] = {}
        self.gradients: dict[str, Any] = {}
        self.flow = Flow(self.tap)
        self.notes: dict[str, None] = {}
        self.prediction: Any = None
        self.inputs: list[Any] = []
        self.of_params: Any = None
        """The tree of gradients that the optimizer was given."""
        self.optimizer: tuple[Any, ...] | None = None
        """The transformation that trains, what it was given for gradients, its state, and the parameters."""
        self._within = 0
        """How many calls of modules have not ended: a module that is applied within another, as a tied head is, has no
        path either."""
        self.updates = 0
        """How many updates that transformation made of these parameters while ``watching`` lasted."""

    @property
    def found(self) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return [layer for layer in self.flow.found if all(name in self.activations for name in layer.outputs)]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all that is called, in flax and of optax."""
        self.updates = 0
        with ExitStack() as stack:
            stack.enter_context(jax.disable_jit())
            linen = sys.modules.get("flax.linen")
            if linen is not None:
                stack.enter_context(linen.intercept_methods(self._linen))
            optax = sys.modules.get("optax")
            if optax is not None:
                stack.enter_context(self._optax(optax))
            yield

    def forget(self) -> None:
        """Let go of all numbers: what points here is freed by the garbage collector alone, when it comes."""
        self.activations.clear()
        self.gradients.clear()
        self.flow.close()
        self.inputs, self.of_params, self.optimizer, self.prediction = [], None, None, None

    def tap(self, tensor: Any, name: str) -> Any:
        """Keep a tensor's numbers, and those of its gradient, under a name. Returns the tensor."""

        if inside(tensor)[0] is None:
            self.notes[LATER] = None
            return tensor

        return tapped(tensor, name, self.activations, self.gradients, always=True)

    def _linen(self, following: Callable[..., Any], arguments: Any, named: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return following(*arguments, **named)
        module, path = context.module, context.module.path
        alone = not any(True for _ in module.variables.get("params", {}).values() if isinstance(_, Mapping))
        whole = not path and not self._within
        if whole:
            self.inputs += [
                x for x in jax.tree.leaves((arguments, named)) if hasattr(x, "dtype") and hasattr(x, "shape")
            ]
        name = "/".join(path) or type(module).__name__
        call = self.flow.call(name, leaf=alone and not whole)
        self._within += 1
        try:
            output = through(call, following, arguments, named)
        finally:
            self._within -= 1
        if whole:
            self.predicted(call)
        call.end(type(module).__name__, configuration(module) | base_of(type(module)))
        return output

    def predicted(self, call: Call) -> None:
        """Take what a call gave for the model's prediction."""
        self.prediction = next((self.activations[name] for name in call.outputs if name in self.activations), None)

    @contextmanager
    def _optax(self, optax: Any) -> Iterator[None]:
        """See what the outermost transformation is given: those within it were taken out of their tuples before."""
        kind, multiple = optax.GradientTransformation, optax.MultiSteps  # the second calls one of the first
        original, accumulated = kind.update, multiple.update

        def given(transformation: Any, updates: Any, state: Any, params: Any) -> None:
            if self.of_params is None:
                self.of_params = updates
            if self.optimizer is None or clips(self.optimizer[0]):
                self.optimizer, self.updates = (transformation, updates, state, params), 0
            form = jax.tree.structure(updates)
            self.updates += transformation is self.optimizer[0] and form == jax.tree.structure(self.optimizer[1])

        def update(transformation: Any) -> Callable[..., Any]:
            def seen(updates: Any, state: Any, params: Any = None, **named: Any) -> Any:
                given(transformation, updates, state, params)
                return _updated(tuple.__getitem__(transformation, 1), updates, state, params, **named)

            return seen

        def accumulating(self: Any, updates: Any, state: Any, params: Any = None, **named: Any) -> Any:
            given(self, updates, state, params)
            return accumulated(self, updates, state, params, **named)

        kind.update, multiple.update = property(update), accumulating
        try:
            yield
        finally:
            kind.update, multiple.update = original, accumulated


def _updated(update: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Make the update of an optimizer, in which no layer is, compiled if it can be.

    Op by op it would take longer than the model, and optax's powers of a count would be compiled anew for each count.
    """
    leaves = jax.tree.leaves((given, named))
    if any(isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array) for leaf in leaves):
        return update(*given, **named)
    try:
        with jax.disable_jit(False):
            return jax.jit(update)(*given, **named)
    except jax.errors.JAXTypeError:  # it asks for a number, as Python's if does
        return update(*given, **named)


def tapped(tensor: Any, name: Hashable, values: dict[Any, Any], gradients: dict[Any, Any], always: bool = False) -> Any:
    """Keep a tensor's numbers in ``values``, and in ``gradients`` those of its gradient, where one goes through it.

    ``always`` keeps its numbers where none does, too. Returns the tensor.
    """
    if not inside(tensor)[1]:
        if always:
            values[name] = numbers_of(tensor)
        return tensor

    def forward(x: Any) -> tuple[Any, None]:
        values[name] = numbers_of(x)
        return x, None

    def backward(_: None, gradient: Any) -> tuple[Any]:
        gradients[name] = numbers_of(gradient)
        return (gradient,)

    identity = jax.custom_vjp(lambda x: forward(x)[0])
    identity.defvjp(forward, backward)
    return identity(tensor)


@contextmanager
def traced_in(numbers: Any) -> Iterator[None]:
    """Take the tracers of the program that is traced for numbers: it computes them, and can return them."""
    leaves = jax.tree.leaves(numbers)
    _programs.append(next((leaf._trace for leaf in leaves if isinstance(leaf, jax.core.Tracer)), None))
    try:
        yield
    finally:
        _programs.pop()


_programs: list[Any] = []
"""The traces of the programs that are looked into."""


def inside(tensor: Any) -> tuple[Any, bool]:
    """What a tracer stands for, or None if it is traced now and computed later; and whether it is differentiated."""
    differentiated = False
    while isinstance(tensor, jax.core.Tracer):
        if hasattr(tensor, "batch_dim"):  # of jax.vmap
            tensor = tensor.val
        elif hasattr(tensor, "primal"):
            tensor, differentiated = tensor.primal, True
        else:
            ours = bool(_programs) and getattr(tensor, "_trace", None) is _programs[-1]
            return (tensor if ours else None), differentiated
    return tensor, differentiated


def numbers_of(tensor: Any) -> Any:
    """The numbers behind a tracer; an axis that ``jax.vmap`` took away comes first."""
    if hasattr(tensor, "batch_dim"):
        found = numbers_of(tensor.val)
        return found if tensor.batch_dim is None else jnp.moveaxis(found, tensor.batch_dim, 0)
    return numbers_of(tensor.primal) if hasattr(tensor, "primal") else tensor


def through(call: Call, following: Callable[..., Any], arguments: Any, named: Any) -> Any:
    """Make a call of a layer, and note the tensors of floats that it takes and gives."""

    def taken(leaf: Any) -> Any:
        return call.taken(leaf) if is_float(leaf) else leaf

    def given(leaf: Any) -> Any:
        return call.given(leaf) if is_float(leaf) else leaf

    arguments, named = jax.tree.map(taken, (arguments, named))
    return jax.tree.map(given, following(*arguments, **named))


def configuration(module: Any) -> dict[str, Any]:
    """Say how a flax module is set: every field that is a plain value."""
    if not is_dataclass(module):
        return {}
    found = {}
    for field in fields(module):
        value = as_plain(getattr(module, field.name, None), name_of)
        if field.name not in ("name", "parent") and value is not None:
            found[field.name] = value
    return found


def name_of(value: Any) -> str | None:
    """The name of a dtype or of a function, as an initializer is."""
    if isinstance(value, np.dtype):
        return str(value)
    return getattr(value, "__name__", None) if callable(value) else None
