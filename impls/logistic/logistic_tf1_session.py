"""Logistic regression as its source writes it in TensorFlow 1: a graph of named tensors, a cost of plain logarithms,
and one ``session.run`` a batch."""

from functools import partial

import tensorflow as tf
import tensorflow.compat.v1 as v1

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_session_trainer import Tf1SessionTrainer

LAYOUT = (
    Slot("dense/kernel", "weights"),
    Slot("dense/bias", "bias", index=0),  # (1,) -> (1, 1)
)


def forward(features: int, dtype: str) -> tf.Tensor:
    x = v1.placeholder(dtype, [None, features], name="inputs")
    # TensorFlow 1's own kind of variable, whose value is what "weights:0" gives.
    weights = v1.Variable(tf.zeros([features, 1], dtype), name="weights", use_resource=False)
    bias = v1.Variable([[0.0]], dtype=dtype, name="bias", use_resource=False)
    z = tf.matmul(x, weights) + bias  # (n, features) -> (n, 1)
    return tf.sigmoid(z, name="predict_probas")


def cost(p: tf.Tensor, y: tf.Tensor, reduction: str) -> tf.Tensor:
    # Unlike BCELoss, this does not clamp the logarithms: a probability of exactly 0 or 1 gives NaN, in the update too.
    losses = -y * tf.math.log(p) - (1 - y) * tf.math.log(1 - p)  # (n,)
    reduce = tf.reduce_sum if reduction == "sum" else tf.reduce_mean
    return tf.reduce_mean(reduce(losses), name="cost")  # the mean of one number, which has the name


def define(case: Case, dtype: str) -> None:
    y = v1.placeholder(dtype, [None], name="targets")
    p = tf.reshape(forward(len(case.initial()["dense/kernel"]), dtype), [-1])  # (n, 1) -> (n,)
    # A plain number would reach a float64 update through float32.
    learning_rate = tf.constant(case.optimizer.learning_rate, tf.float64)
    v1.train.GradientDescentOptimizer(learning_rate).minimize(cost(p, y, case.loss.reduction), name="train")

    labels = tf.round(p, name="predict_labels")  # half to even: a probability of one half is class 0
    tf.reduce_mean(tf.cast(tf.equal(y, labels), tf.float32), name="accuracy")


def build(case: Case, dtype: str, device: str) -> Tf1SessionTrainer:
    return Tf1SessionTrainer(case, dtype, device, LAYOUT, partial(define, case, dtype), prediction="predict_probas")
