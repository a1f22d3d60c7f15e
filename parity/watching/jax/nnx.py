"""Look into a run of a flax nnx model and its optimizer, which an update changes in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from flax import nnx
from flax.nnx import graphlib

from parity.watching.jax.look import Seen, apart, put_together
from parity.watching.jax.loss import differentiated
from parity.watching.jax.nnx_layers import mark
from parity.watching.jax.places import Place
from parity.watching.jax.state import sort
from parity.watching.jax.watch import JaxWatch
from parity.watching.seen import Told, Update


class NnxWatch(JaxWatch):
    """Sees every update that ``step`` is handed, as ``run.step(train_step, model, optimizer, x, y)``.

    See ``parity.watching.seen.Adapter``. What the objects hold is a state as any of JAX's. The run itself changes the
    user's objects; shadows call the user's function on copies, as a pure function of that state.
    """

    usage = "hand each update to step, as loss = run.step(step, model, optimizer, batch)"

    def __init__(self, model: nnx.Module, optimizer: Any) -> None:
        self._watched = model, optimizer
        self._held: tuple[Any, ...] | None
        self._written: tuple[Any, ...] | None
        self._before: tuple[Any, Any] | None = None
        self._pure: dict[Any, tuple[Any, Callable[..., Any]]] = {}
        self._changed()
        super().__init__(*self._state)

    def buffers(self) -> list[str]:
        model, optimizer = self._watched
        trained = sort((nnx.state(model, optimizer.wrt),)).params
        return [name for name in sort(self._trees()).params if name not in trained]

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        function, arguments = self._by_position(function, arguments, named)
        places = [k for k, *_ in self._places(arguments)]
        watched, update, shadow = {*places}, Update(), self._seed is not None
        others = [k for k, each in enumerate(arguments) if k not in watched and graphlib.is_graph_node(each)]
        if not shadow:
            self._write()
            self._changed()
        if not shadow and self._followed:
            graph, state = nnx.split((*self._watched, *(arguments[k] for k in others)))
            # Of random streams and metrics a shadow needs the state before the update, and follows when it is over.
            self._before = graph, self._copied([state[k] for k in range(2, 2 + len(others)) if k in state])
        if self._deep():
            update.before = self.condition()
            if not shadow:
                self._look(update, function, arguments)
        if shadow:
            result = self._follow(function, arguments, (*places, *others))
        else:
            if update.before is not None:
                update.learning_rate = self._rate()
            result = function(*arguments)
            self._changed()
        update.loss = self._loss_of(result, function, lambda: differentiated(function, *self._copied(arguments)))
        self._told(update)
        return result

    @contextmanager
    def aside(self, told: Told, seed: int | None = None) -> Iterator[None]:
        with super().aside(told, seed):
            yield
        self._write()

    @property
    def _state(self) -> tuple[Any, ...]:
        """The state of the run, taken from the user's objects when it is asked for."""
        if self._held is None:
            self._held = self._written = (nnx.split(self._watched)[1],)
        return self._held

    @_state.setter
    def _state(self, state: tuple[Any, ...]) -> None:
        self._held = state

    def _changed(self) -> None:
        """The user's objects hold the state now."""
        self._held = self._written = None

    def _write(self) -> None:
        """Bring the user's objects to the state, unless they are there."""
        if self._held is not None and self._held is not self._written:
            nnx.update(self._watched, self._held[0])
            self._written = self._held

    def _trees(self) -> tuple[Any, ...]:
        model, optimizer = nnx.merge(nnx.graphdef(self._watched), self._state[0])
        slots = jax.tree.map(
            lambda leaf: leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf,
            optimizer.opt_state,
            is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
        )
        return nnx.state(model), slots

    def _follow(self, function: Callable[..., Any], arguments: Sequence[Any], objects: Sequence[int]) -> Any:
        """Make the update from the shadow's state, as a pure function; ``objects`` are the places of nnx's objects."""
        assert self._before is not None
        graph, others = self._before
        rest = [k for k in range(len(arguments)) if k not in objects]
        known = id(function), graph, tuple(objects)
        if known not in self._pure:
            self._pure[known] = function, _pure(function, graph, objects, rest)
        given = [self._state[0], others, *(arguments[k] for k in rest)]
        state, result = self._run_stirred(self._pure[known][1], given, [(0,)])
        self._state = (state,)
        return result

    def _copied(self, given: Sequence[Any]) -> list[Any]:
        objects = [k for k, each in enumerate(given) if graphlib.is_graph_node(each)]
        copies = dict(zip(objects, nnx.clone(tuple(given[k] for k in objects)), strict=True))
        for k, copy in copies.items():
            if given[k] is self._watched[0]:
                mark(copy)
        rest = super()._copied([None if k in copies else each for k, each in enumerate(given)])
        return [copies.get(k, each) for k, each in enumerate(rest)]

    def _seen_whole(self, function: Callable[..., Any], given: Sequence[Any]) -> Seen | None:
        objects = [k for k, each in enumerate(given) if graphlib.is_graph_node(each)]
        graph, state = nnx.split(tuple(given[k] for k in objects))
        rest = [None if k in objects else each for k, each in enumerate(given)]
        leaves, form = jax.tree.flatten((state, rest))
        numbers, fixed, said = apart(leaves)
        model = next(k for k in objects if given[k] is self._watched[0])

        def made(*traced: Any) -> Sequence[Any]:
            state, rest = put_together(form, numbers, traced, fixed)
            copies = dict(zip(objects, nnx.merge(graph, state), strict=True))
            mark(copies[model])
            return [copies.get(k, each) for k, each in enumerate(rest)]

        return self._into.compiled((id(function), graph, form, said), function, made, [leaves[k] for k in numbers])

    def _places(self, trees: Sequence[Any]) -> list[Place]:
        found: list[Place] = []
        for wanted in self._watched:
            place = next((k for k, each in enumerate(trees) if each is wanted), None)
            if place is None:
                raise ValueError(
                    "the update takes the model and the optimizer that are watched, as loss = step(model, optimizer, "
                    f"batch), and the {type(wanted).__name__} is missing here"
                )
            found.append((place,))
        return found


def _pure(function: Callable[..., Any], graph: Any, objects: Sequence[int], rest: Sequence[int]) -> Callable[..., Any]:
    """Make an update that changes objects one of their states, to a new state and what the update returns."""

    def pure(state: Any, others: Sequence[Any], *batch: Any) -> Any:
        whole = nnx.State({**state, **{2 + k: each for k, each in enumerate(others)}})
        made = nnx.merge(graph, whole)
        arguments = dict(zip((*objects, *rest), (*made, *batch), strict=True))
        result = function(*(arguments[k] for k in range(len(arguments))))
        return nnx.split(made[:2])[1], result

    return pure
