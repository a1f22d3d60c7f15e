"""Linear regression, ŷ = x W + b, five times on data that lie on the plane x₁ + 2 x₂ + 4 x₃ + 3 up to a millionth.

The README of Xaleed/Pytorch trains it with torch on the summed squared error (``linear-regression``), by gradient
descent on the mean, in NumPy, the bias as the weight of a column of ones (``linear-gd``), and states three rules of
stochastic gradient descent, θ ← θ - t ∇f_I(θ), that differ in nothing but the rows I of step k:

    randomized  I = {i}, i uniform at random      (``linear-sgd-randomized``)
    cyclic      I = {1}, {2}, …, {m}, {1}, …      (``linear-sgd-cyclic``)
    mini-batch  I = b rows at random, f_I a mean  (``linear-minibatch``)

The column of ones is a way of writing: its weight is ``dense/bias`` in every implementation's layout.
"""

from fixtures import synthetic, weights
from parity.spec import (
    Case,
    CyclicRow,
    FullBatch,
    Loss,
    Params,
    Policy,
    Publication,
    RandomRow,
    RandomRows,
    Schedule,
    Sgd,
)

SOURCE = "README of Xaleed/Pytorch"


def zeros() -> Params:
    return weights.zeros(3, 1)


def stochastic(name: str, section: str, schedule: Schedule, step_size: float) -> Case:
    """A run under one of the three rules: ten passes' worth of rows, which end within 1e-6 of the plane.

    The README gives no step size, length or b. A step of .01 is a tenth of what a single row bears (its squared
    length is at most 10, ones included); ten rows at a time make a tenth of the updates, each with ten times the step.
    """
    return Case(
        name=name,
        data=synthetic.linear,
        initial=zeros,
        loss=Loss("squared_error", "mean"),
        optimizer=Sgd(step_size),
        schedule=schedule,
        epochs=10,
        publication=Publication(f"{SOURCE}, {section}; step size and length are ours"),
        policy=Policy(
            reason="the losses fall to 1e-12 and their float32 tolerance to 1e-7, what is left of the roundings of "
            "half way; the end is held by the parameters",
        ),
    )


CASES = (
    Case(
        name="linear-regression",
        data=synthetic.linear,
        initial=weights.linear_regression,
        loss=Loss("squared_error", "sum"),
        optimizer=Sgd(learning_rate=1e-4),
        schedule=FullBatch(),
        epochs=500,
        publication=Publication(f"{SOURCE}, Linear Regression Model"),
        policy=Policy(
            reason="the loss falls from 3e3 to 2e-5 and its float32 tolerance from .01 to 3e-4, what is left of the "
            "roundings of half way; the end is held by the parameters",
        ),
    ),
    Case(
        name="linear-gd",
        data=synthetic.linear_large,
        initial=zeros,
        loss=Loss("squared_error", "mean"),
        optimizer=Sgd(learning_rate=1e-4),
        schedule=FullBatch(),
        epochs=1000,
        publication=Publication(f"{SOURCE}, Gradient Descent Algorithm"),
    ),
    stochastic("linear-sgd-randomized", "Stochastic Gradient Descent", RandomRow(seed=21), 0.01),
    stochastic("linear-sgd-cyclic", "Stochastic Gradient Descent", CyclicRow(), 0.01),
    stochastic("linear-minibatch", "mini-batch stochastic gradient descent", RandomRows(10, seed=22), 0.1),
)
