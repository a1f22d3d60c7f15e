"""A small residual network on small handwritten digits. It is beyond the documents: none of them has it.

    h = relu(norm(conv(image)))                                     (8, 8, 1) -> (8, 8, 6)
    block(h) = relu(norm2(conv2(relu(norm1(conv1(h))))) + shortcut(h))
    h = block2(block1(h))                                           (8, 8, 6) -> (8, 8, 6) -> (4, 4, 12)
    logits = mean over all places of h, times W, plus b             (12,) -> (10,)
    loss = mean over the batch of crossentropy(logits, y)

Convolutions are 3 × 3 without a bias, with one zero on every side: also at stride 2, where SAME would add zeros behind
alone. The second block has stride 2; its shortcut is a norm of a 1 × 1 convolution of stride 2, the first block's is h.

A norm is BatchNorm. Training takes mean and variance of the batch, a prediction the running ones, which each update
moves: running = .9 running + .1 of the batch. The case's running variance is the biased one, the mean of squares, as in
flax, Keras and TensorFlow; torch's own is n / (n - 1) times it. Only kernels decay.
"""

import numpy as np

from fixtures import mnist, weights
from parity.spec import Array, Case, Display, Loss, Metric, Policy, Sgd, Shuffled

EPSILON = 1e-5
MOMENTUM = 0.9
"""The share of the running statistics that stays at an update."""


def accuracy(logits: Array, y: Array) -> Array:
    """Share of images whose digit has the largest logit."""
    return np.mean(logits.argmax(-1) == y, -1)  # (snapshots, n, classes), (n,) -> (snapshots,)


CASES = (
    Case(
        name="resnet",
        data=mnist.small,
        initial=weights.resnet,
        loss=Loss("crossentropy", "mean"),
        optimizer=Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.01, decayed=("kernel",)),
        schedule=Shuffled(batch_size=32, seed=2),
        epochs=6,
        metrics=(Metric("train_accuracy", "train", accuracy), Metric("test_accuracy", "test", accuracy)),
        policy=Policy(
            float32_parameters="lockstep",
            reason="a ReLU whose input is near zero may be on in one run and off in another: the gradient then jumps, "
            "and BatchNorm hands the jump to the whole batch",
        ),
        display=Display(note="beyond the documents; the first images of MNIST, each the means of 3 × 3 pixels"),
        buffers=tuple(name for name in weights.resnet() if name.endswith(("/mean", "/variance"))),
    ),
)
