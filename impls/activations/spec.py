"""Activation functions and their derivatives: the two-panel figure of the tutorial on MLPs and PyTorch's building
blocks, section on activation functions.

    relu(x) = max(0, x)          relu'(x) = 1 where x > 0, else 0
    sigmoid(x) = 1 / (1 + e⁻ˣ)   sigmoid'(x) = sigmoid(x) (1 - sigmoid(x))
    tanh(x)                      tanh'(x) = 1 - tanh(x)²

at 1,024 points on [-4, 4]. The source trains nothing and prints no figures. To be held against each other like any
other run, the functions become a model with two parameters a point, for each function f

    prediction = scale · f(x + shift)        scale = 1, shift = 0

whose loss is the sum of all predictions. Its gradient with respect to ``shift`` is f'(x) and that with respect to
``scale`` is f(x), so that one step of gradient descent at a rate of 1 writes both into the trajectory, point by
point: shift = -f'(x), scale = 1 - f(x). All points are one row of data, (1, 1024): rows are what a noise floor may
permute, and the parameters belong to places. The targets are never read.

Nothing in it is rough: the points stay away from relu's kink at 0, the nearest by 0.004.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fixtures import frozen, synthetic
from parity.spec import Case, Dataset, Display, FullBatch, Loss, Params, Publication, Sgd
from parity.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FUNCTIONS = {"relu": r"\mathrm{ReLU}(x)", "sigmoid": r"\sigma(x)", "tanh": r"\tanh(x)"}
"""The functions by name, in the order of the last axis of the prediction, and how the figure writes them."""


def points() -> Dataset:
    """All points as one row, (1, 1024)."""
    return frozen.dataset(synthetic.activation_points().x.T, np.zeros((1, 1)))


def initial(count: int = 1024) -> Params:
    """``<function>/shift`` zeros and ``<function>/scale`` ones, (count,) each."""
    return frozen.params(
        {f"{name}/shift": np.zeros(count) for name in FUNCTIONS}
        | {f"{name}/scale": np.ones(count) for name in FUNCTIONS}
    )


def plot(runs: Mapping[str, Trajectory]) -> "Figure":
    """The source's figure from what was recorded: the functions, and beside them their derivatives."""
    from matplotlib.figure import Figure

    x = points().x[0]
    figure = Figure((16, 5), layout="constrained")
    values, derivatives = figure.subplots(1, 2)
    # Equal lines cover each other: each run is drawn thinner than the one before.
    for width, run in zip(range(2 * len(runs), 0, -2), runs.values(), strict=True):
        for colour, (name, formula) in enumerate(FUNCTIONS.items()):
            style = {"color": f"C{colour}", "linewidth": width, "alpha": 1 if len(runs) == 1 else 0.6}
            legend = width == 2
            values.plot(x, 1 - run.params[f"{name}/scale"][-1], label=f"${formula}$" if legend else None, **style)
            derivatives.plot(
                x,
                -run.params[f"{name}/shift"][-1],
                label=rf"$\frac{{\partial}}{{\partial x}}{formula}$" if legend else None,
                **style,
            )
    for axes in (values, derivatives):
        axes.set_ylim(-1.1, 1.1)
        axes.set_xlabel("x")
        axes.grid(True)
        axes.legend(fontsize="x-large")
    figure.suptitle("Activation functions and their derivatives: " + ", ".join(runs))
    return figure


CASES = (
    Case(
        name="activations",
        data=points,
        initial=initial,
        loss=Loss("total", "sum"),
        optimizer=Sgd(learning_rate=1.0),
        schedule=FullBatch(),
        epochs=1,
        publication=Publication("Tutorial on MLPs and PyTorch's building blocks, activation functions"),
        display=Display(plot=plot),
    ),
)
