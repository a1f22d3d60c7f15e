"""See the updates of an eager Keras loop that stays as it is: by its tapes, its model's layers and its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import keras
import tensorflow as tf

from parity.watching.keras.layers import Layers, replaced
from parity.watching.seen import Update

COMPILED = (
    "the loop makes its updates in a tf.function, which hides them: hand each update to step, as in "
    "run.step(update, x, y), and let it return its loss"
)
UNSEEN = (
    "the watched optimizer made an update of gradients that no eager tf.GradientTape around the watched model gave: "
    "hand each update to step, as in run.step(update, x, y), and let it return its loss"
)


class Loop:
    """Sees every update that the user's own eager code makes, without an operation more on its tape.

    An update begins where the model, or one of its layers, is called within a tape, and ends where the optimizer
    applies gradients. Its loss is what the tape is asked for the gradients of: of several, as of parts of a batch, the
    sum.

    Args:
        model: The watched model.
        optimizer: The watched optimizer.
        begin: Begins an update; gives it, and what is to see its layers if it is to be seen deeply.
        end: Is handed an update that was made, and what saw its layers.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        begin: Callable[[], tuple[Update, Layers | None]],
        end: Callable[[Update, Layers | None], None],
    ) -> None:
        self._model, self._optimizer, self._begin, self._end = model, optimizer, begin, end
        self._off = 0
        self._target: Callable[[Any], None] | None = None
        self._tapes = 0
        self._first = 0
        """How often a tape was entered within no other."""
        self._begun = 0
        """Within which of those the update began."""
        self._known: set[int] = set()
        self._now: Update | None = None
        self._seen: Layers | None = None
        self._losses: list[Any] = []

    @contextmanager
    def off(self) -> Iterator[None]:
        """Look away, while updates are made that others see."""
        self._off += 1
        try:
            yield
        finally:
            self._off -= 1

    @contextmanager
    def taking(self, target: Callable[[Any], None]) -> Iterator[None]:
        """Hand over whatever a tape is asked for the gradients of, while the loop is looked away from."""
        before, self._target = self._target, target
        try:
            yield
        finally:
            self._target = before

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the loop."""
        self._known = {id(layer) for layer in self._model._flatten_layers()}
        tapes, layers, optimizer = tf.GradientTape, keras.layers.Layer, self._optimizer
        enter, leave, gradient = tapes.__enter__, tapes.__exit__, tapes.gradient
        call, apply = layers.__call__, optimizer.apply

        # Of the names that a hook has of what it replaces, AutoGraph knows that it is not to be converted.
        @wraps(enter)
        def entered(tape: Any) -> Any:
            self._tapes += 1
            self._first += self._tapes == 1
            return enter(tape)

        @wraps(leave)
        def left(tape: Any, *error: Any) -> Any:
            self._tapes = max(0, self._tapes - 1)  # a tape may have been entered before the watching began
            return leave(tape, *error)

        @wraps(call)
        def called(layer: Any, *arguments: Any, **named: Any) -> Any:
            if self._off or not self._tapes or id(layer) not in self._known or tf.inside_function():
                return call(layer, *arguments, **named)
            return self._called(call, layer, arguments, named)

        @wraps(gradient)
        def asked(tape: Any, target: Any, sources: Any, *arguments: Any, **named: Any) -> Any:
            if self._off and self._target is not None and self._trains(sources):
                self._target(target)
            if self._off or self._now is None or tf.inside_function() or not self._trains(sources):
                return gradient(tape, target, sources, *arguments, **named)
            return self._asked(gradient, tape, target, sources, arguments, named)

        @wraps(apply)
        def applied(gradients: Any, variables: Any = None) -> Any:
            if self._off:
                return apply(gradients, variables)
            return self._applied(apply, gradients, variables)

        with ExitStack() as stack:
            stack.enter_context(replaced(tapes, __enter__=entered, __exit__=left, gradient=asked))
            stack.enter_context(replaced(layers, __call__=called))
            stack.enter_context(replaced(optimizer, apply=applied))
            yield

    def _called(self, call: Any, layer: Any, arguments: Any, named: Any) -> Any:
        if self._now is None or (not self._losses and self._begun != self._first):
            self._forget()
            self._begun = self._first
            with tf.init_scope():  # what is read here is not the user's tape's
                self._now, self._seen = self._begin()
        if self._seen is None:
            return call(layer, *arguments, **named)
        return self._seen.called(call, layer, arguments, named)

    def _trains(self, sources: Any) -> bool:
        """Say whether gradients are asked for a variable that the optimizer trains."""
        trained = {id(each) for v in self._optimizer._trainable_variables for each in (v, v.value)}
        return any(id(each) in trained for each in tf.nest.flatten(sources))

    def _asked(self, gradient: Any, tape: Any, target: Any, sources: Any, arguments: Any, named: Any) -> Any:
        with tf.init_scope():
            self._losses.append(tf.add_n([tf.reduce_sum(each) for each in tf.nest.flatten(target)]))
        if self._seen is None:
            return gradient(tape, target, sources, *arguments, **named)
        # A layer's output is one more source of the same backward pass, which leaves every other gradient as it is.
        layers = dict(self._seen.activations)
        found, of_layers = gradient(tape, target, [sources, list(layers.values())], *arguments, **named)
        for name, each in zip(layers, of_layers, strict=True):
            if each is not None:
                self._seen.gradients.setdefault(name, tf.convert_to_tensor(each))
        return found

    def _applied(self, apply: Any, gradients: Any, variables: Any) -> Any:
        if tf.inside_function():
            raise ValueError(COMPILED)
        if self._now is None or not self._losses:
            raise ValueError(UNSEEN)
        update, seen = self._now, self._seen
        update.loss = self._losses[0] if len(self._losses) == 1 else tf.add_n(self._losses)
        if seen is None:
            result = apply(gradients, variables)
        else:
            with self.off(), seen.applying(self._optimizer):
                result = self._optimizer.apply(gradients, variables)
        self._forget()
        self._end(update, seen)
        return result

    def _forget(self) -> None:
        """Let go of an update that is over, or that was none."""
        self._now, self._seen, self._losses = None, None, []
