"""The scripts of the post of 2024-09-18, "Deep learning models implemented in pytorch and TF"."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.plain.listing import Loop, images, linear, logistic, sgd, tensors
from parity.spec import Adam, Case


def iris_logistic(case: Case) -> Loop:
    import torch

    x, y = tensors(case.data().x, case.data().y)
    model, cost_of = logistic(case), torch.nn.BCELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd(case).learning_rate)

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            cost = cost_of(model(x), y)
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            # Accuracy and cost after the update belong to the listing's every epoch.
            p = model(x)
            labels = (p > 0.5).float().view(-1)
            (torch.sum(labels == y.view(-1)).float() / y.size(0)).item()
            after = cost_of(p, y).item()
        return after

    return loop


def iris_minibatch(case: Case) -> Loop:
    import tensorflow

    tf = tensorflow.compat.v1
    data, rule = case.data(), sgd(case)
    assert data.x_test is not None
    assert data.y_test is not None
    train = {"x:0": data.x, "y:0": data.y[:, 0]}
    valid = {"x:0": data.x_test, "y:0": data.y_test[:, 0]}
    initial = case.initial()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, data.x.shape[1]], name="x")
        y = tf.placeholder(tf.float32, [None], name="y")
        kernel = tf.Variable(initial["dense/kernel"].astype(np.float32))
        bias = tf.Variable(initial["dense/bias"].astype(np.float32))
        p = tf.reshape(tf.sigmoid(tf.matmul(x, kernel) + bias), [-1])
        cost = tf.reduce_sum(-y * tf.math.log(p) - (1.0 - y) * tf.math.log(1.0 - p), name="cost")
        tf.train.GradientDescentOptimizer(rule.learning_rate).minimize(cost, name="train")
        tf.reduce_mean(tf.cast(tf.equal(y, tf.round(p)), tf.float32), name="accuracy")
        start = tf.global_variables_initializer()
    session = tf.Session(graph=graph)
    session.run(start)

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            session.run("accuracy:0", feed_dict=train)
            session.run("accuracy:0", feed_dict=valid)
            order = np.arange(len(data.x))
            np.random.RandomState(123).shuffle(order)
            for begin in range(0, len(order) - 9, 10):
                rows = order[begin : begin + 10]
                feed = {"x:0": data.x[rows], "y:0": data.y[rows, 0]}
                _, last = session.run(["train", "cost:0"], feed_dict=feed)
        return float(last)

    return loop


def mnist_softmax(case: Case) -> Loop:
    import torch
    import torch.nn.functional as F  # noqa: N812

    class Softmax(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(case)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.linear(x)
            return logits, F.softmax(logits, dim=1)

    loader, model = images(256, normalize=False), Softmax()
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd(case).learning_rate)

    def accuracy() -> float:
        right, seen = torch.tensor(0), 0
        for x, y in loader:
            _, p = model(x.view(-1, 784))
            right += (torch.max(p, 1)[1] == y).sum()
            seen += y.size(0)
        return (right.float() / seen * 100).item()

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            for x, y in loader:
                logits, _ = model(x.view(-1, 784))
                cost = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                cost.backward()
                optimizer.step()
            with torch.set_grad_enabled(False):
                accuracy()
        return cost.item()

    return loop


def char_gru(case: Case) -> Loop:
    import torch
    import torch.nn.functional as F  # noqa: N812

    from impls.char_gru.char_gru_torch import LAYOUT
    from parity.layout import to_framework

    assert isinstance(case.optimizer, Adam)
    initial = case.initial()
    size, hidden = initial["embedding/table"].shape

    class Characters(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(size, hidden)
            self.gru = torch.nn.GRU(hidden, hidden, num_layers=1)
            self.fc = torch.nn.Linear(hidden, size)
            self.init_hidden = torch.nn.Parameter(torch.zeros(1, 1, hidden))

        def forward(self, character: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            output, h = self.gru(self.embed(character.view(1, -1)).view(1, 1, -1), h)
            return self.fc(output.view(1, -1)), h

    model = Characters()
    start = {name: torch.tensor(value) for name, value in to_framework(LAYOUT, initial).items()}
    model.load_state_dict(start | {"init_hidden": torch.zeros(1, 1, hidden)})
    optimizer = torch.optim.Adam(model.parameters(), lr=case.optimizer.learning_rate)
    x, y = (torch.tensor(values) for values in (case.data().x, case.data().y))
    portions = [batches[0] for _, batches in zip(range(100), case.schedule.epochs(len(x)), strict=False)]

    def loop(epochs: int) -> float:
        for portion in portions[:epochs]:
            h = torch.zeros(1, 1, hidden)
            optimizer.zero_grad()
            inputs, targets = x[portion], y[portion]
            loss: Any = 0.0
            for place in range(len(portion)):
                output, h = model(inputs[place], h)
                loss += F.cross_entropy(output, targets[place].view(1))
            loss /= len(portion)
            loss.backward()
            optimizer.step()
        return loss.item()

    return loop
