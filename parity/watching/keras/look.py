"""Look into an update that a compiled Keras model makes, by a graph that gives what its layers give."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from parity.watching.keras.layers import Layers, Numbers, eagerly
from parity.watching.keras.step import changing


@dataclass
class _Graph:
    """An update that was traced with what it is looked at for."""

    run: Callable[[Any], tuple[Any, Numbers]]
    traced: Layers
    changed: list[Any]
    """The variables that it changes."""


class Look:
    """Looks into the updates that the model's own step makes, each in one graph, traced once for a shape of its batch.

    The graph leaves the model's trained weights and the optimizer's slots as they are.

    Args:
        model: The watched model.
        optimizer: Its optimizer.
        name_of: Names a variable.
        step: Makes an update of a batch: the model's own.
        changes: Gives what is told of every variable that the graph changes, before it runs.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        name_of: Callable[[Any], str],
        step: Callable[[Any], Any],
        changes: Callable[[], Callable[[Any], None]],
    ) -> None:
        self._model, self._optimizer, self._name_of = model, optimizer, name_of
        self._step, self._changes = step, changes
        self._graphs: dict[Hashable, _Graph | None] = {}

    def forget(self) -> None:
        """Trace anew what comes: the model was compiled anew."""
        self._graphs.clear()

    @property
    def knows(self) -> bool:
        """Whether graphs have shown all that was looked into so far."""
        return bool(self._graphs) and None not in self._graphs.values()

    def into(self, data: Any, seen: Layers, changes: Callable[[Any], None]) -> tuple[Any] | None:
        """Make an update by a graph.

        Args:
            data: Its batch.
            seen: Takes what was seen.
            changes: Is told of each variable that the graph is about to change.

        Returns:
            What the model's step gave, alone in a tuple; None if no graph shows the layers, and nothing was done.
        """
        shapes = [_shape(leaf) for leaf in tf.nest.flatten(data)]
        optimizer = self._optimizer
        alone = not hasattr(optimizer, "inner_optimizer") and not optimizer.gradient_accumulation_steps
        if self._model.run_eagerly or None in shapes or not alone:
            return None
        known = str((tf.nest.map_structure(lambda leaf: None, data), shapes))
        seen.off = True
        try:
            with eagerly(False):
                if known not in self._graphs:
                    self._graphs[known] = self._graph(data)
                graph = self._graphs[known]
                if graph is None:
                    return None
                for variable in graph.changed:
                    changes(variable)
                result, numbers = graph.run(data)
        finally:
            seen.off = False
        seen.take(graph.traced, numbers)
        return (result,)

    def _graph(self, data: Any) -> _Graph | None:
        """Trace an update, unless its layers are called where a graph hides them."""
        kept: list[Layers] = []
        changes, changed = self._changes(), dict[int, Any]()

        def told(variable: Any) -> None:
            changed[id(variable)] = variable
            with tf.init_scope():
                changes(variable)

        def whole(data: Any) -> tuple[Any, Numbers]:
            traced = Layers(self._model, self._name_of)
            with traced.tracing(self._optimizer):
                result = self._step(data)
            kept.append(traced)
            gave = [*traced.activations.values()], [*traced.gradients.values()], traced.inputs
            return result, Numbers(*gave, [*traced.of_params.values()])

        # As Keras compiles its own.
        run = tf.function(whole, jit_compile=bool(self._model.jit_compile), autograph=False)
        with changing(told, within=True):
            run.get_concrete_function(data)
        return None if kept[-1].hidden else _Graph(run, kept[-1], list(changed.values()))


def _shape(leaf: Any) -> Hashable | None:
    """What a graph is traced for: the shape and dtype of an array, and of nothing that it is nothing."""
    if leaf is None:
        return "none"
    if not isinstance(leaf, tf.Tensor | np.ndarray | np.generic):
        return None
    return tuple(leaf.shape), str(leaf.dtype)
