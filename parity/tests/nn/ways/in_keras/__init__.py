"""How Keras is asked, on TensorFlow: functions of tensors, and their gradients by a tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parity.tests.nn.conformance import Arrays


def evaluate(
    call: Callable[..., Mapping[str, Any]],
    arrays: Arrays,
    configuration: Mapping[str, Any],
    trained: list[str],
    d_results: Arrays,
) -> tuple[Arrays, Arrays]:
    tensors = {name: tf.constant(value) for name, value in arrays.items()}
    wanted = [tensors[name] for name in trained]
    with tf.GradientTape() as tape:
        for tensor in wanted:
            tape.watch(tensor)
        results = call(**tensors, **configuration)
        through = [results[name] for name in d_results]
    gradients = {}
    if trained and d_results:
        found = tape.gradient(through, wanted, [tf.constant(value) for value in d_results.values()])
        gradients = {name: np.asarray(tf.convert_to_tensor(value)) for name, value in zip(trained, found, strict=True)}
    return {name: np.asarray(value) for name, value in results.items()}, gradients


def applied(layer: Any, x: Any, *weights: Any, **call: Any) -> tuple[Any, list[Any]]:
    """A layer called with these weights, in its own order, and what becomes of them; gradients reach them."""
    layer.build(x.shape)
    given = iter(weights)
    trained = [next(given) for _ in layer.trainable_variables]
    # What a layer draws random numbers with is a variable of it, too.
    others = [one.value if "seed" in one.path else next(given) for one in layer.non_trainable_variables]
    assert not list(given)
    return layer.stateless_call(trained, others, x, **call)


def there(*weights: Any) -> tuple[Any, ...]:
    """The weights that a layer has."""
    return tuple(weight for weight in weights if weight is not None)


@contextmanager
def in_float64() -> Iterator[None]:
    """What Keras makes without being told a dtype, such as a learning rate, is float64 here."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before)
