"""Loops as Keras's users write them: each is recorded as it is, and keeps every bit, or is refused with what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import FLOOR
from parity.recording.reader import read
from parity.recording.steps import steps_of

BATCHES, BATCH, CLASSES = 5, 8, 3
Watch = Callable[..., Any]
"""Called with what is to be watched; gives a context manager, and None in it where nothing is watched."""


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    count = BATCHES * BATCH
    return rng.normal(size=(count, 6, 2)).astype(np.float32), rng.integers(0, CLASSES, count)


def batches() -> list[tuple[Any, Any]]:
    x, y = data()
    return [(x[k : k + BATCH], y[k : k + BATCH]) for k in range(0, len(x), BATCH)]


def network(kind: Any = None) -> Any:
    """A convolution, a block whose input three things use, BatchNorm and Dropout."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((6, 2))
    h = layers.Conv1D(4, 3, padding="same", name="conv")(inputs)
    h = layers.BatchNormalization(name="norm")(h)
    h = layers.ReLU(name="relu")(h)
    h = layers.Add(name="add")([layers.Dense(4, name="one")(h), layers.Dense(4, name="two")(h), h])
    h = layers.Dropout(0.2, name="drop")(layers.Flatten(name="flat")(h))
    return (kind or keras.Model)(inputs, layers.Dense(CLASSES, name="out")(h), name="network")


def loss_function() -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fitted(watch: Watch, steps: int = 1, **compiling: Any) -> tuple[Any, Any]:
    """Fit with metrics, validation data and callbacks, for two epochs."""
    import keras

    model, (x, y) = network(), data()
    model.compile(
        keras.optimizers.Adam(0.01), loss_function(), metrics=["accuracy"], steps_per_execution=steps, **compiling
    )
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True),
    ]
    with watch(model):
        told = model.fit(
            *(x, y, BATCH), epochs=2, verbose=0, shuffle=False, callbacks=callbacks, validation_data=(x[:9], y[:9])
        )
    return model, told.history


def on_batches(watch: Watch) -> tuple[Any, Any]:
    """Hand train_on_batch to step, with metrics, and evaluate between."""
    model, losses = network(), []
    model.compile("adam", loss_function(), metrics=["accuracy"])
    with watch(model) as run:
        for x, y in batches():
            losses.append(run.step(model.train_on_batch, x, y) if run else model.train_on_batch(x, y))
            model.test_on_batch(x, y)
    return model, losses


def own_model(**how: Any) -> Any:
    """A model with a train_step of its own, which asks for no compute_loss, and keeps an average of its weights."""
    import keras
    import tensorflow as tf

    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            kernel = self.trainable_variables[0]
            with tf.GradientTape() as tape:
                loss = loss_function()(y, self(x, training=True))
            if how.get("tape", True):
                gradients = tape.gradient(loss, self.trainable_variables)
            else:
                gradients = [tf.sign(v) for v in self.trainable_variables]
            self.optimizer.apply(gradients, self.trainable_variables)
            average.assign(0.9 * average + 0.1 * kernel)
            tracker.update_state(loss)
            return {"loss": tracker.result()} if how.get("names", True) else {"other": tracker.result()}

    tracker = keras.metrics.Mean(name="loss")
    model = network(Own)
    average = tf.Variable(model.trainable_variables[0].numpy())
    model.averages = [average]
    return model


def own_train_step(watch: Watch, **how: Any) -> tuple[Any, Any]:
    model, (x, y) = own_model(**how), data()
    model.compile("sgd")
    with watch(model):
        model.fit(x, y, BATCH, verbose=0, shuffle=False)
    return model, model.averages[0].numpy().tolist()


def own_loop(watch: Watch, closure: bool = False) -> tuple[Any, Any]:
    """An eager loop, which evaluates between."""
    import keras
    import tensorflow as tf

    model, losses = network(), []
    optimizer, loss_of = keras.optimizers.SGD(0.05, 0.9), loss_function()

    def update(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    with watch(model, optimizer) as run:
        for x, y in batches():
            losses.append(float(run.step(update, x, y) if run and closure else update(x, y)))
            loss_of(y, model(x, training=False))
    return model, losses


def accumulated(watch: Watch) -> tuple[Any, Any]:
    """An eager loop that adds up the gradients of half batches, and clips them."""
    import keras
    import tensorflow as tf

    model, losses = network(), []
    optimizer, loss_of = keras.optimizers.Adam(0.01), loss_function()
    with watch(model, optimizer):
        for x, y in batches():
            added, total = [tf.zeros_like(v) for v in model.trainable_variables], 0.0
            for half in range(2):
                with tf.GradientTape() as tape:
                    loss = loss_of(y[half::2], model(x[half::2], training=True)) / 2
                gradients = tape.gradient(loss, model.trainable_variables)
                added, total = [a + g for a, g in zip(added, gradients, strict=True)], total + loss
            optimizer.apply(tf.clip_by_global_norm(added, 0.1)[0], model.trainable_variables)
            losses.append(float(total))
    return model, losses


def compiled_step(watch: Watch) -> tuple[Any, Any]:
    """A compiled function of the loop's own, with a metric, an average of the weights and a branch for AutoGraph."""
    import keras
    import tensorflow as tf

    model, losses = network(), []
    optimizer, loss_of, metric = keras.optimizers.Adam(0.01), loss_function(), keras.metrics.Mean()
    average, count = tf.Variable(model.trainable_variables[0].numpy()), tf.Variable(0)

    @tf.function
    def update(x: Any, y: Any) -> Any:
        if tf.reduce_sum(x) > 0:
            x = 2 * x
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        average.assign_sub(0.1 * (average - model.trainable_variables[0]))
        count.assign_add(1)
        metric.update_state(loss)
        return loss

    with watch(model, optimizer) as run:
        for x, y in batches():
            losses.append(float(run.step(update, x, y) if run else update(x, y)))
    return model, [losses, average.numpy().tolist(), int(count), float(metric.result())]


LOOPS: dict[str, Callable[[Watch], tuple[Any, Any]]] = {
    "fit": fitted,
    "fit-jit": lambda watch: fitted(watch, jit_compile=True),
    "fit-eagerly": lambda watch: fitted(watch, run_eagerly=True),
    "fit-two-at-once": lambda watch: fitted(watch, steps=2),
    "fit-two-at-once-jit": lambda watch: fitted(watch, steps=2, jit_compile=True),
    "train-on-batch": on_batches,
    "train-step": own_train_step,
    "train-step-by-name": lambda watch: own_train_step(watch, tape=False),
    "loop": own_loop,
    "loop-step": lambda watch: own_loop(watch, closure=True),
    "accumulated": accumulated,
    "compiled-step": compiled_step,
}


def run_of_each(folder: str) -> dict[str, Any]:
    """Called where Keras is: every loop watched and not, and what it says of itself."""
    from parity.watching import watch

    found: dict[str, Any] = {"folder": folder}
    for name, loop in LOOPS.items():
        plain, said = loop(lambda *watched: nullcontext())
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            seen, mine = loop(lambda *watched, name=name: watch(Path(folder, name), *watched, deep=3, shadows=2))
        same = [np.array_equal(a, b) for a, b in zip(plain.get_weights(), seen.get_weights(), strict=True)]
        warned_of = [str(each.message) for each in warned if "recording" in str(each.message)]
        found[name] = {"state": all(same), "said": said == mine, "plain": said, "warned": warned_of}
    return found


@pytest.mark.asks(question=run_of_each, framework="keras")
@pytest.mark.parametrize("name", list(LOOPS))
class TestLoops:
    def test_watching_changes_no_bit_of_the_run(self, name: str, answer: dict[str, Any]) -> None:
        assert answer[name]["state"]
        assert answer[name]["said"]
        assert not answer[name]["warned"]

    def test_every_update_is_recorded(self, name: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], name))
        assert run.loss.shape == (2 * BATCHES if name.startswith("fit") else BATCHES, 1)
        assert np.isfinite(run.loss).all()
        assert len(np.unique(run.loss)) == run.loss.size
        steps = steps_of(run)
        assert len(steps) == 3
        for index, step in enumerate(steps):
            assert {"conv/kernel", "out/bias"} <= set(step.gradients)
            assert {"conv", "norm", "relu", "add", "drop", "out"} <= set(step.activations)
            assert np.isfinite(run.steps[f"{index}/learning_rate"])
            if name != "train-step-by-name":
                assert {"conv", "add", "out"} <= set(step.activation_gradients)
        closure = name in ("train-on-batch", "loop-step", "compiled-step")
        assert Path(answer["folder"], name, FLOOR).is_file() == closure


@pytest.mark.asks(question=run_of_each, framework="keras")
class TestWhatIsRecorded:
    def test_a_loop_that_stays_as_it_is_records_what_a_step_records(self, answer: dict[str, Any]) -> None:
        loop, step = (read(Path(answer["folder"], name)) for name in ("loop", "loop-step"))
        assert loop.meta["layers"] == step.meta["layers"]
        assert set(loop.steps) == {name for name in step.steps if "/strays/" not in name}
        for name, value in loop.steps.items():
            np.testing.assert_allclose(value, step.steps[name], rtol=1e-5, atol=1e-6, err_msg=name)

    def test_losses_are_those_of_each_batch(self, answer: dict[str, Any]) -> None:
        for name in ("loop", "loop-step", "accumulated"):
            losses = read(Path(answer["folder"], name)).loss.ravel()
            np.testing.assert_array_equal(losses, np.float32(answer[name]["plain"]), err_msg=name)
        folder = Path(answer["folder"])
        one, two = (read(folder / name).loss for name in ("fit", "fit-two-at-once"))
        np.testing.assert_array_equal(one, two)

    def test_the_losses_of_a_train_step_of_one_s_own_are_no_running_mean(self, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], "train-step"))
        for loss, step, (_, labels) in zip(run.loss.ravel(), steps_of(run), batches(), strict=False):
            logits = np.float64(step.prediction)
            found = np.log(np.exp(logits).sum(1)) - logits[np.arange(BATCH), labels]
            assert loss == pytest.approx(found.mean(), rel=1e-5)


def refusals(folder: str) -> dict[str, Any]:
    """Called where Keras is: what is refused, and of what is warned, each with its words."""
    import keras
    import tensorflow as tf

    from parity.watching import watch

    said: dict[str, Any] = {}

    def hear(name: str, way: Callable[[Any, Any, Any, Watch], None]) -> None:
        model, optimizer, loss_of = network(), keras.optimizers.SGD(0.05), loss_function()

        def update(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        def watching(*watched: Any, **how: Any) -> Any:
            return watch(Path(folder, name), *watched, **({"deep": 1, "shadows": 1} | how))

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                way(model, optimizer, update, watching)
            except ValueError as error:
                said[name] = str(error)
            else:
                said[name] = [str(each.message) for each in warned if each.category is UserWarning]
        said[f"{name} leaves nothing behind"] = not {"compute_loss", "make_train_function"} & set(vars(model)) and (
            "apply" not in vars(optimizer)
            and all(
                each.__module__.partition(".")[0] in ("keras", "tensorflow")
                for each in (keras.layers.Layer.__call__, tf.GradientTape.gradient, tf.Variable(0.0).assign)
            )
        )

    def second(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        other, both = keras.optimizers.Adam(), model.trainable_variables[:1]

        def too(x: Any, y: Any) -> Any:
            loss = update(x, y)
            other.apply([tf.ones_like(v) for v in both], both)
            return loss

        with watching(model, optimizer) as run:
            run.step(too, *batches()[0])

    def batches_within(given: Any, deep: int, compiled: bool) -> Any:
        def way(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
            iterator, made = iter(given()), tf.function(update) if compiled else update
            with watching(model, optimizer, deep=deep) as run:
                run.step(lambda: made(*next(iterator)))

        return way

    def as_tensors() -> Any:
        return tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)

    def iterator(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        with watching(model, optimizer) as run:
            run.step(lambda given: update(*next(given)), iter(batches()))

    def traced_within(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        with watching(model, optimizer):
            tf.function(update)(*batches()[0])

    def traced_before(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        made = tf.function(update)
        made(*batches()[0])
        with watching(model, optimizer):
            made(*batches()[1])

    def gradients_within(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        with watching(model, optimizer):
            optimizer.apply([tf.ones_like(v) for v in model.trainable_variables], model.trainable_variables)

    def compiled_within(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        model.compile(optimizer, loss_function())
        with watching(model):
            model.compile("adam", loss_function())
            model.fit(*data(), verbose=0)

    def compiled_with_the_same(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        with watching(model, optimizer):
            model.compile(optimizer, loss_function())
            model.fit(*data(), BATCH, verbose=0)

    def nothing(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        with watching(model, optimizer):
            pass

    def no_loss(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
        own_train_step(watching, tape=False, names=False)

    def on(backend: str) -> Any:
        def way(model: Any, optimizer: Any, update: Any, watching: Watch) -> None:
            before, keras.backend.backend = keras.backend.backend, lambda: backend
            try:
                watching(model, optimizer)
            finally:
                keras.backend.backend = before

        return way

    hear("a second optimizer", second)
    hear("tensors drawn within", batches_within(as_tensors, 1, compiled=False))
    hear("tensors drawn within and compiled", batches_within(as_tensors, 1, compiled=True))
    hear("arrays drawn within", batches_within(batches, 1, compiled=True))
    hear("arrays drawn within, in a shadow", batches_within(batches, 0, compiled=True))
    hear("an iterator", iterator)
    hear("traced within", traced_within)
    hear("traced before", traced_before)
    hear("no tape", gradients_within)
    hear("compiled within", compiled_within)
    hear("compiled with the same", compiled_with_the_same)
    hear("nothing", nothing)
    hear("no loss", no_loss)
    hear("jax", on("jax"))
    hear("torch", on("torch"))
    return {"folder": folder, "said": said}


WORDS = {
    "a second optimizer": "by another optimizer, Adam, than the watched SGD",
    "tensors drawn within": "take the batch before, and hand it over",
    "tensors drawn within and compiled": "take the batch before, and hand it over",
    "arrays drawn within": "take the batch before, and hand it over",
    "arrays drawn within, in a shadow": "take the batch before, and hand it over",
    "an iterator": "step was handed an iterator",
    "traced within": "run.step(update, x, y)",
    "no tape": "no eager tf.GradientTape around the watched model gave",
    "no loss": "return the loss of the batch, as in {'loss': loss}",
    "jax": "Keras runs on jax, and is watched on TensorFlow alone: set KERAS_BACKEND=tensorflow",
    "torch": "watch the model and that optimizer",
}


@pytest.mark.asks(question=refusals, framework="keras")
class TestRefusals:
    @pytest.mark.parametrize("name", list(WORDS))
    def test_what_cannot_be_watched_is_refused_with_what_to_do(self, name: str, answer: dict[str, Any]) -> None:
        assert isinstance(answer["said"][name], str), answer["said"][name]
        assert WORDS[name] in answer["said"][name]

    @pytest.mark.parametrize("name", ["nothing", "traced before", "compiled within"])
    def test_an_empty_recording_warns_of_what_to_write(self, name: str, answer: dict[str, Any]) -> None:
        heard = answer["said"][name]
        assert any("holds the initial state alone" in each and "run.step(update, x, y)" in each for each in heard), (
            heard
        )
        assert any("compile it before parity.watch" in each for each in heard) == (name == "compiled within")
        assert not read(Path(answer["folder"], name)).loss.size

    def test_compiled_again_with_its_own_optimizer_is_recorded(self, answer: dict[str, Any]) -> None:
        assert answer["said"]["compiled with the same"] == []
        assert read(Path(answer["folder"], "compiled with the same")).loss.size == BATCHES

    def test_nothing_is_left_behind(self, answer: dict[str, Any]) -> None:
        left = {name: each for name, each in answer["said"].items() if name.endswith("leaves nothing behind")}
        assert left
        assert all(left.values()), left
