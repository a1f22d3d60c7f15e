"""Look into a run of pure JAX functions: an update takes state and batch, and returns the new state and the loss."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.recording.layers import Layer
from parity.typing import Params
from parity.watching.jax.look import Look, Seen, apart, identity, is_compiled, put_together
from parity.watching.jax.loss import differentiated, loss_at
from parity.watching.jax.optax import Part, described, learning_rate, unknown_rate
from parity.watching.jax.places import Place, at, besides, places_of, put
from parity.watching.jax.state import named_alike, sort
from parity.watching.jax.stir import moved_tree, stirred, within
from parity.watching.seen import Condition, Told, Update


class JaxWatch:
    """Sees every update that ``step`` is handed. See ``parity.watching.seen.Adapter``.

    The state is one or several trees of arrays, as ``(params, opt_state)`` or flax's TrainState. The arguments of an
    update that have the structure, shapes and dtypes of the state are the state, and so are such results. They may lie
    in a tuple with others, as ``(params, opt_state)`` does.
    """

    framework = "jax"
    usage = "hand each update to step, as state, loss = run.step(step, state, batch)"

    def __init__(self, *state: Any) -> None:
        self._state = tuple(state)
        params = sort(self._trees()).params
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
        self._into = Look()
        self._seed: int | None = None
        self._stirred: dict[Any, tuple[Any, Callable[..., Any]]] = {}
        self._updates = 0
        self._loaded = False
        self._looked = False
        # Where an update's state and loss stood before: to look for them takes longer than a small update.
        self._places_of: dict[Any, list[Place]] = {}
        self._loss_at: dict[Any, int] = {}
        self._called: dict[Any, tuple[Any, Callable[..., Any]]] = {}
        self._followed = False
        # What a shadow is called with, if the function takes the memory of its arguments.
        self._takes: dict[Any, bool] = {}
        self._given: list[Any] | None = None

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep = told, deep

    def detach(self) -> None:
        """Nothing was changed."""

    def condition(self) -> Condition:
        state = sort(self._trees())
        return Condition(
            params={name: np.array(value, self.dtype) for name, value in state.params.items()},
            slots={slot: {name: np.array(value) for name, value in of.items()} for slot, of in state.slots.items()},
        )

    def buffers(self) -> list[str]:
        # Where flax keeps collections, only one is trained. Elsewhere the first gradients tell.
        state = sort(self._trees())
        trained = self._trained or state.collected or {name for of in state.slots.values() for name in of}
        return [name for name in state.params if name not in trained] if trained else []

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        return (described(self._parts) if self._parts else {}) | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        function, arguments = self._by_position(function, arguments, named)
        places = self._places(arguments)
        if self._seed is None and not self._loaded:
            self._state = tuple(at(arguments, place) for place in places)
            given = list(arguments)
        else:
            known = arguments if self._seed is None or self._given is None else self._given
            given = put(known, dict(zip(places, self._state, strict=True)))
        update = Update()
        if self._deep():
            # Before the update itself, which may have been told to take its arguments' memory.
            update.before = self.condition()
            if self._seed is None or not self._looked:
                # It takes its time, so that of the stirred updates beside this one the first is looked into alone.
                self._looked = self._seed is not None
                self._look(update, function, given if self._seed is None else self._moved(given, places))
        if update.before is not None and self._seed is None:
            update.learning_rate = self._rate()
        result = (
            self._run(function, given, places) if self._seed is None else self._run_stirred(function, given, places)
        )
        self._take(update, result, function, given)
        if self._seed is None:
            self._loaded = False
        self._told(update)
        return result

    def saved(self) -> Any:
        # Arrays never change, but an update may have been told to take their memory.
        return _copied(self._state)

    def go_to(self, saved: Any) -> None:
        self._state = saved

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        self._state, self._loaded = self.saved(), True  # copies, so that no array stands in two places
        own = sort(self._state)
        pairs = [(own.params[name], value) for name, value in params.items()]
        pairs += [(own.slots[slot][name], value) for slot, values in slots.items() for name, value in values.items()]
        given = {id(mine): jnp.asarray(value, mine.dtype) for mine, value in pairs}
        self._state = jax.tree.map(lambda leaf: given.get(id(leaf), leaf), self._state)

    def random(self) -> Any:
        """Random keys are among the arguments of an update. It is asked for shadows alone."""
        self._followed = True

    def drawing(self) -> bytes | None:
        """Random keys are among the arguments of an update."""
        return None

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

    def _by_position(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Make named arguments positional: a function of all, and what it is called with."""
        if not named:
            return function, arguments
        names, count = tuple(named), len(arguments)
        known = identity(function), names, count
        if known not in self._called or self._called[known][0] is not function:

            @functools.wraps(function)
            def called(*every: Any) -> Any:
                return function(*every[:count], **dict(zip(names, every[count:], strict=True)))

            self._called[known] = function, called
        return self._called[known][1], (*arguments, *named.values())

    def _run(self, function: Callable[..., Any], given: Sequence[Any], places: Sequence[Place]) -> Any:
        """Make the run's own update; keep what shadows are called with if it takes the memory of its batch."""
        self._given, known = None, identity(function)
        if self._followed and self._takes.get(known, True):
            self._given = _copied(besides(given, places))
        result = function(*given)
        if self._given is not None and known not in self._takes:
            self._takes[known] = any(map(_is_gone, jax.tree.leaves(besides(given, places))))
        return result

    def _run_stirred(self, function: Callable[..., Any], given: Sequence[Any], places: Sequence[Place]) -> Any:
        leaves, form = jax.tree.flatten(self._moved(given, places))
        numbers, fixed, said = apart(leaves)
        known = id(function), form, said
        if known not in self._stirred:

            def called(*moved: Any) -> Any:
                return function(*put_together(form, numbers, moved, fixed))

            # With the function, or another could have its id one day.
            self._stirred[known] = function, stirred(called, *(leaves[k] for k in numbers))
        return self._stirred[known][1](within(self._of_shadow, 1), *(leaves[k] for k in numbers))

    @property
    def _of_shadow(self) -> int:
        assert self._seed is not None
        return self._seed

    def _moved(self, given: Sequence[Any], places: Sequence[Place]) -> list[Any]:
        """Move what an update is called with, but for the state, which was moved before."""
        seed = within(self._of_shadow, 1)
        moved = [moved_tree(each, within(seed, k)) for k, each in enumerate(besides(given, places))]
        return put(moved, {place: at(given, place) for place in places})

    def _rate(self) -> float | None:
        """Say the learning rate of the update that comes, or note that the optimizer tells none."""
        rate = learning_rate(self._parts, self._trees)
        if rate is None and self._parts:
            self._note(unknown_rate(self._parts))
        return rate

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _look(self, update: Update, function: Callable[..., Any], given: Sequence[Any]) -> None:
        """Make the update aside, and keep what its layers give and its optimizer is given."""
        seen = self._seen_whole(function, given) if is_compiled(self._own(function)) else None
        if seen is None:
            seen = self._into.op_by_op(function, lambda: self._copied(given))
        if seen.updates > 1:
            raise ValueError(
                f"step takes a function that makes one update of what is watched, and this one made {seen.updates}: "
                "where jax.lax.scan makes several, hand run.step the function of one, in a loop over the batches"
            )
        for note in seen.notes:
            self._note(note)
        numbers = seen.numbers
        update.activations = dict(zip(seen.activations, numbers.activations, strict=True))
        update.activation_gradients = dict(zip(seen.gradients, numbers.gradients, strict=True))
        update.prediction = update.activations[seen.predicted] if seen.predicted is not None else None
        if self._seed is None:
            self._layers = seen.layers
        update.inputs = numbers.inputs or [leaf for leaf in jax.tree.leaves(self._batch_of(given)) if np.ndim(leaf)]
        self._take_gradients(update, seen)

    def _seen_whole(self, function: Callable[..., Any], given: Sequence[Any]) -> Seen | None:
        """Look into an update in one compiled program, or give None."""
        leaves, form = jax.tree.flatten(list(given))
        numbers, fixed, said = apart(leaves)

        def made(*traced: Any) -> Sequence[Any]:
            every: Sequence[Any] = put_together(form, numbers, traced, fixed)
            return every

        return self._into.compiled((id(function), form, said), function, made, [leaves[k] for k in numbers])

    def _take_gradients(self, update: Update, seen: Seen) -> None:
        """Keep the gradients as the optimizer got them, and as differentiation gave them if something changed them."""
        before = update.gradients = self._gradients_in(seen.numbers.given_back)
        self._parts = seen.parts or self._parts
        if seen.numbers.clipped is not None:
            update.gradients = self._gradients_in(seen.numbers.clipped)
        if update.gradients:
            self._trained = set(update.gradients)
        both = [name for name in before if name in update.gradients]
        if any(
            before[name] is not update.gradients[name] and not np.array_equal(before[name], update.gradients[name])
            for name in both
        ):
            update.unclipped = update.gradients | before

    def _batch_of(self, given: Sequence[Any]) -> Any:
        """Copy what an update is called with, but for the state."""
        return _copied(besides(given, self._places(given)))

    def _own(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the user's function, where it is called by position alone."""
        return next((own for own, called in self._called.values() if called is function), function)

    def _gradients_in(self, tree: Any) -> dict[str, Any]:
        """Name what a tree of gradients holds, as far as these are names of parameters."""
        return {} if tree is None else named_alike(tree, sort(self._trees()).params)

    def _copied(self, given: Sequence[Any]) -> list[Any]:
        """Copy the arguments of an update, which may have been told to take their memory."""
        copied: list[Any] = _copied(list(given))
        return copied

    def _take(self, update: Update, result: Any, function: Callable[..., Any], given: Sequence[Any]) -> None:
        """Take the new state and the loss from the results."""
        results = _listed(result)
        places = self._places(results)
        self._state = tuple(at(results, place) for place in places)

        def again() -> tuple[Any, Sequence[Any]]:
            now = put(given, dict(zip(self._places(given), self._state, strict=True)))
            remade, values = differentiated(function, *self._copied(now))
            return besides(_listed(remade), places), values

        update.loss = self._loss_of(besides(results, places), function, again)

    def _loss_of(
        self, results: Any, function: Callable[..., Any], again: Callable[[], tuple[Any, Sequence[Any]]]
    ) -> Any:
        """Find the loss, where it was before if the results have the same form."""
        leaves, form = jax.tree.flatten(results)
        known = form, identity(function)
        if known not in self._loss_at:
            self._loss_at[known] = loss_at(results, again)
        return leaves[self._loss_at[known]]

    def _trees(self) -> tuple[Any, ...]:
        """What holds the parameters and the optimizer's slots."""
        return self._state

    def _places(self, trees: Sequence[Any]) -> list[Place]:
        """Where among the arguments or results of an update the state is."""
        form = tuple(map(jax.tree.structure, trees))
        if form not in self._places_of:
            self._places_of[form] = places_of(self._state, trees)
        return self._places_of[form]


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) and not hasattr(result, "_fields") else [result]


def _copied(tree: Any) -> Any:
    """Copy every array of JAX in a tree; of random keys and integers too, an update may take the memory."""
    return jax.tree.map(lambda leaf: jnp.array(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def _is_gone(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.is_deleted()
