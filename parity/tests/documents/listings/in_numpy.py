"""The scripts that the documents write in NumPy or state as formulas, and those that they leave to the reader."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from parity.tests.documents.listings import Array, Listing, Script, drawn, orders


def gradient_descent(dtype: str) -> Script:
    """README, "Gradient Descent Algorithm": 1000 rows, the bias as the weight of a column of ones."""
    x, y = (values.astype(dtype) for values in (drawn("linear-gd").data().x, drawn("linear-gd").data().y))
    x = np.hstack([np.ones((x.shape[0], 1), x.dtype), x])
    theta = np.zeros((x.shape[1], 1), dtype)
    epochs, rate, script = 1000, 0.0001, Script()
    script.see(0, plane(theta))
    for epoch in range(epochs):
        error = x.dot(theta) - y.reshape((x.shape[0], 1))
        script.losses.append([float(np.mean(error**2))])
        theta = theta - x.dtype.type(rate) * (x.dtype.type(2 / x.shape[0]) * x.T.dot(error))
        script.see(epoch + 1, plane(theta))
    return script


def plane(theta: Array) -> Mapping[str, Array]:
    return {"dense/bias": theta[0], "dense/kernel": theta[1:]}


def stochastic(dtype: str, case: str, rows_of: Mapping[int, list[Array]], rate: float) -> Script:
    """README, "Stochastic Gradient Descent": theta less t times the mean of the chosen samples' gradients.

    The README gives neither t nor the number of steps; the suite chose ten passes.
    """
    data = drawn(case).data()
    x, y = np.hstack([np.ones((100, 1)), data.x]).astype(dtype), data.y[:, 0].astype(dtype)
    theta, script, t = np.zeros(4, dtype), Script(), x.dtype.type(rate)
    script.see(0, plane(theta[:, None]))
    for epoch in range(10):
        losses = []
        for chosen in rows_of[epoch]:
            errors = [x[i] @ theta - y[i] for i in chosen]
            losses.append(float(sum(error**2 for error in errors) / len(chosen)))
            slopes = [2 * error * x[i] for error, i in zip(errors, chosen, strict=True)]
            theta = theta - t * (np.sum(slopes, axis=0, dtype=dtype) / x.dtype.type(len(chosen)))
        script.losses.append(losses)
        script.see(epoch + 1, plane(theta[:, None]))
    return script


def randomized(dtype: str) -> Script:
    """One of the m samples at random, m steps an epoch."""
    rows = {epoch: list(order.reshape(100, 1)) for epoch, order in enumerate(orders("linear-sgd-randomized", 10))}
    return stochastic(dtype, "linear-sgd-randomized", rows, 0.01)


def cyclic(dtype: str) -> Script:
    """Sample 1, 2, …, m, 1, 2, …, m."""
    return stochastic(dtype, "linear-sgd-cyclic", {epoch: list(np.arange(100)[:, None]) for epoch in range(10)}, 0.01)


def several_at_random(dtype: str) -> Script:
    """b = 10 samples at random, which is the suite's choice of b."""
    rows = {epoch: list(order.reshape(10, 10)) for epoch, order in enumerate(orders("linear-minibatch", 10))}
    return stochastic(dtype, "linear-minibatch", rows, 0.1)


def cubic(dtype: str) -> Script:
    """README, "Learning PyTorch with Examples": its first 2000 of 20,000 steps."""
    x = np.linspace(-math.pi, math.pi, 2000).astype(dtype)
    y = np.sin(np.linspace(-math.pi, math.pi, 2000)).astype(dtype)
    a, b, c, d = (value[0].astype(dtype) for value in drawn("sine-cubic").initial().values())
    rate, script = x.dtype.type(1e-6), Script()
    script.see(0, four("polynomial", a, b, c, d))
    for step in range(2000):
        predicted = a + b * x + c * x**2 + d * x**3
        loss = np.square(predicted - y).sum()
        script.losses.append([float(loss)])
        if step % 100 == 99:
            script.lines.append(f"{step} {loss}")
        slope = x.dtype.type(2.0) * (predicted - y)
        a, b = a - rate * slope.sum(), b - rate * (slope * x).sum()
        c, d = c - rate * (slope * x**2).sum(), d - rate * (slope * x**3).sum()
        script.see(step + 1, four("polynomial", a, b, c, d))
    return script


def four(layer: str, *values: Array) -> Mapping[str, Array]:
    return {f"{layer}/{name}": np.reshape(value, 1) for name, value in zip("abcd", values, strict=True)}


def perceptron(dtype: str) -> Script:
    """Tutorial, "A simple MLP with one hidden layer": biases as first rows, a penalty that the loss leaves out."""
    case = drawn("mlp-regression")
    n, features, hidden, outputs = 64, 10, 100, 1
    x, y = case.data().x.astype(dtype), case.data().y.astype(dtype)
    initial = {name: value.astype(dtype) for name, value in case.initial().items()}
    first = np.vstack([initial["dense1/bias"][None], initial["dense1/kernel"]])
    second = np.vstack([initial["dense2/bias"][None], initial["dense2/kernel"]])
    assert (x.shape, y.shape) == ((n, features), (n, outputs))
    assert (first.shape, second.shape) == ((features + 1, hidden), (hidden + 1, outputs))
    penalty, rate, script = x.dtype.type(0.5), x.dtype.type(1e-3), Script()
    ones = np.ones((n, 1), dtype)
    script.see(0, folded(first, second))
    for epoch in range(250):
        rows = np.hstack((ones, x))
        z = rows.dot(first)
        activations = np.hstack((ones, np.maximum(z, 0)))
        predicted = activations.dot(second)
        script.losses.append([float(np.mean((predicted - y) ** 2))])
        d_predicted = x.dtype.type(2.0 / n) * (predicted - y)
        d_second = activations.T.dot(d_predicted)
        d_z = d_predicted.dot(second.T)[:, 1:] * (z > 0).astype(dtype)
        d_first = rows.T.dot(d_z)
        second = second - (d_second + penalty * second) * rate
        first = first - (d_first + penalty * first) * rate
        script.see(epoch + 1, folded(first, second))
    return script


def folded(first: Array, second: Array) -> Mapping[str, Array]:
    return {
        "dense1/bias": first[0],
        "dense1/kernel": first[1:],
        "dense2/bias": second[0],
        "dense2/kernel": second[1:],
    }


def activations(dtype: str) -> Script:
    """Tutorial, "Plot some activation functions": functions and derivatives at 1,024 points of [-4, 4].

    The suite trains them: one step of rate 1 on the sum takes a function off its scale, its derivative off its shift.
    """
    x = np.linspace(-4, 4, num=1024).astype(dtype)
    sigmoid = 1 / (1 + np.exp(-x))
    tanh = (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))
    values = {"relu": np.maximum(0, x), "sigmoid": sigmoid, "tanh": tanh}
    slopes = {"relu": (values["relu"] > 0).astype(dtype), "sigmoid": sigmoid * (1 - sigmoid), "tanh": 1 - tanh**2}
    script = Script([[float(sum(value.sum(dtype=np.float64) for value in values.values()))]])
    one, zero = np.ones(1024, dtype), np.zeros(1024, dtype)
    script.see(0, {f"{name}/scale": one for name in values} | {f"{name}/shift": zero for name in values})
    after = {f"{name}/scale": one - value for name, value in values.items()}
    script.see(1, after | {f"{name}/shift": -slope for name, slope in slopes.items()})
    return script


def bars(dtype: str) -> Script:
    """README, "Examples from linkedin": one sentence, logistic regression by stochastic gradient descent.

    All numbers are the suite's choice.
    """
    data = drawn("dogecoin-logistic").data()
    x, y, x_test, y_test = (values.astype(dtype) for values in (data.x, data.y, data.x_test, data.y_test))
    assert (x.shape, x_test.shape) == ((90_697, 8), (38_871, 8))
    kernel, bias, rate, script = np.zeros((8, 1), dtype), np.zeros(1, dtype), x.dtype.type(0.1), Script()

    def probability(rows: Array) -> Array:
        return 1 / (1 + np.exp(-(rows @ kernel + bias)))

    def see(epoch: int) -> None:
        right = (probability(x_test) >= 0.5) == (y_test == 1)
        script.see(epoch, {"dense/kernel": kernel, "dense/bias": bias}, test_accuracy=right.mean())

    see(0)
    for epoch, order in enumerate(orders("dogecoin-logistic", 10), 1):
        losses = []
        for start in range(0, len(order), 1024):
            rows = order[start : start + 1024]
            p = probability(x[rows])
            losses.append(float(-np.mean(y[rows] * np.log(p) + (1 - y[rows]) * np.log(1 - p))))
            slope = (p - y[rows]) / x.dtype.type(len(rows))
            kernel, bias = kernel - rate * x[rows].T @ slope, bias - rate * slope.sum(0)
        script.losses.append(losses)
        see(epoch)
    return script


LISTINGS: Mapping[str, Listing] = {
    "linear-gd": gradient_descent,
    "linear-sgd-randomized": randomized,
    "linear-sgd-cyclic": cyclic,
    "linear-minibatch": several_at_random,
    "sine-cubic": cubic,
    "mlp-regression": perceptron,
    "activations": activations,
    "dogecoin-logistic": bars,
}
