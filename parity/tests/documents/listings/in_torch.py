"""The scripts that the documents write in torch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from parity.tests.documents.listings import Array, Listing, Script, digits, drawn, flowers, orders

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def tensors(dtype: str, *arrays: Array) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(array), dtype=DTYPES[dtype]) for array in arrays]


def column(weight: torch.Tensor, bias: torch.Tensor) -> Mapping[str, Array]:
    """A linear layer of torch's in the suite's axes."""
    return {"dense/kernel": weight.detach().numpy().T, "dense/bias": bias.detach().numpy()}


# The post of 2024-09-18, section 1: logistic regression on iris, written three times.


def iris(
    dtype: str, step: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], float], half: Any
) -> Script:
    """Ten epochs; ``step`` updates weights and bias and gives the cost before, ``half`` says what is class 1."""
    x, y, x_test, y_test = tensors(dtype, *flowers())
    weights, bias = torch.zeros(2, 1, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)
    script = Script()

    def right(rows: torch.Tensor, labels: torch.Tensor) -> float:
        said = half(probability(rows, weights, bias)).view(-1)
        return float(torch.sum(said == labels).double() / labels.size(0))

    def see(epoch: int) -> float:
        cost = log_cost(y, probability(x, weights, bias)).item()
        params = {"dense/kernel": weights.detach().numpy(), "dense/bias": bias.detach().numpy()}
        script.see(epoch, params, train_accuracy=right(x, y), train_cost=cost, test_accuracy=right(x_test, y_test))
        return cost

    see(0)
    for epoch in range(1, 11):
        script.losses.append([step(x, y, weights, bias)])
        cost = see(epoch)
        script.lines.append(
            f"Epoch: {epoch:03d} | Train ACC: {script.metrics['train_accuracy'][-1]:.3f} | Cost: {cost:.3f}"
        )
    script.lines.append(f"Test set accuracy: {script.metrics['test_accuracy'][-1] * 100:.2f}%")
    return script


def probability(x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return 1.0 / (1.0 + torch.exp(-torch.add(torch.mm(x, weights), bias)))


def log_cost(y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    first = torch.mm(-y.view(1, -1), torch.log(p))
    second = torch.mm((1 - y).view(1, -1), torch.log(1 - p))
    return (first - second)[0, 0]


def by_hand(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> float:
    """ "Low level implementation using manual gradients"."""
    p = probability(x, weights, bias)
    cost = log_cost(y, p).item()
    errors = y - p.view(-1)
    weights += 0.1 * torch.mm(x.transpose(0, 1), errors.view(-1, 1))
    bias += 0.1 * torch.sum(errors)
    return cost


def by_autograd(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> float:
    """ "Low level implementation using Autograd"."""
    weights.requires_grad_()
    bias.requires_grad_()
    cost = log_cost(y, probability(x, weights, bias))
    cost.backward()
    for parameter in (weights, bias):
        plain = parameter.detach()
        plain -= 0.1 * parameter.grad
        parameter.grad = None
    return float(cost.detach())


def by_module(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> float:
    """ "High level implementation using nn.Module"; SGD without momentum keeps nothing, so each step may begin anew."""
    linear = torch.nn.Linear(2, 1, dtype=x.dtype)
    linear.weight.detach().copy_(weights.view(1, 2))
    linear.bias.detach().copy_(bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    cost = torch.nn.BCELoss(reduction="sum")(torch.sigmoid(linear(x)), y.view(-1, 1))
    optimizer.zero_grad()
    cost.backward()
    optimizer.step()
    weights.copy_(linear.weight.detach().view(2, 1))
    bias.copy_(linear.bias.detach())
    return float(cost.detach())


def at_half(p: torch.Tensor) -> torch.Tensor:
    return (p.detach() >= 0.5).to(p.dtype)


def above_half(p: torch.Tensor) -> torch.Tensor:
    return (p.detach() > 0.5).to(p.dtype)


# Section 2 of the post: softmax regression on MNIST, of which the suite takes the first images.


def softmax(dtype: str) -> Script:
    train, labels, test, test_labels = digits(5120, 1024)
    x, x_test = (images.div(255) for images in tensors(dtype, train, test))
    y, y_test = torch.tensor(labels.astype(np.int64)), torch.tensor(test_labels.astype(np.int64))
    features, classes, epochs, batch_size, script = 784, 10, 10, 256, Script()
    shown = 2  # of the ten epochs, twenty steps each
    model = torch.nn.Linear(features, classes, dtype=x.dtype)
    model.weight.detach().zero_()
    model.bias.detach().zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def accuracy(images: torch.Tensor, wanted: torch.Tensor) -> float:
        _, said = torch.max(F.softmax(model(images), dim=1), 1)
        return float((said == wanted).sum().double() / wanted.size(0) * 100)

    def see(epoch: int) -> None:
        with torch.no_grad():
            found = {"train_accuracy": accuracy(x, y) / 100, "test_accuracy": accuracy(x_test, y_test) / 100}
        script.see(epoch, column(model.weight, model.bias), **found)

    see(0)
    for epoch, order in enumerate(orders("mnist-softmax", shown), 1):
        costs = []
        for number, rows in enumerate(torch.tensor(order).split(batch_size)):
            cost = F.cross_entropy(model(x[rows].view(-1, 28 * 28)), y[rows])
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            costs.append(cost.item())
            if not number % 50:
                script.lines.append(f"Epoch: {epoch:03d}/{epochs:03d} | Batch {number:03d}/020 | Cost: {costs[-1]:.4f}")
        script.losses.append(costs)
        see(epoch)
        right = 100 * script.metrics["train_accuracy"][-1]
        script.lines.append(f"Epoch: {epoch:03d}/{epochs:03d} training accuracy: {right:.2f}%")
    return script


# Section 3 of the post: characters, one at a time.


def characters(dtype: str) -> Script:
    """The first ten of 20,000 iterations, on the story that the suite ships, as rows of character and successor."""
    data, initial = drawn("char-gru").data(), drawn("char-gru").initial()
    text, following = torch.tensor(data.x), torch.tensor(data.y)
    alphabet, embedded, hidden_size, layers, portion = 100, 100, 100, 1, 200
    kind = DTYPES[dtype]
    embed = torch.nn.Embedding(alphabet, hidden_size, dtype=kind)
    gru = torch.nn.GRU(input_size=embedded, hidden_size=hidden_size, num_layers=layers, dtype=kind)
    fc = torch.nn.Linear(hidden_size, alphabet, dtype=kind)
    unused = torch.nn.Parameter(torch.zeros(layers, 1, hidden_size, dtype=kind))
    places = {
        "embedding/table": (embed.weight, False),
        "gru/input_kernel": (gru.weight_ih_l0, True),
        "gru/recurrent_kernel": (gru.weight_hh_l0, True),
        "gru/input_bias": (gru.bias_ih_l0, False),
        "gru/recurrent_bias": (gru.bias_hh_l0, False),
        "dense/kernel": (fc.weight, True),
        "dense/bias": (fc.bias, False),
    }
    for name, (parameter, turned) in places.items():
        value = torch.tensor(initial[name].T if turned else initial[name])
        parameter.detach().copy_(value)

    def see(epoch: int) -> None:
        found = {name: p.detach().numpy().T if turned else p.detach().numpy() for name, (p, turned) in places.items()}
        script.see(epoch, found | {"gru/initial_state": unused.detach().numpy()[0]})

    script = Script()
    parameters = [unused, *embed.parameters(), *gru.parameters(), *fc.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005)
    draw = random.Random(123)
    for _ in range(2):  # the public run of the script printed two portions before it trained
        draw.randint(0, len(text) - portion)
    see(0)
    for iteration in range(10):
        start = draw.randint(0, len(text) - portion)
        inputs, targets = text[start : start + portion], following[start : start + portion]
        hidden, loss = torch.zeros(layers, 1, hidden_size, dtype=kind), torch.tensor(0.0, dtype=kind)
        optimizer.zero_grad()
        for place in range(portion):
            output, hidden = gru(embed(inputs[place].view(1, -1)).view(1, 1, -1), hidden)
            loss = loss + F.cross_entropy(fc(output.view(1, -1)), targets[place].view(1))
        loss = loss / portion
        loss.backward()
        optimizer.step()
        script.losses.append([loss.item()])
        if iteration % 1000 == 0:
            script.lines.append(f"Iteration {iteration} | Loss {loss.item():.2f}")
    see(10)
    return script


# The tutorial on MLPs.


def perceptron(dtype: str) -> Script:
    batch_size, shown, script = 512, 3, Script()  # of ten epochs, ten steps each
    train, labels, test, test_labels = digits(batch_size * 10, batch_size * 2)
    x, x_test = ((images.div(255) - 0.1307) / 0.3081 for images in tensors(dtype, train, test))
    y, y_test = torch.tensor(labels.astype(np.int64)), torch.tensor(test_labels.astype(np.int64))
    widths, layers, initial = [784, 32, 32, 32, 10], [], drawn("mnist-mlp").initial()
    for number, (inputs, outputs) in enumerate(pairwise(widths), 1):
        linear = torch.nn.Linear(inputs, outputs, bias=True, dtype=x.dtype)
        linear.weight.detach().copy_(torch.tensor(initial[f"dense{number}/kernel"].T))
        linear.bias.detach().copy_(torch.tensor(initial[f"dense{number}/bias"]))
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.LogSoftmax(dim=1))
    loss_of = torch.nn.NLLLoss()
    optimizer = torch.optim.SGD(params=model.parameters(), lr=1e-2, weight_decay=0.1, momentum=0.9)

    def see(epoch: int) -> None:
        found = {}
        for number, linear in enumerate(layers[::2], 1):
            found |= {
                f"dense{number}/{name.split('/')[1]}": v for name, v in column(linear.weight, linear.bias).items()
            }
        with torch.no_grad():
            right = [float((model(a).max(1)[1] == b).double().mean()) for a, b in ((x, y), (x_test, y_test))]
        script.see(epoch, found, train_accuracy=right[0], test_accuracy=right[1])

    see(0)
    for epoch, order in enumerate(orders("mnist-mlp", shown), 1):
        losses = []
        for rows in torch.tensor(order).split(batch_size):
            loss = loss_of(model(x[rows].reshape(len(rows), -1)), y[rows])
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        script.losses.append(losses)
        script.lines.append(f"Epoch #{epoch}: Avg. loss={sum(losses) / len(losses)}")
        see(epoch)
    return script


# The README of Xaleed/Pytorch.


def plane(dtype: str) -> Script:
    """ "Linear Regression Model"."""
    case, script = drawn("linear-regression"), Script()
    x, y = tensors(dtype, case.data().x, case.data().y)
    model = torch.nn.Linear(3, 1, dtype=x.dtype)
    model.weight.detach().copy_(torch.tensor(case.initial()["dense/kernel"].T))
    model.bias.detach().copy_(torch.tensor(case.initial()["dense/bias"]))
    criterion = torch.nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0001)
    script.see(0, column(model.weight, model.bias))
    for epoch in range(500):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        script.losses.append([loss.item()])
        script.lines.append(f"epoch {epoch}, loss function {loss.item()}")
        script.see(epoch + 1, column(model.weight, model.bias))
    return script


def coin(dtype: str) -> Script:
    """ "Logistic Regression, With a created data set"."""
    case, script = drawn("synthetic-logistic"), Script()
    x, y, x_test, y_test = tensors(dtype, case.data().x, case.data().y, case.data().x_test, case.data().y_test)
    model = torch.nn.Linear(5, 1, dtype=x.dtype)
    model.weight.detach().copy_(torch.tensor(case.initial()["dense/kernel"].T))
    model.bias.detach().copy_(torch.tensor(case.initial()["dense/bias"]))
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.0001), torch.nn.BCELoss()

    def see(epoch: int) -> float:
        with torch.no_grad():
            right = torch.sigmoid(model(x_test)).round().eq(y_test).sum().double() / float(y_test.shape[0])
        script.see(epoch, column(model.weight, model.bias), accuracy=float(right))
        return float(right)

    see(0)
    for epoch in range(1, 101):
        loss = criterion(torch.sigmoid(model(x)), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        script.losses.append([loss.item()])
        script.lines.append(f"epoch: {epoch}, loss = {loss.item():.4f}")
        if epoch % 10 == 0:  # where the suite has a snapshot
            right = see(epoch)
    script.lines.append(f"accuracy: {right:.4f}")
    return script


def sine(
    dtype: str,
    layer: str,
    initial: list[Array],
    model: Callable[..., torch.Tensor],
    rate: float,
    hand: bool,
    steps: int,
) -> Script:
    """Gradient descent on the summed squared error, derivatives by hand or by autograd: some of the 2000 steps."""
    x = torch.linspace(-math.pi, math.pi, 2000, dtype=DTYPES[dtype])
    y, script = torch.sin(x), Script()
    values = [torch.tensor(float(value), dtype=x.dtype, requires_grad=not hand) for value in initial]

    def see(epoch: int) -> None:
        script.see(epoch, {f"{layer}/{n}": p.detach().numpy().reshape(1) for n, p in zip("abcd", values, strict=True)})

    see(0)
    for step in range(steps):
        predicted = model(x, *values)
        loss = (predicted - y).pow(2).sum()
        script.losses.append([loss.item()])
        if step % 100 == 99:
            script.lines.append(f"{step} {loss.item()}")
        if hand:
            slope = 2.0 * (predicted - y)
            slopes = [(slope * x**power).sum() for power in range(4)]
        else:
            loss.backward()
            slopes = [value.grad for value in values]
        with torch.no_grad():
            for value, gradient in zip(values, slopes, strict=True):
                value -= rate * gradient
                value.grad = None
        see(step + 1)
    return script


def polynomial(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return a + b * x + c * x**2 + d * x**3


def cubic(dtype: str, hand: bool) -> Script:
    """ "Tensors", and "PyTorch: Tensors and autograd"."""
    initial = [value[0] for value in drawn("sine-cubic").initial().values()]
    return sine(dtype, "polynomial", initial, polynomial, 1e-6, hand, steps=200)


class P3(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, z: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(z)
        return 0.5 * (5 * z**3 - 3 * z)

    @staticmethod
    def backward(context: Any, slope: torch.Tensor) -> torch.Tensor:
        (z,) = context.saved_tensors
        return slope * 1.5 * (5 * z**2 - 1)


def legendre(dtype: str) -> Script:
    """ "PyTorch: Defining new autograd functions"."""

    def model(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return a + b * P3.apply(c + d * x)

    return sine(dtype, "legendre", [0.0, -1.0, 0.0, 0.3], model, 5e-6, False, steps=2000 if dtype == "float32" else 200)


LISTINGS: Mapping[str, Listing] = {
    "iris-logistic:manual": partial(iris, step=by_hand, half=at_half),
    "iris-logistic:autograd": partial(iris, step=by_autograd, half=at_half),
    "iris-logistic:module": partial(iris, step=by_module, half=above_half),
    "mnist-softmax": softmax,
    "char-gru": characters,
    "mnist-mlp": perceptron,
    "linear-regression": plane,
    "synthetic-logistic": coin,
    "sine-cubic:tensors": partial(cubic, hand=True),
    "sine-cubic:autograd": partial(cubic, hand=False),
    "sine-legendre": legendre,
}
