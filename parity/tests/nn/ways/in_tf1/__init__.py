"""How TensorFlow 1 is asked: a graph for each question, run in a session; gradients by ``tf.gradients``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Arrays


def evaluate(
    call: Callable[..., Mapping[str, Any]],
    arrays: Arrays,
    configuration: Mapping[str, Any],
    trained: list[str],
    d_results: Arrays,
) -> tuple[Arrays, Arrays]:
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = {name: tf.placeholder(value.dtype, value.shape) for name, value in arrays.items()}
        results = dict(call(**tensors, **configuration))
        gradients = {}
        if trained and d_results:
            through = [results[name] for name in d_results]
            cotangents = [tf.constant(value) for value in d_results.values()]
            found = tf.gradients(through, [tensors[name] for name in trained], cotangents)
            gradients = {name: tf.convert_to_tensor(value) for name, value in zip(trained, found, strict=True)}
        session.run(tf.global_variables_initializer())
        return session.run((results, gradients), {tensors[name]: value for name, value in arrays.items()})
