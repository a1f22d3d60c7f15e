"""Logistic regression: two runs of a tutorial post, and two of the README of Xaleed/Pytorch.

    p = 1 / (1 + exp(-(x W + b)))
    loss = sum or mean over the batch of  -y log p - (1 - y) log(1 - p)

The post of 2024-09-18, "Deep learning models implemented in pytorch and TF", section 1, writes the model four times:
in PyTorch with manual gradients, with autograd and as an ``nn.Module`` (one run, ``iris-logistic``), and as a TF1
graph (``iris-logistic-minibatch``). Rows, split, standardization and labels are the same in both. What a probability of
exactly one half counts for is not: ``>= .5`` in the first two, ``> .5`` in the module, ``tf.round`` in the graph.

The README, section "Logistic Regression", trains on labels that a model of the same form and a coin made
(``synthetic-logistic``). It prints the loss of every epoch and a test accuracy, but sets no seed and shows no output:
there is nothing to hold ours against. At its learning rate of 1e-4 the loss falls by 0.1 % in 100 epochs.

Its section "Examples from linkedin" says in one sentence that per-minute data of dogecoin over three months went
through logistic regression by stochastic gradient descent (``dogecoin-logistic``). It gives no data, no
hyper-parameters and no figures. The bars here are simulated, and the rest is our choice: what is asked is whether the
next minute closes higher, and the only thing to find is that a price bounces between bid and ask, good for some 53 %
of right answers. A CSV file of real bars can take their place.

In all four runs |x W + b| stays below 12, where float32 still tells p from 0 and 1. Beyond 17 it does not, which a
user's own bars may reach. ``torch-manual``, ``torch-autograd`` and ``tf1-session``, whose logarithms are as the post
has them, then give infinities or NaN and fail; ``keras-fit``, whose loss goes back to the logits, has another gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fixtures import bars, iris, synthetic, weights
from parity.spec import Array, Case, Display, FullBatch, Loss, Metric, Publication, Published, Sgd, Shuffled
from parity.trajectory import Trajectory

PYTORCH = "Deep learning models implemented in pytorch and TF (2024-09-18), section 1, PyTorch"
TENSORFLOW = "Deep learning models implemented in pytorch and TF (2024-09-18), section 1, Tensorflow"
README = "README of Xaleed/Pytorch"
FLOAT64 = "the same listing run in float64"


zeros = partial(weights.zeros, 2, 1)

# At zero weights every probability is exactly one half, so each run's rule for ties shows in its first accuracy.


def accuracy_half_is_one(p: Array, y: Array) -> Array:
    """Share of rows whose label is right where a probability of one half means class 1, as ``>= .5`` has it."""
    return np.mean((p >= 0.5) == y, (1, 2))  # (snapshots, n, 1), (n, 1) -> (snapshots,)


def accuracy_half_is_zero(p: Array, y: Array) -> Array:
    """Share of rows whose label is right where one half rounds to even, to class 0, as ``tf.round`` has it."""
    return np.mean(np.round(p) == y, (1, 2))


def accuracy_above_half(p: Array, y: Array) -> Array:
    """Share of rows whose label is right where one half means class 0, as ``> .5`` has it."""
    return np.mean((p > 0.5) == y, (1, 2))


MODULES = dict.fromkeys(("torch", "torch-optim"), accuracy_above_half)
"""The post's third way, an ``nn.Module``, counts otherwise than its first two."""


def cost(p: Array, y: Array) -> Array:
    """The loss of all rows together, logarithms clamped at -100 as torch's BCELoss has it."""
    with np.errstate(divide="ignore"):
        return -np.sum(y * np.maximum(np.log(p), -100) + (1 - y) * np.maximum(np.log1p(-p), -100), (1, 2))


def per_cent(metric: str) -> Callable[[Trajectory], Array]:
    return lambda run: 100 * run.metrics[metric]


def running_average(run: Trajectory) -> Array:
    """The post's AvgCost column: the sum of an epoch's losses over a batch count that starts at 1 and is never reset.

    After epoch e of 7 batches the divisor is 1 + 7e; before the first epoch the column is NaN.
    """
    batches = run.loss.shape[1]
    divisor = 1 + batches * np.arange(1, len(run.loss) + 1)
    return np.concatenate([[np.nan], run.loss.astype(np.float64).sum(1) / divisor])


def column(text: str, first_epoch: int) -> dict[int, str]:
    return dict(enumerate(text.split(), first_epoch))


def final_parameters(
    form: str, texts: tuple[str, str, str], source: str, epoch: int, **rule: Any
) -> tuple[Published, ...]:
    """The two weights and the bias, printed once after training."""
    places = (("weights[0]", "kernel", (0, 0)), ("weights[1]", "kernel", (1, 0)), ("bias", "bias", (0,)))
    return tuple(
        Published(quantity, {epoch: text}, form, f"params/dense/{role}", source, index, **rule)
        for (quantity, role, index), text in zip(places, texts, strict=True)
    )


CASES = (
    Case(
        name="iris-logistic",
        data=iris.standardized,
        initial=zeros,
        loss=Loss("binary_crossentropy", "sum"),
        optimizer=Sgd(learning_rate=0.1),
        schedule=FullBatch(),
        epochs=10,
        metrics=(
            Metric("train_accuracy", "train", accuracy_half_is_one, MODULES),
            Metric("train_cost", "train", cost),
            Metric("test_accuracy", "test", accuracy_half_is_one, MODULES),
        ),
        publication=Publication(
            PYTORCH,
            figures=(
                Published(
                    "Train ACC",
                    column("0.987 0.987 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000", 1),
                    "%.3f",
                    "metrics/train_accuracy",
                    PYTORCH,
                ),
                Published(
                    "Cost",
                    column("5.581 4.882 4.381 3.998 3.693 3.443 3.232 3.052 2.896 2.758", 1),
                    "%.3f",
                    "metrics/train_cost",
                    PYTORCH,
                ),
                *final_parameters("%.4f", ("4.2267", "-2.9613", "0.0994"), PYTORCH, 10),
                Published("Test set accuracy", {10: "100.00"}, "%.2f", per_cent("test_accuracy"), PYTORCH),
            ),
            log="Epoch: {epoch:03d} | Train ACC: {Train ACC} | Cost: {Cost}",
        ),
    ),
    Case(
        name="iris-logistic-minibatch",
        data=iris.standardized,
        initial=zeros,
        loss=Loss("binary_crossentropy", "sum"),
        optimizer=Sgd(learning_rate=0.05),
        schedule=Shuffled(batch_size=10, seed=123, reseed=True, keep_last=False),
        epochs=15,
        metrics=(
            Metric("train_accuracy", "train", accuracy_half_is_zero),
            Metric("valid_accuracy", "test", accuracy_half_is_zero),
        ),
        publication=Publication(
            TENSORFLOW,
            figures=(
                Published(
                    "AvgCost",
                    column(
                        "nan 4.221 1.225 0.610 0.376 0.259 0.191 0.148 0.119 0.098 0.082 0.070 0.061 0.053 0.047", 0
                    ),
                    "%.3f",
                    running_average,
                    TENSORFLOW,
                ),
                Published("Train", column("0.53" + 14 * " 1.00", 0), "%.2f", "metrics/train_accuracy", TENSORFLOW),
                Published("Valid", column("0.40" + 14 * " 1.00", 0), "%.2f", "metrics/valid_accuracy", TENSORFLOW),
                *final_parameters(
                    "%.8f",
                    ("3.31176686", "-2.40808702", "-0.01001291"),
                    TENSORFLOW,
                    15,
                    rule="floor",
                    dtypes=("float32",),
                ),
                *final_parameters(
                    "%.8f", ("3.31176722", "-2.40808684", "-0.01001282"), FLOAT64, 15, dtypes=("float64",)
                ),
            ),
            log="Epoch: {epoch:03d} | AvgCost: {AvgCost} | Train/Valid ACC: {Train}/{Valid}",
        ),
    ),
    Case(
        name="synthetic-logistic",
        data=synthetic.logistic,
        initial=weights.synthetic_logistic,
        loss=Loss("binary_crossentropy", "mean"),
        optimizer=Sgd(learning_rate=1e-4),
        schedule=FullBatch(),
        epochs=100,
        every=10,
        metrics=(Metric("accuracy", "test", accuracy_half_is_zero),),
        publication=Publication(f"{README}, Logistic Regression, with a created data set"),
    ),
    Case(
        name="dogecoin-logistic",
        data=bars.simulated,
        initial=partial(weights.zeros, len(bars.FEATURES), 1),
        loss=Loss("binary_crossentropy", "mean"),
        optimizer=Sgd(learning_rate=0.1),
        schedule=Shuffled(batch_size=1024, seed=123),
        epochs=10,
        metrics=(Metric("test_accuracy", "test", accuracy_half_is_one),),
        publication=Publication(f"{README}, Examples from linkedin"),
        display=Display(note=bars.NOTE),
        from_file=lambda file: bars.from_csv(str(file)),
    ),
)
