"""A small residual network as a TF1 graph. BatchNorm's running statistics go in with the parameters and come out moved.

``v1.layers.batch_normalization`` is gone with Keras 3, and its moving averages were operations that one had to run.
"""

import tensorflow as tf

from impls.resnet.spec import EPSILON, MOMENTUM
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer


def layout(case: Case) -> Layout:
    return [Slot(name, name) for name in case.initial()]


def forward(params: Tensors, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, Tensors]:
    moved: dict[str, tf.Tensor] = {}

    def conv(h: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        kernel = params[f"{name}/kernel"]
        reach = [kernel.shape[0] // 2] * 2  # as many zeros on every side as the kernel reaches beyond its middle
        padded = tf.pad(h, [[0, 0], reach, reach, [0, 0]])
        return tf.nn.conv2d(padded, kernel, stride, "VALID")  # (n, h, w, in) -> (n, h / stride, w / stride, out)

    def norm(h: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = params[f"{name}/mean"], params[f"{name}/variance"]
        if training:
            own = tf.nn.moments(h, (0, 1, 2))  # (n, h, w, channels) -> (channels,)
            moved[f"{name}/mean"] = MOMENTUM * mean + (1 - MOMENTUM) * own[0]
            moved[f"{name}/variance"] = MOMENTUM * variance + (1 - MOMENTUM) * own[1]
            mean, variance = own
        return tf.nn.batch_normalization(h, mean, variance, params[f"{name}/bias"], params[f"{name}/scale"], EPSILON)

    def block(h: tf.Tensor, name: str, stride: int) -> tf.Tensor:
        a = tf.nn.relu(norm(conv(h, f"{name}/conv1", stride), f"{name}/norm1"))
        a = norm(conv(a, f"{name}/conv2"), f"{name}/norm2")
        if stride > 1:
            h = norm(conv(h, f"{name}/projection", stride), f"{name}/projection_norm")
        return tf.nn.relu(a + h)

    h = tf.nn.relu(norm(conv(x, "conv"), "norm"))  # (n, 8, 8, 1) -> (n, 8, 8, 6)
    h = block(block(h, "block1", 1), "block2", 2)  # (n, 8, 8, 6) -> (n, 4, 4, 12)
    h = tf.reduce_mean(h, (1, 2))  # (n, 4, 4, 12) -> (n, 12)
    return tf.matmul(h, params["dense/kernel"]) + params["dense/bias"], moved  # (n, 12) -> (n, 10)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, layout(case))
