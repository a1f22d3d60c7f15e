"""The scripts of the tutorial on MLPs and PyTorch's building blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.plain.listing import Loop, images, linear, sgd
from parity.spec import Case


def mlp_regression(case: Case) -> Loop:
    data, rule, initial = case.data(), sgd(case), case.initial()
    x, y = data.x, data.y
    w1, w2 = (np.vstack([initial[f"dense{n}/bias"], initial[f"dense{n}/kernel"]]) for n in (1, 2))

    def loop(epochs: int) -> float:
        ones, losses = np.ones((len(x), 1)), []
        for _ in range(epochs):
            rows = np.hstack((ones, x))
            z = rows.dot(w1)
            hidden = np.hstack((ones, np.maximum(z, 0)))
            prediction = hidden.dot(w2)
            losses.append(np.mean((prediction - y) ** 2))
            d_prediction = (2.0 / len(x)) * (prediction - y)
            d_w2 = hidden.T.dot(d_prediction)
            d_z = d_prediction.dot(w2.T)[:, 1:] * np.array(z > 0, dtype=float)
            d_w1 = rows.T.dot(d_z)
            d_w2 += rule.weight_decay * w2
            d_w1 += rule.weight_decay * w1
            np.subtract(w2, d_w2 * rule.learning_rate, out=w2)
            np.subtract(w1, d_w1 * rule.learning_rate, out=w1)
        return float(losses[-1])

    return loop


def mnist_mlp(case: Case) -> Loop:
    import torch

    layers = []
    for number in range(1, len(case.initial()) // 2 + 1):
        layers += [linear(case, f"dense{number}"), torch.nn.ReLU()]

    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.log_softmax = torch.nn.Sequential(*layers), torch.nn.LogSoftmax(dim=1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.log_softmax(self.layers(torch.reshape(x, (x.shape[0], -1))))

    rule = sgd(case)
    loader, model, loss_of = images(512, normalize=True), Mlp(), torch.nn.NLLLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rule.learning_rate, momentum=rule.momentum, weight_decay=rule.weight_decay
    )

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            summed = 0.0
            for x, y in loader:
                loss = loss_of(model(x), y)
                summed += loss.item()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return summed / len(loader)

    return loop
