"""The script that the post of 2024-09-18 writes as a graph of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow

from parity.tests.documents.listings import Array, Listing, Script, flowers

tf = tensorflow.compat.v1


def minibatches(x: Array, y: Array, batch_size: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Batches of whole size in an order that a generator of that seed shuffles anew at every call."""
    rows = np.arange(x.shape[0])
    np.random.RandomState(seed).shuffle(rows)
    for start in range(0, rows.shape[0] - batch_size + 1, batch_size):
        chosen = rows[start : start + batch_size]
        yield x[chosen], y[chosen]


def iris(dtype: str) -> Script:
    x_train, y_train, x_test, y_test = flowers()
    kind, script, graph = tf.as_dtype(dtype), Script(), tf.Graph()
    with graph.as_default():
        x = tf.placeholder(dtype=kind, shape=[None, 2], name="inputs")
        y = tf.placeholder(dtype=kind, shape=[None], name="targets")
        weights = tf.Variable(tf.zeros(shape=[2, 1], dtype=kind), name="weights")
        bias = tf.Variable([[0.0]], dtype=kind, name="bias")
        p = tf.reshape(tf.sigmoid(tf.matmul(x, weights) + bias), [-1])
        one = tf.constant(1.0, kind)
        cost = tf.reduce_mean(tf.reduce_sum((-y * tf.math.log(p)) - ((one - y) * tf.math.log(one - p))), name="cost")
        # A plain .05 would pass through float32 where the run does not.
        train = tf.train.GradientDescentOptimizer(learning_rate=tf.constant(0.05, kind)).minimize(cost, name="train")
        right = tf.reduce_mean(tf.cast(tf.equal(y, tf.round(p)), tf.float64), name="accuracy")
        start = tf.global_variables_initializer()
    with tf.Session(graph=graph) as session:
        session.run(start)

        def see(epoch: int) -> tuple[float, float]:
            accuracies = [session.run(right, {x: rows, y: of}) for rows, of in ((x_train, y_train), (x_test, y_test))]
            kernel, offset = session.run([weights, bias])
            params = {"dense/kernel": kernel, "dense/bias": offset[0]}
            script.see(epoch, params, train_accuracy=accuracies[0], valid_accuracy=accuracies[1])
            return accuracies[0], accuracies[1]

        total, count = np.nan, 1
        for epoch in range(15):
            trained, valid = see(epoch)
            line = f"Epoch: {epoch:03d} | AvgCost: {total / count:.3f} | Train/Valid ACC: {trained:.2f}/{valid:.2f}"
            script.lines.append(line)
            total, costs = 0.0, []
            for x_batch, y_batch in minibatches(x_train, y_train, batch_size=10, seed=123):
                _, value = session.run([train, cost], {x: x_batch, y: y_batch})
                costs.append(float(value))
                total += value
                count += 1
            script.losses.append(costs)
        see(15)
    return script


LISTINGS: Mapping[str, Listing] = {"iris-logistic-minibatch": iris}
