"""Look into a run of a Keras model on TensorFlow: ``fit``, ``train_on_batch``, or a function that makes an update."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from parity.recording.layers import Layer
from parity.tolerance import stir
from parity.typing import Params
from parity.watching.flow import as_plain
from parity.watching.keras_layers import Layers
from parity.watching.seen import Condition, Told, Update

SLOTS = {"momentums": "first_moment", "velocities": "second_moment"}
"""Names of the slots of Keras's Adam in the words of ``parity.spec``. Others keep their own."""


class KerasWatch:
    """Sees every update of a model that ``fit`` or ``train_on_batch`` makes, or that ``step`` is handed.

    See ``parity.watching.seen.Adapter``. Roundings are stirred in the state and in the inputs; in updates that are seen
    deeply, which are made eagerly then, in what layers give and in the gradients that come back, too.
    """

    framework = "keras"

    def __init__(self, model: Any, optimizer: Any = None) -> None:
        self.model = model
        self.optimizer: Any = optimizer if optimizer is not None else getattr(model, "optimizer", None)
        if self.optimizer is None:
            raise ValueError("the model has no optimizer: compile it, or hand its optimizer over too")
        if not model.built or not model.trainable_variables:
            raise ValueError("the model has no weights yet: build it, as with an Input layer, before it is watched")
        if not self.optimizer.built:
            self.optimizer.build(model.trainable_variables)
        kinds = {str(v.dtype) for v in model.trainable_variables}
        if len(kinds) > 1:
            raise ValueError(f"the model's weights are of several dtypes, {', '.join(sorted(kinds))}: give it one")
        self.dtype = kinds.pop()
        self.notes: list[str] = []
        self._layers: list[Layer] = []
        self._generator: np.random.Generator | None = None
        self._made: Update | None = None
        self._inside = False

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep = told, deep
        self._loss = tf.Variable(np.nan, dtype=self.dtype, trainable=False)
        original = self.model.compute_loss

        def compute_loss(*arguments: Any, **named: Any) -> Any:
            loss = original(*arguments, **named)
            if loss is not None:
                self._loss.assign(tf.cast(loss, self._loss.dtype))
            return loss

        self.model.compute_loss = compute_loss
        if self.model.compiled:
            # What was compiled before does not know of the loss that is kept.
            self.model.make_train_function(force=True)
            self._compiled = self.model.train_function
            self.model.train_function = self._train

    def detach(self) -> None:
        del self.model.compute_loss
        if self.model.compiled:
            self.model.train_function = None

    def condition(self) -> Condition:
        params = {self._name(v): np.array(v) for v in self.model.variables if self._is_float(v)}
        trained = list(self.optimizer._trainable_variables)
        slots = {
            slot: {self._name(p): np.array(v) / times for v, p in zip(held, trained, strict=True)}
            for slot, (held, times) in self._in_words().items()
        }
        return Condition(params=params, slots=slots)

    def buffers(self) -> list[str]:
        trained = {id(v) for v in self.model.trainable_variables}
        return [self._name(v) for v in self.model.variables if self._is_float(v) and id(v) not in trained]

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        kind, said = type(self.optimizer), self.optimizer.get_config()
        group = {name: as_plain(value) for name, value in said.items() if as_plain(value) is not None}
        found = {"optimizer": {"class": f"{kind.__module__}.{kind.__qualname__}", "groups": [group]}}
        return found | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._made, self._inside = None, False
        if self._generator is not None:
            arguments = tuple(self._moved(each) for each in arguments)
            if self._deep():
                self._loss.assign(np.nan)
                update = Update()
                result = self._see(update, lambda: function(*arguments), back=False)
                # A function of the user's own may not ask the model for its loss.
                self._end(update, self._loss_of(result) if np.isnan(self._loss.numpy()) else self._loss.value())
                return result
        begun = self._begin(lambda: function(*arguments))
        self._inside = True
        try:
            result = function(*arguments)
        finally:
            self._inside = False
        if self._made is None:  # no function of the model's own made it
            self._end(begun, self._loss_of(result))
        return result

    def saved(self) -> Any:
        return [v.numpy() for v in self._held()]

    def go_to(self, saved: Any) -> None:
        for v, value in zip(self._held(), saved, strict=True):
            v.assign(value)

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        for v in self.model.variables:
            if (name := self._name(v)) in params and self._is_float(v):
                v.assign(params[name])
        for slot, (held, times) in self._in_words().items():
            for v, p in zip(held, self.optimizer._trainable_variables, strict=True):
                if (name := self._name(p)) in slots.get(slot, {}):
                    v.assign(slots[slot][name] * times)

    def random(self) -> Any:
        # Keras's own layers draw from seeds that are among the model's variables.
        return np.random.get_state(), random.getstate()

    def drawing(self) -> bytes | None:
        seeds = [v.numpy().tobytes() for v in self.model.variables if "seed_generator" in v.path]
        return b"".join(seeds) or None

    def draw_from(self, state: Any) -> None:
        numpys, pythons = state
        np.random.set_state(numpys)
        random.setstate(pythons)

    @contextmanager
    def aside(self, told: Told, seed: int | None = None) -> Iterator[None]:
        saved, drawn, before, made = self.saved(), self.random(), self._told, self._made
        self._told = told
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        try:
            yield
        finally:
            self._told, self._generator, self._made = before, None, made
            self.go_to(saved)
            self.draw_from(drawn)

    def stir(self) -> None:
        assert self._generator is not None
        for v in (*self.model.trainable_variables, *(v for held in self._slots().values() for v in held)):
            v.assign(stir(np.asarray(v), self._generator, self.dtype))

    def _train(self, iterator: Any) -> Any:
        """Stand in the place of the model's own function of an update."""
        if self._inside:
            begun = self._begun
        elif self._deep():
            data = iterator.get_next()
            begun = self._begin(lambda: self.model.train_step(data))
            iterator = iter(tf.data.Dataset.from_tensors(data))
        else:
            begun = self._begin(lambda: None)
        result = self._compiled(iterator)
        self._end(begun, self._loss.value())
        return result

    def _begin(self, again: Callable[[], Any]) -> Update:
        """Begin an update; a deep one is made aside first, so that its layers are seen."""
        update = self._begun = Update()
        if not self._deep():
            return update
        update.learning_rate = float(np.asarray(self.optimizer.learning_rate))
        self._see(update, again)
        return update

    def _see(self, update: Update, function: Callable[[], Any], back: bool = True) -> Any:
        """Make an update eagerly and keep what its layers give; then go ``back`` to where it began."""
        update.before = self.condition()
        seen = Layers(self.model, self._name, *(() if self._generator is None else (self._moved,)))
        with self._looking(back), seen.watching(self.optimizer):
            result = function()
        update.activations, update.activation_gradients = seen.activations, seen.gradients
        update.prediction, update.inputs, update.gradients = seen.prediction, seen.inputs, seen.of_params
        if self._generator is None:
            self._layers = seen.found
        return result

    @contextmanager
    def _looking(self, back: bool) -> Iterator[None]:
        """Make an update, by the model's own function if the user's calls it; to go ``back``, leave no trace of it."""
        saved, drawn = self.saved(), self.random()
        mine, self.model.train_function = getattr(self.model, "train_function", None), self._plain
        try:
            yield
        finally:
            self.model.train_function = mine
            if back:
                self.go_to(saved)
                self.draw_from(drawn)

    def _plain(self, iterator: Any) -> Any:
        data = iterator.get_next() if hasattr(iterator, "get_next") else next(iterator)
        return self.model.train_step(data)

    def _end(self, update: Update, loss: Any) -> None:
        update.loss = loss
        self._made = update
        self._told(update)

    def _loss_of(self, result: Any) -> Any:
        """Find the loss that a user's own function returns: by its name, or the first number."""
        if isinstance(result, dict):
            result = result.get("loss", next(iter(result.values()), None))
        if isinstance(result, tuple | list):
            result = result[0] if result else None
        if result is None or np.size(result) != 1:
            raise ValueError("the update returns no loss: let it return the loss of the batch")
        return result

    def _slots(self) -> dict[str, list[Any]]:
        """The optimizer's lists of variables, one for each that it trains, by their own name."""
        trained = list(self.optimizer._trainable_variables)
        found = {}
        for name, held in vars(self.optimizer).items():
            if name != "_trainable_variables" and isinstance(held, list) and len(held) == len(trained):
                shapes = [getattr(v, "shape", None) for v in held if hasattr(v, "assign")]
                if shapes == [p.shape for p in trained]:
                    found[name.strip("_")] = held
        return found

    def _in_words(self) -> dict[str, tuple[list[Any], float]]:
        """The slots in the words of ``parity.spec``, each with how many times as large the optimizer keeps it."""
        found = {}
        momentum = getattr(self.optimizer, "momentum", None)
        for slot, held in self._slots().items():
            if momentum is not None and slot == "momentums" and not hasattr(self.optimizer, "_velocities"):
                # Keras's SGD keeps the step itself, where the spec keeps what the learning rate multiplies.
                found["momentum"] = held, -float(np.asarray(self.optimizer.learning_rate))
            else:
                found[SLOTS.get(slot, slot)] = held, 1.0
        return found

    def _held(self) -> list[Any]:
        every = (*self.model.variables, *self.optimizer.variables, *self.model.metrics_variables)
        return list({id(v): v.value for v in every}.values())

    def _name(self, variable: Any) -> str:
        return str(variable.path).removeprefix(f"{self.model.path or self.model.name}/")

    def _is_float(self, variable: Any) -> bool:
        return "float" in str(variable.dtype)

    def _moved(self, value: Any) -> Any:
        assert self._generator is not None
        if isinstance(value, np.ndarray):
            return stir(value, self._generator, value.dtype.name)
        if isinstance(value, tf.Tensor) and value.dtype.is_floating:
            return tf.constant(stir(value.numpy(), self._generator, value.dtype.name))
        return value
