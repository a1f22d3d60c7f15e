"""Look into a run of a Keras model on TensorFlow: ``fit``, ``train_on_batch``, or a loop of the user's own."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parity.recording.layers import Layer
from parity.tolerance import stir
from parity.typing import Params
from parity.watching.keras.held import Held
from parity.watching.keras.layers import Layers, replaced
from parity.watching.keras.look import Look
from parity.watching.keras.loop import Loop
from parity.watching.keras.step import Calls, Step, changing, loss_in, loss_of, refuse_iterators
from parity.watching.seen import Condition, Told, Update

OTHER_OPTIMIZER = (
    "the model was compiled within the watched block, with another optimizer than the watched one, whose updates are "
    "not recorded: compile it before parity.watch"
)


class KerasWatch:
    """Sees every update that ``fit`` or ``train_on_batch`` makes, that ``step`` is handed, or that an eager loop makes.

    See ``parity.watching.seen.Adapter``. Roundings are stirred in the state and in the inputs; in updates that are seen
    deeply, which are made eagerly then, in what layers give and in the gradients that come back, too.
    """

    framework = "keras"
    usage = (
        "train the watched model within the watched block, by fit, by train_on_batch or by an eager loop that applies "
        "the gradients of a tf.GradientTape by the watched optimizer; a loop in a tf.function hands each update to "
        "step, as in run.step(update, x, y)"
    )

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
        self._held = Held(model, self.optimizer)
        self.notes: list[str] = []
        self._layers: list[Layer] = []
        self._generator: np.random.Generator | None = None
        self._repeated = False  # every update is made again, in shadows
        self._made: Update | None = None
        self._inside = False
        self._step: Step | None = None
        self._calls = Calls(self.optimizer)
        self._batch: list[Any] = []
        """What the last update that ``step`` was handed was given."""
        self._loop = Loop(model, self.optimizer, self._begin_of_loop, self._end_of_loop)
        self._look = Look(model, self.optimizer, self._held.name, self._make_step, self._changes)
        self._saved: dict[int, tuple[Any, Any]] = {}
        self._seen: Layers | None = None  # of the update that is looked into

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep = told, deep
        self._loss = tf.Variable(np.nan, dtype=self.dtype, trainable=False)
        self._asked, self._sees_loss = False, False
        model = self.model
        compute, make = model.compute_loss, model.make_train_function

        def compute_loss(*arguments: Any, **named: Any) -> Any:
            loss = compute(*arguments, **named)
            if loss is not None:
                self._asked = True
                self._loss.assign(tf.cast(loss, self._loss.dtype))
            return loss

        def make_train_function(force: bool = False) -> Any:
            if model.optimizer is not self.optimizer:
                warnings.warn(OTHER_OPTIMIZER, UserWarning, stacklevel=2)
                return make(force)
            if model.train_function is None or force:
                self._look.forget()
                with self._one_at_a_time():
                    make(force=True)
                self._compiled, model.train_function = model.train_function, self._train
            return model.train_function

        self._attached = ExitStack()
        hooks = {"compute_loss": compute_loss, "make_train_function": make_train_function}
        self._attached.enter_context(replaced(model, **hooks))
        self._attached.enter_context(self._loop.watching())
        self._attached.enter_context(self._calls.watching())
        if model.compiled and model.optimizer is self.optimizer:
            # What was compiled before does not know of the loss that is kept.
            model.make_train_function(force=True)

    def detach(self) -> None:
        self._attached.close()
        if self.model.compiled:
            self.model.train_function = None

    def condition(self) -> Condition:
        return self._held.condition()

    def buffers(self) -> list[str]:
        return self._held.buffers()

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        return {"optimizer": self._held.described()} | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        refuse_iterators((*arguments, *named.values()))
        if self._generator is not None:
            arguments = tuple(self._moved(each) for each in arguments)
            named = {name: self._moved(each) for name, each in named.items()}
        # Without shadows, which begin with the first update, a later update is made once.
        self._step = Step(self.model, self._changes(), keeps=self._repeated or self._made is None or self._deep())
        self._made, self._inside = None, False
        try:
            own = (
                getattr(function, "__self__", None) is self.model
                and getattr(function, "__func__", None) is keras.Model.train_on_batch
            )
            with self._loop.off(), self._calls.of(self._step):
                result = self._updated(self._step, lambda: function(*arguments, **named), own)
            if self._generator is None:
                self._batch = self._step.batch
            else:
                self._step.check(self._batch)
        finally:
            self._step = None
        return result

    def _updated(self, step: Step, function: Callable[[], Any], own: bool) -> Any:
        if self._generator is not None and self._deep():
            self._loss.assign(np.nan)
            update = Update()
            result = self._see(update, function, back=False)
            # A function of the user's own may not ask the model for its loss.
            self._end(update, loss_of(result) if np.isnan(self._loss.numpy()) else self._loss.value())
            return result
        begun = self._begin(function, own)
        aside, step.batch = step.batch, []
        self._inside = True
        try:
            result = function()
        finally:
            self._inside = False
        step.check(aside)
        if self._made is None:  # no function of the model's own made it
            self._end(begun, loss_of(result))
        return result

    def saved(self) -> Any:
        return self._held.saved()

    def go_to(self, saved: Any) -> None:
        self._held.go_to(saved)

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        self._held.load(params, slots)

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
            self._repeated, self._generator = True, np.random.default_rng(seed)
        try:
            yield
        finally:
            self._told, self._generator, self._made = before, None, made
            self.go_to(saved)
            self.draw_from(drawn)

    def stir(self) -> None:
        assert self._generator is not None
        for v in self._held.moves():
            v.assign(stir(np.asarray(v), self._generator, self.dtype))

    def _train(self, iterator: Any) -> Any:
        """Stand in the place of the model's own function of an update, or of several in one execution."""
        several = self.model.steps_per_execution
        if several == 1 or not hasattr(iterator, "get_next"):  # train_on_batch makes one, whatever was compiled
            return self._train_once(iterator)
        result = None
        for made in range(several):
            # Asked for more than it has, what is compiled would count an update before it fails.
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                if not made:
                    raise StopIteration
                break
            result = self._train_once(iter(tf.data.Dataset.from_tensors(batch.get_value())))
        return result

    def _train_once(self, iterator: Any) -> Any:
        taking: Any = nullcontext()
        if not hasattr(iterator, "get_next"):  # a generator of train_on_batch
            data = next(iterator)
            iterator = iter((data,))
            taking = self._step.taking(data) if self._step is not None else taking
        if self._inside:
            begun = self._begun
        elif self._deep():
            if hasattr(iterator, "get_next"):
                data = iterator.get_next()
                iterator = iter(tf.data.Dataset.from_tensors(data))
            begun = self._begin(lambda: self._train_step(data), own=True)
        else:
            begun = self._begin(lambda: None, own=True)
        with taking, self._loop.off(), self._one_at_a_time(), self._taking_loss():
            result = self._compiled(iterator)
        # What is compiled says it once, when it is traced.
        self._sees_loss |= self._asked or self._taped
        self._end(begun, self._loss.value() if self._sees_loss else loss_in(result))
        return result

    @contextmanager
    def _taking_loss(self) -> Iterator[None]:
        """Keep the loss that an update of the model's own asks the model for, or else a tape for the gradients of."""
        self._asked, self._taped = False, False

        def taken(target: Any) -> None:
            if not self._asked:
                loss = tf.add_n([tf.reduce_sum(tf.cast(each, self._loss.dtype)) for each in tf.nest.flatten(target)])
                (self._loss.assign_add if self._taped else self._loss.assign)(loss)
                self._taped = True

        with self._loop.taking(taken):
            yield

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Make one update in an execution."""
        several = self.model.steps_per_execution
        if several == 1:  # Keras takes its time to set an attribute of a model
            yield
            return
        self.model.steps_per_execution = 1
        try:
            yield
        finally:
            self.model.steps_per_execution = several

    def _begin(self, again: Callable[[], Any], own: bool) -> Update:
        """Begin an update; a deep one is made aside first, so that its layers are seen.

        ``own`` says that it is the model's, and changes nothing that this does not.
        """
        update = self._begun = Update()
        if not self._deep():
            return update
        update.learning_rate = self._rate()
        self._see(update, again, own=own)
        return update

    def _begin_of_loop(self) -> tuple[Update, Layers | None]:
        update = Update()
        if not self._deep():
            return update, None
        update.learning_rate, update.before = self._rate(), self.condition()
        return update, Layers(self.model, self._held.name, taps=False)

    def _end_of_loop(self, update: Update, seen: Layers | None) -> None:
        if seen is not None:
            self._keep(update, seen)
        self._end(update, update.loss)

    def _rate(self) -> float:
        return float(np.asarray(self.optimizer.learning_rate))

    def _see(self, update: Update, function: Callable[[], Any], back: bool = True, own: bool = False) -> Any:
        """Make an update so that its layers are seen, and keep what they give; then go ``back`` to where it began."""
        update.before = self.condition()
        seen = Layers(self.model, self._held.name, *(() if self._generator is None else (self._moved,)))
        self._seen = seen if self._generator is None else None
        try:
            with self._loop.off(), self._looking(back, own), seen.watching(self.optimizer):
                result = function()
        finally:
            self._seen = None
        self._keep(update, seen)
        return result

    def _keep(self, update: Update, seen: Layers) -> None:
        """Keep what was seen of an update's layers and gradients."""
        update.activations, update.activation_gradients = seen.activations, seen.gradients
        update.prediction, update.inputs, update.gradients = seen.prediction, seen.inputs, seen.of_params
        if self._generator is None:
            self._layers = seen.found
        seen.forget()

    @contextmanager
    def _looking(self, back: bool, own: bool) -> Iterator[None]:
        """Make an update, by the model's own function if the user's calls it; to go ``back``, leave no trace of it."""
        # Of what a known graph may change, copies are made when it is about to.
        some = own and self._look.knows
        self._saved = {} if some else self.saved()
        drawn = self.random()
        mine, self.model.train_function = getattr(self.model, "train_function", None), self._plain
        try:
            with changing(self._changes()):
                yield
        finally:
            self.model.train_function = mine
            if back and some:
                for v, value in self._saved.values():
                    v.assign(value)
            elif back:
                self.go_to(self._saved)
            if back:
                self.draw_from(drawn)
            self._saved = {}

    def _save(self, variable: Any) -> None:
        """Save a variable that is about to be changed aside."""
        self._saved.setdefault(id(variable), (variable, variable.numpy()))

    def _plain(self, iterator: Any) -> Any:
        if hasattr(iterator, "get_next"):
            return self._train_step(iterator.get_next())
        data = next(iterator)
        with self._step.taking(data) if self._step is not None else nullcontext():
            return self._train_step(data)

    def _train_step(self, data: Any) -> Any:
        """Make an update by the model's own step, in a graph if that shows the layers as well."""
        if self._seen is None:
            return self._make_step(data)
        # A graph leaves these as they are, unless it is known to change one, as a step of the user's own may.
        left = {id(v.value) for v in self._held.moves()}
        for v in self._held.every():
            if id(v) not in left:
                self._save(v)
        found = self._look.into(data, self._seen, self._save)
        if found is not None:
            return found[0]
        for v in self._held.every():
            self._save(v)
        return self._make_step(data)

    def _make_step(self, data: Any) -> Any:
        """Call the model's own step, which Keras hands None where a dataset has an empty optional."""
        found = keras.tree.map_structure(lambda x: None if isinstance(x, tf.experimental.Optional) else x, data)
        with self._taking_loss():
            return self.model.train_step(found)

    def _end(self, update: Update, loss: Any) -> None:
        update.loss = loss
        self._made = update
        self._told(update)

    def _changes(self) -> Callable[[Any], None]:
        return self._held.changes(beside=self._loss)

    def _moved(self, value: Any) -> Any:
        assert self._generator is not None
        if isinstance(value, np.ndarray):
            return stir(value, self._generator, value.dtype.name)
        if isinstance(value, tf.Tensor) and value.dtype.is_floating:
            return tf.constant(stir(value.numpy(), self._generator, value.dtype.name))
        return value
