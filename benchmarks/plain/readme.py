"""The scripts of the README of Xaleed/Pytorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.plain.listing import Loop, linear, logistic, sgd, tensors
from parity.spec import Case


def synthetic_logistic(case: Case) -> Loop:
    import torch

    x, y = tensors(case.data().x, case.data().y)
    model, loss_of = logistic(case), torch.nn.BCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd(case).learning_rate)

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    return loop


def linear_regression(case: Case) -> Loop:
    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(case)

        def forward(self, x: torch.Tensor) -> Any:
            return self.linear(x)

    x, y = tensors(case.data().x, case.data().y)
    model, loss_of = Linear(), torch.nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd(case).learning_rate)

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            loss = loss_of(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return loop


def linear_gd(case: Case) -> Loop:
    data, step_size = case.data(), sgd(case).learning_rate
    x, y = np.hstack([np.ones((len(data.x), 1)), data.x]), data.y

    def loop(epochs: int) -> float:
        theta = np.zeros((x.shape[1], 1))
        for _ in range(epochs):
            error = x.dot(theta) - y
            theta = theta - step_size * ((2 / len(x)) * x.T.dot(error))
        return float(np.mean(error**2))

    return loop


def sine_cubic(case: Case) -> Loop:
    import torch

    x, y = (values.view(-1) for values in tensors(case.data().x, case.data().y))
    step_size = sgd(case).learning_rate
    a, b, c, d = (values.view(()).requires_grad_() for values in tensors(*case.initial().values()))

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            prediction = a + b * x + c * x**2 + d * x**3
            loss = (prediction - y).pow(2).sum()
            loss.backward()
            with torch.no_grad():
                for p in (a, b, c, d):
                    p -= step_size * p.grad
                    p.grad = None
        return loss.item()

    return loop


def sine_legendre(case: Case) -> Loop:
    import torch

    class P3(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, z: torch.Tensor) -> torch.Tensor:
            context.save_for_backward(z)
            return 0.5 * (5 * z**3 - 3 * z)

        @staticmethod
        def backward(context: Any, d_output: torch.Tensor) -> torch.Tensor:
            (z,) = context.saved_tensors
            return d_output * 1.5 * (5 * z**2 - 1)

    x, y = (values.view(-1) for values in tensors(case.data().x, case.data().y))
    step_size = sgd(case).learning_rate
    a, b, c, d = (values.view(()).requires_grad_() for values in tensors(*case.initial().values()))

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            prediction = a + b * P3.apply(c + d * x)
            loss = (prediction - y).pow(2).sum()
            loss.backward()
            with torch.no_grad():
                for p in (a, b, c, d):
                    p -= step_size * p.grad
                    p.grad = None
        return loss.item()

    return loop
