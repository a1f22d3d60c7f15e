"""Look into a run of pure JAX functions: an update takes state and batch, and returns the new state and the loss."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.recording.layers import Layer
from parity.typing import Params
from parity.watching.jax_calls import Calls
from parity.watching.jax_layers import Layers
from parity.watching.jax_optax import Part, clipped, described, learning_rate, parts_of
from parity.watching.jax_stir import is_float, moved_tree, stirred, within
from parity.watching.seen import Condition, Told, Update

SLOTS = {"trace": "momentum", "mu": "first_moment", "nu": "second_moment"}
"""Names of optax's slots in the words of ``parity.spec``. Others keep their own."""
COLLECTIONS = ("params", "batch_stats")
"""Flax's words for what holds variables. They say nothing that a parameter's own name does not."""


class JaxWatch:
    """Sees every update that ``step`` is handed. See ``parity.watching.seen.Adapter``.

    The state is one or several trees of arrays, as ``(params, opt_state)`` or flax's TrainState. The arguments of an
    update that have the structure, shapes and dtypes of the state are the state, and so are such results.
    """

    framework = "jax"

    def __init__(self, *state: Any) -> None:
        self._state = tuple(state)
        params = self._sorted(self._trees())[0]
        if not params:
            raise ValueError("the state holds no array of floats: hand over the trees that an update takes and returns")
        kinds = Counter(np.dtype(value.dtype).name for value in params.values())
        self.dtype = kinds.most_common(1)[0][0]
        # Flax keeps running statistics in float32 whatever the parameters are.
        others = [f"{name} ({value.dtype})" for name, value in params.items() if value.dtype != self.dtype]
        self.notes = [f"recorded in the run's {self.dtype}: {', '.join(others)}"] if others else []
        self._layers: list[Layer] = []
        self._trained: set[str] | None = None
        self._parts: list[Part] = []
        self._without_modules = False
        self._wanted: frozenset[int] | None = None
        self._seed: int | None = None
        self._stirred: dict[Any, tuple[Any, Callable[..., Any]]] = {}
        self._updates = 0
        self._loaded = False
        self._looked = False
        # Where an update's state and loss stood before: to look for them takes longer than a small update.
        self._places_of: dict[Any, list[int]] = {}
        self._loss_at: dict[Any, int] = {}

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep = told, deep

    def detach(self) -> None:
        """Nothing was changed."""

    def condition(self) -> Condition:
        params, slots = self._sorted(self._trees())
        return Condition(
            params={name: np.array(value, self.dtype) for name, value in params.items()},
            slots={slot: {name: np.array(value) for name, value in of.items()} for slot, of in slots.items()},
        )

    def buffers(self) -> list[str]:
        # Where flax keeps collections, only one is trained. Elsewhere the first gradients tell.
        leaves = [pair for tree in self._state for pair in _named(tree, _optax_state)]
        collected = {name for name, path, leaf in leaves if "params" in path}
        nnx = sys.modules.get("flax.nnx")
        if nnx is not None:
            every = [pair for tree in self._state for pair in _named(tree, lambda leaf: isinstance(leaf, nnx.Variable))]
            collected |= {name for name, _, leaf in every if isinstance(leaf, nnx.Param)}
        params, slots = self._sorted(self._trees())
        trained = self._trained or collected or {name for of in slots.values() for name in of}
        return [name for name in params if name not in trained] if trained else []

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        return (described(self._parts) if self._parts else {}) | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], *arguments: Any) -> Any:
        places = self._places(arguments)
        given = list(arguments)
        if self._seed is None and not self._loaded:
            self._state = tuple(given[place] for place in places)
        else:
            for place, state in zip(places, self._state, strict=True):
                given[place] = state
        update = Update()
        if self._deep():
            # Before the update itself, which may have been told to take its arguments' memory.
            update.before = self.condition()
            if self._seed is None or not self._looked:
                # It takes its time, so that of the stirred updates beside this one the first is looked into alone.
                self._looked = self._seed is not None
                self._look(update, function, given if self._seed is None else self._moved(given, places))
        if update.before is not None and self._seed is None:
            update.learning_rate = learning_rate(self._parts, self._trees)
        result = function(*given) if self._seed is None else self._run_stirred(function, given, places)
        self._take(update, result)
        if self._seed is None:
            self._loaded = False
        self._told(update)
        return result

    def saved(self) -> Any:
        # Arrays never change, but an update may have been told to take their memory.
        return jax.tree.map(lambda leaf: jnp.array(leaf) if is_float(leaf) else leaf, self._state)

    def go_to(self, saved: Any) -> None:
        self._state = saved

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        self._state, self._loaded = self.saved(), True  # copies, so that no array stands in two places
        own, held = self._sorted(self._state)
        pairs = [(own[name], value) for name, value in params.items()]
        pairs += [(held[slot][name], value) for slot, values in slots.items() for name, value in values.items()]
        given = {id(mine): jnp.asarray(value, mine.dtype) for mine, value in pairs}
        self._state = jax.tree.map(lambda leaf: given.get(id(leaf), leaf), self._state)

    def random(self) -> Any:
        """Random keys are among the arguments of an update."""

    def draw_from(self, state: Any) -> None:
        """Random keys are among the arguments of an update."""

    @contextmanager
    def aside(self, told: Told, seed: int | None = None) -> Iterator[None]:
        state, before = self._state, self._told
        self._told, self._seed = told, seed
        try:
            yield
        finally:
            self._state, self._told, self._seed = state, before, None

    def stir(self) -> None:
        assert self._seed is not None
        self._state = moved_tree(self._state, within(self._seed, 0))

    def _run_stirred(self, function: Callable[..., Any], given: Sequence[Any], places: Sequence[int]) -> Any:
        seed, given = within(self._seed, 1), self._moved(given, places)
        shapes = jax.tree.map(lambda leaf: (np.shape(leaf), getattr(leaf, "dtype", type(leaf))), given)
        known = id(function), str(shapes)
        if known not in self._stirred:
            # With the function, or another could have its id one day.
            self._stirred[known] = function, stirred(function, *given)
        return self._stirred[known][1](seed, *given)

    def _moved(self, given: Sequence[Any], places: Sequence[int]) -> list[Any]:
        """Move what an update is called with, but for the state, which was moved before."""
        seed = within(self._seed, 1)
        return [each if k in places else moved_tree(each, within(seed, k)) for k, each in enumerate(given)]

    def _look(self, update: Update, function: Callable[..., Any], given: Sequence[Any]) -> None:
        """Make the update op by op, and keep what its layers give and its optimizer is given."""
        modules, calls = Layers(), Calls(self._wanted)
        if not self._without_modules:
            copied = self._copied(given)
            with modules.watching(), nnx_watched(modules):
                function(*copied)
            self._without_modules = not modules.found
        seen: Layers | Calls = modules
        if self._without_modules:
            seen, copied = calls, self._copied(given)
            with modules.watching(), calls.watching():
                function(*copied)
            if calls.missed:
                self._wanted = None
                self._look(update, function, given)
                return
            self._wanted = frozenset(calls.used)
        self.notes += [note for note in seen.notes if note not in self.notes]
        update.activations, update.activation_gradients = seen.activations, seen.gradients
        update.prediction = seen.prediction
        if self._seed is None:
            self._layers = seen.found
        places = self._places(given)
        batch = [each for place, each in enumerate(given) if place not in places]
        update.inputs = modules.inputs or [leaf for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
        self._take_gradients(update, modules, calls.of_params[0] if len(calls.of_params) == 1 else None)

    def _take_gradients(self, update: Update, modules: Layers, given_back: Any) -> None:
        """Keep the gradients as the optimizer got them, and as differentiation gave them if something changed them."""
        before = self._gradients_in(modules.of_params if given_back is None else given_back)
        update.gradients = before
        if modules.optimizer is not None:
            transformation, *given_to = modules.optimizer
            self._parts = parts_of(transformation)
            update.gradients = self._gradients_in(clipped(self._parts, *given_to))
        if update.gradients:
            self._trained = set(update.gradients)
        both = [name for name in before if name in update.gradients]
        if any(not np.array_equal(before[name], update.gradients[name]) for name in both):
            update.unclipped = update.gradients | before

    def _gradients_in(self, tree: Any) -> dict[str, Any]:
        """Name what a tree of gradients holds, as far as these are names of parameters."""
        known = self._sorted(self._trees())[0]
        return {} if tree is None else {k: v for k, v in self._sorted((tree,))[0].items() if k in known}

    def _copied(self, given: Sequence[Any]) -> list[Any]:
        """Copy the arguments of an update, which may have been told to take their memory."""
        return [jax.tree.map(lambda leaf: jnp.array(leaf) if is_float(leaf) else leaf, each) for each in given]

    def _take(self, update: Update, result: Any) -> None:
        """Find the new state and the loss among the results, where they were before if those have the same form."""
        results = list(result) if isinstance(result, tuple | list) and not hasattr(result, "_fields") else [result]
        places = self._places(results)
        self._state = tuple(results[place] for place in places)
        rest = [each for place, each in enumerate(results) if place not in places]
        leaves, form = jax.tree.flatten(rest)
        if form not in self._loss_at:
            self._loss_at[form] = loss_at(rest)
        update.loss = leaves[self._loss_at[form]]

    def _trees(self) -> tuple[Any, ...]:
        """What holds the parameters and the optimizer's slots."""
        return self._state

    def _places(self, trees: Sequence[Any]) -> list[int]:
        """Where among the arguments or results of an update the state is."""
        form = tuple(map(jax.tree.structure, trees))
        if form not in self._places_of:
            self._places_of[form] = self._find(trees)
        return self._places_of[form]

    def _find(self, trees: Sequence[Any]) -> list[int]:
        found: list[int] = []
        for state in self._state:
            wanted = _shape(state)
            place = next((k for k, tree in enumerate(trees) if k not in found and _shape(tree) == wanted), None)
            if place is None:
                raise ValueError(
                    "the update takes and returns the state that is watched, as state, loss = step(state, batch), and "
                    f"one of its trees is missing here: {jax.tree.structure(state)!s:.120}"
                )
            found.append(place)
        return found

    def _sorted(self, trees: Sequence[Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Sort the arrays of a state into parameters, and slots by their own name, each by the parameter's name."""
        params: dict[str, Any] = {}
        slots: dict[str, dict[str, Any]] = {}

        def of_optax(tree: Any) -> None:
            if _optax_state(tree) and hasattr(tree, "_fields"):
                for field, value in zip(tree._fields, tree, strict=True):
                    if _optax_state(value) or (isinstance(value, tuple) and not hasattr(value, "dtype")):
                        of_optax(value)
                        continue
                    for name, _, leaf in _named(value):
                        if is_float(leaf) and name:
                            slots.setdefault(SLOTS.get(field, field), {})[name] = leaf
            elif isinstance(tree, tuple | list):
                for value in tree:
                    of_optax(value)
            elif isinstance(tree, Mapping):
                for value in tree.values():
                    of_optax(value)

        for tree in trees:
            for name, _, leaf in _named(tree, _optax_state):
                if _optax_state(leaf):
                    of_optax(leaf)
                elif is_float(leaf) and name:
                    params[name] = leaf
        return params, slots


def nnx_watched(modules: Layers) -> AbstractContextManager[None]:
    """Let ``modules`` know of the calls of nnx modules, too, if anybody has imported nnx."""
    if "flax.nnx" not in sys.modules:
        return nullcontext()
    from parity.watching.jax_nnx_layers import calls_seen

    return calls_seen(modules)


def loss_at(results: Any) -> int:
    """Find the loss among the leaves of what an update returns beside the state: by its name, or the first number."""
    named = jax.tree_util.tree_flatten_with_path(results)[0]
    scalars = [k for k, (_, leaf) in enumerate(named) if is_float(leaf) and leaf.size == 1]
    said = [k for k in scalars if "loss" in jax.tree_util.keystr(named[k][0])] or scalars
    if not said:
        raise ValueError("the update returns no loss: let it return the loss of the batch, after a new state if any")
    return said[0]


def _optax_state(tree: Any) -> bool:
    return isinstance(tree, tuple) and type(tree).__module__.startswith("optax")


def _named(tree: Any, stop: Callable[[Any], bool] = lambda tree: False) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Every leaf of a tree by its name, as in ``Dense_0/kernel``, with the keys that lead there."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=stop)[0]:
        # The value that a variable of nnx holds has no name of its own. A layer may be called so, as in attention.
        path = [key for key in path if not (isinstance(key, jax.tree_util.GetAttrKey) and key.name == "value")]
        parts = tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
        kept = [re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in parts if part not in COLLECTIONS]
        yield "/".join(kept), parts, leaf


def _shape(tree: Any) -> Any:
    """What two trees share of which one is the other after an update, which may widen some of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [np.shape(leaf) for leaf in leaves]
