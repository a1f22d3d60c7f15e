"""What an update of a Keras model may be given and may change, where it is made more than once: see ``Step``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parity.dtypes import unit
from parity.watching.keras.layers import replaced
from parity.watching.seen import Tensors

OTHER_OPTIMIZER = (
    "the function handed to step makes an update by another optimizer, {kind}, than the watched {watched}: hand each "
    "optimizer's update to a step of its own, of a watched run of its own, and leave the other out of this one"
)
OTHER_BATCH = (
    "the function handed to step is called more than once, to see its layers and for each shadow, and the model was "
    "given another batch then: take the batch before, and hand it over, as in run.step(update, x, y). What the "
    "function draws at random it must draw from Keras, NumPy or Python"
)
ITERATOR = (
    "step was handed an iterator, {kind}, and calls its function more than once: take the batch before, and hand it "
    "over, as in run.step(update, *next(batches))"
)


class Calls:
    """Calls of functions, layers, optimizers and variables, which the update that goes on is told of.

    Classes of Keras and TensorFlow are changed once, for as long as a run is watched: to change them for each update
    would make Python forget, each time, what it knows of all classes below them.

    Args:
        optimizer: The watched optimizer; another that makes an update is refused.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._step: Step | None = None

    @contextmanager
    def of(self, step: Step) -> Iterator[None]:
        """Tell an update of the calls."""
        self._step = step
        try:
            yield
        finally:
            self._step = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen."""
        functions, layers = _kind_of_functions(), keras.layers.Layer
        base = next(kind for kind in keras.optimizers.Optimizer.__mro__ if "apply" in vars(kind))
        run, call, apply = functions.__call__, layers.__call__, base.apply

        # Of the names that a hook has of what it replaces, AutoGraph knows that it is not to be converted.
        @wraps(run)
        def ran(function: Any, *arguments: Any, **named: Any) -> Any:
            if self._step is None:
                return run(function, *arguments, **named)
            with self._step.taking((arguments, named)):
                return run(function, *arguments, **named)

        @wraps(call)
        def called(layer: Any, *arguments: Any, **named: Any) -> Any:
            if self._step is None or not self._step.takes(layer):
                return call(layer, *arguments, **named)
            with self._step.taking((arguments, named)):
                return call(layer, *arguments, **named)

        @wraps(apply)
        def applied(optimizer: Any, *arguments: Any, **named: Any) -> Any:
            mine = (self._optimizer, getattr(self._optimizer, "inner_optimizer", None))
            if self._step is not None and all(optimizer is not each for each in mine):
                kinds = {"kind": type(optimizer).__name__, "watched": type(self._optimizer).__name__}
                raise ValueError(OTHER_OPTIMIZER.format(**kinds))
            return apply(optimizer, *arguments, **named)

        def changes(variable: Any) -> None:
            if self._step is not None:
                self._step.changes(variable)

        with (
            replaced(functions, __call__=ran),
            replaced(layers, __call__=called),
            replaced(base, apply=applied),
            changing(changes),
        ):
            yield


class Step:
    """One call of a function that makes an update: the batch it takes, and the variables it changes.

    Args:
        model: The watched model.
        changes: Is told of every variable that is about to be changed eagerly, while it is still what it was.
        keeps: Whether the batch is kept, because the update is made again.
    """

    def __init__(self, model: Any, changes: Callable[[Any], None], keeps: bool = True) -> None:
        self.batch: list[Any] = []
        self.changes, self._keeps = changes, keeps
        self._layers = {id(layer) for layer in model._flatten_layers()}
        self._within = False

    def takes(self, layer: Any) -> bool:
        """Say whether what a layer is given is a batch: it is the model's, and not called by another of them."""
        return self._keeps and not self._within and id(layer) in self._layers

    @contextmanager
    def taking(self, given: Any) -> Iterator[None]:
        """Keep what the outermost call is given as the batch; what is called within takes it from there."""
        if self._within or not self._keeps:
            yield
            return
        self.batch += list(batch_of(given))
        self._within = True
        try:
            yield
        finally:
            self._within = False

    def check(self, batch: Sequence[Any]) -> None:
        """Refuse a function that took another batch than in another call, beyond stirred roundings."""
        if any(differ(one, other) for one, other in zip(self.batch, batch, strict=False)):
            raise ValueError(OTHER_BATCH)


def refuse_iterators(arguments: Any) -> None:
    """Refuse an argument that gives another batch each time it is asked."""
    for leaf in tf.nest.flatten(arguments):
        if hasattr(leaf, "__next__"):
            raise ValueError(ITERATOR.format(kind=type(leaf).__name__))


def batch_of(given: Any) -> Iterator[Any]:
    """Give the arrays and tensors among the arguments of a call; of an array, which may be filled again, a copy."""
    for leaf in tf.nest.flatten(given):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub":
            yield leaf.copy()
        elif isinstance(leaf, tf.Tensor) and hasattr(leaf, "numpy") and leaf.dtype not in (tf.string, tf.variant):
            yield leaf


def differ(one: Any, other: Any) -> bool:
    """Say whether two tensors differ by more than roundings can: floats by the root of a unit of their largest.

    >>> x = np.array([1.0, -3.0], np.float32)
    >>> differ(x, np.nextafter(x, np.float32(9))), differ(x, x[::-1]), differ(np.arange(2), np.array([0, 2]))
    (False, True, True)
    """
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    if "float" not in a.dtype.name:
        return not np.array_equal(a, b)
    far = unit(a.dtype.name) ** 0.5
    a, b = a.astype(np.float64), b.astype(np.float64)
    least = far * float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    return not np.allclose(a, b, rtol=0.0, atol=least, equal_nan=True)


@cache
def _kind_of_functions() -> Any:
    return type(tf.function(lambda: None))


@cache
def _ways_to_change() -> tuple[Any, dict[str, Any]]:
    """The class of TensorFlow's variables, and its methods that change one."""
    with tf.init_scope():
        kind = next(each for each in type(tf.Variable(0.0)).__mro__ if "assign_add" in vars(each))
    begin = ("assign", "scatter_", "batch_scatter")
    return kind, {name: way for name, way in vars(kind).items() if name.startswith(begin)}


@contextmanager
def changing(told: Callable[[Any], None], within: bool = False) -> Iterator[None]:
    """Tell of every variable that is about to be changed eagerly, or ``within`` a graph that is traced, too."""
    kind, ways = _ways_to_change()

    def telling(way: Any) -> Any:
        @wraps(way)
        def changed(variable: Any, *arguments: Any, **named: Any) -> Any:
            if within or not tf.inside_function():
                told(variable)
            return way(variable, *arguments, **named)

        return changed

    with replaced(kind, **{name: telling(way) for name, way in ways.items()}):
        yield


def loss_of(result: Any) -> Any:
    """Find the loss that a user's own function returns: by its name, or the first number.

    Raises:
        ValueError: If it returns none.
    """
    if isinstance(result, Mapping):
        result = result.get("loss", next(iter(result.values()), None))
    if isinstance(result, tuple | list):
        result = result[0] if result else None
    if result is None or np.size(result) != 1:
        raise ValueError("the update returns no loss: let it return the loss of the batch")
    return result


def loss_in(logs: Tensors) -> Any:
    """Find the loss in what a ``train_step`` of the user's own gave.

    Raises:
        ValueError: If it names none.
    """
    if not isinstance(logs, Mapping) or np.size(found := logs.get("loss", ())) != 1:
        raise ValueError(
            "the model's own train_step neither calls compute_loss, nor takes the gradients of its loss from a "
            "tf.GradientTape, nor returns a loss: let it return the loss of the batch, as in {'loss': loss}"
        )
    return found
