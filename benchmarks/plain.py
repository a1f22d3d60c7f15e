"""What the documents' listings do for each case, as the plain scripts that they are: the peers of our training.

Every function takes a case, puts its data and initial parameters in place, untimed, and returns the loop. The loop
takes a number of epochs and gives back the last loss. It does what the listing's loop does, in the listing's
framework and precision and in its order; what only feeds a line that is printed now and then is left out with the
printing, and the accuracy that a listing takes after every epoch stays.

Images go through a ``DataLoader`` one by one, as a listing's transforms take them. Torchvision would make a PIL image
of each on the way, which is left out here, so that these loops are faster than the listings, not slower.

One process has one framework: each function imports its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.spec import Adam, Array, Case, Sgd

Loop = Callable[[int], float]


@dataclass(frozen=True)
class Listing:
    """A listing, the framework that it is written in, and what it trains with, in a few words."""

    framework: str
    way: str
    prepare: Callable[[Case], Loop]


def _sgd(case: Case) -> Sgd:
    assert isinstance(case.optimizer, Sgd)
    return case.optimizer


def _linear(case: Case, layer: str = "dense") -> Any:
    """A torch linear layer with the case's initial parameters."""
    import torch

    kernel, bias = (case.initial()[f"{layer}/{role}"] for role in ("kernel", "bias"))
    linear = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(kernel.T))
        linear.bias.copy_(torch.tensor(bias))
    return linear


def _float32(*arrays: Array) -> Iterator[Any]:
    import torch

    return (torch.tensor(array, dtype=torch.float32) for array in arrays)


def iris_logistic(case: Case) -> Loop:
    import torch

    class Logistic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = _linear(case)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.linear(x))

    x, y = _float32(case.data().x, case.data().y)
    model, cost_of = Logistic(), torch.nn.BCELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=_sgd(case).learning_rate)

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
    data, rule = case.data(), _sgd(case)
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


def synthetic_logistic(case: Case) -> Loop:
    import torch

    class Logistic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = _linear(case)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.linear(x))

    x, y = _float32(case.data().x, case.data().y)
    model, loss_of = Logistic(), torch.nn.BCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=_sgd(case).learning_rate)

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
            self.linear = _linear(case)

        def forward(self, x: torch.Tensor) -> Any:
            return self.linear(x)

    x, y = _float32(case.data().x, case.data().y)
    model, loss_of = Linear(), torch.nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=_sgd(case).learning_rate)

    def loop(epochs: int) -> float:
        for _ in range(epochs):
            loss = loss_of(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return loop


def linear_gd(case: Case) -> Loop:
    data, step_size = case.data(), _sgd(case).learning_rate
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

    x, y = (values.view(-1) for values in _float32(case.data().x, case.data().y))
    step_size = _sgd(case).learning_rate
    a, b, c, d = (values.view(()).requires_grad_() for values in _float32(*case.initial().values()))

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

    x, y = (values.view(-1) for values in _float32(case.data().x, case.data().y))
    step_size = _sgd(case).learning_rate
    a, b, c, d = (values.view(()).requires_grad_() for values in _float32(*case.initial().values()))

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


def mlp_regression(case: Case) -> Loop:
    data, rule, initial = case.data(), _sgd(case), case.initial()
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


def _images(batch_size: int, normalize: bool) -> Any:
    """A loader that converts image by image, as ``ToTensor`` and ``Normalize`` do, and shuffles."""
    import torch

    from fixtures import mnist

    data = mnist.scaled()
    pixels = np.round(data.x * 255).astype(np.uint8).reshape(-1, 28, 28)
    labels = torch.tensor(data.y)
    mean, deviation = torch.tensor([mnist.MEAN]).view(-1, 1, 1), torch.tensor([mnist.DEVIATION]).view(-1, 1, 1)

    class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            image = torch.from_numpy(pixels[place]).view(1, 28, 28).to(torch.float32).div(255)
            if normalize:
                image = image.clone().sub_(mean).div_(deviation)
            return image, int(labels[place])

    return torch.utils.data.DataLoader(Images(), batch_size=batch_size, shuffle=True)


def mnist_softmax(case: Case) -> Loop:
    import torch
    import torch.nn.functional as F  # noqa: N812

    class Softmax(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = _linear(case)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.linear(x)
            return logits, F.softmax(logits, dim=1)

    loader, model = _images(256, normalize=False), Softmax()
    optimizer = torch.optim.SGD(model.parameters(), lr=_sgd(case).learning_rate)

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


def mnist_mlp(case: Case) -> Loop:
    import torch

    layers = []
    for number in range(1, len(case.initial()) // 2 + 1):
        layers += [_linear(case, f"dense{number}"), torch.nn.ReLU()]

    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.log_softmax = torch.nn.Sequential(*layers), torch.nn.LogSoftmax(dim=1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.log_softmax(self.layers(torch.reshape(x, (x.shape[0], -1))))

    rule = _sgd(case)
    loader, model, loss_of = _images(512, normalize=True), Mlp(), torch.nn.NLLLoss()
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


LISTINGS: Mapping[str, Listing] = {
    "iris-logistic": Listing("torch", "nn.Module, BCELoss, optim.SGD", iris_logistic),
    "iris-logistic-minibatch": Listing("tensorflow", "TF1 graph, a session call a batch", iris_minibatch),
    "synthetic-logistic": Listing("torch", "nn.Module, BCELoss, optim.SGD", synthetic_logistic),
    "linear-regression": Listing("torch", "nn.Module, MSELoss, optim.SGD", linear_regression),
    "linear-gd": Listing("numpy", "NumPy by hand, float64", linear_gd),
    "sine-cubic": Listing("torch", "tensors and autograd", sine_cubic),
    "sine-legendre": Listing("torch", "tensors and an autograd.Function", sine_legendre),
    "mlp-regression": Listing("numpy", "NumPy by hand, float64", mlp_regression),
    "mnist-softmax": Listing("torch", "nn.Module, DataLoader, optim.SGD", mnist_softmax),
    "mnist-mlp": Listing("torch", "nn.Module, DataLoader, optim.SGD", mnist_mlp),
    "char-gru": Listing("torch", "nn.GRU a character at a time, optim.Adam", char_gru),
}
"""The case to the listing that trains it. The stochastic rules of linear regression and the bars have none."""
