"""The documents' scripts, written once more from the documents alone: what the suite's cases are held against.

Every learning rate, decay, size, count and seed in these files is the document's word, typed again. Of the suite they
take nothing but what a document leaves to chance: the rows that it draws, the weights that it draws, and the order in
which it draws rows. So whatever drifts in a case's ``spec.py`` parts its runs from these.

A listing runs as its document has it, one framework a file, in float32, and once more in float64, where a difference
has nothing to hide behind.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

Array = np.ndarray


@dataclass
class Script:
    """What a listing computed and printed, as it went on.

    ``losses`` holds a list of batches' losses an epoch. ``params`` and ``metrics`` hold a value a snapshot, the first
    before training; ``epochs`` are those of the snapshots.
    """

    losses: list[list[float]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    params: dict[str, list[Array]] = field(default_factory=dict)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def see(self, epoch: int, params: Mapping[str, Any], **metrics: float) -> None:
        """Keep a snapshot: copies of the parameters, in the suite's names and axes, and what was counted."""
        self.epochs.append(epoch)
        for name, value in params.items():
            self.params.setdefault(name, []).append(np.array(value))
        for name, number in metrics.items():
            self.metrics.setdefault(name, []).append(float(number))


@dataclass(frozen=True)
class Ran:
    """A script that has run: losses (E, B), epochs (S,), each parameter (S, ...), each metric (S,), and its lines."""

    losses: Array
    epochs: Array
    params: dict[str, Array]
    metrics: dict[str, Array]
    lines: list[str]


SCRIPTS = {
    "torch": (
        "iris-logistic:manual",
        "iris-logistic:autograd",
        "iris-logistic:module",
        "mnist-softmax",
        "char-gru",
        "mnist-mlp",
        "linear-regression",
        "synthetic-logistic",
        "sine-cubic:tensors",
        "sine-cubic:autograd",
        "sine-legendre",
    ),
    "tensorflow": ("iris-logistic-minibatch",),
    "numpy": (
        "linear-gd",
        "linear-sgd-randomized",
        "linear-sgd-cyclic",
        "linear-minibatch",
        "sine-cubic",
        "mlp-regression",
        "activations",
        "dogecoin-logistic",
    ),
}
"""The scripts by the framework that their document writes them in: a case, and the way where there are several."""


def run(script: str, dtype: str) -> dict[str, Any]:
    """Run a script, where its framework is: its lines, and all else as the text of a safetensors file, in base 64."""
    framework = next(name for name, scripts in SCRIPTS.items() if script in scripts)
    done = import_module(f"parity.tests.documents.listings.in_{framework}").LISTINGS[script](dtype)
    tensors = {f"params/{name}": np.stack(values) for name, values in done.params.items()}
    tensors |= {f"metrics/{name}": np.array(values) for name, values in done.metrics.items()}
    tensors |= {"losses": np.array(done.losses), "epochs": np.array(done.epochs)}
    content = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    return {"tensors": base64.b64encode(content).decode(), "lines": done.lines}


def read(answer: Mapping[str, Any]) -> Ran:
    """What ``run`` gave."""
    tensors = load(base64.b64decode(answer["tensors"]))
    params, metrics = (
        {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}
        for kind in ("params/", "metrics/")
    )
    return Ran(tensors["losses"], tensors["epochs"], params, metrics, list(answer["lines"]))


Listing = Callable[[str], Script]
"""Runs one document's script in a dtype, ``float32`` or ``float64``."""


def flowers() -> tuple[Array, Array, Array, Array]:
    """The post's iris rows: inputs and labels to train on, (75, 2) and (75,), and those held out, (25, 2) and (25,)."""
    from fixtures import iris

    file = Path(iris.__file__).parent / "data" / "iris.data"
    x = np.genfromtxt(file, delimiter=",", usecols=range(2), max_rows=100)
    y = np.zeros(100)
    y[50:] = 1
    order = np.arange(y.shape[0])
    np.random.RandomState(1).shuffle(order)  # as the post's seed does
    x_test, y_test, x, y = x[order[:25]], y[order[:25]], x[order[25:]], y[order[25:]]
    mean, deviation = np.mean(x, axis=0), np.std(x, axis=0)
    return (x - mean) / deviation, y, (x_test - mean) / deviation, y_test


def digits(train: int, test: int) -> tuple[Array, Array, Array, Array]:
    """The first images of both splits of MNIST as bytes, (n, 784), and their digits, (n,)."""
    from fixtures import mnist

    images, labels, more_images, more_labels = mnist.unpack((Path(mnist.__file__).parent / mnist.FILE).read_bytes())
    return images[:train], labels[:train], more_images[:test], more_labels[:test]


def drawn(case: str, variant: str | None = None) -> Any:
    """The suite's case: only its rows, its initial weights and its order of rows may be taken."""
    from parity.suite import load_suite

    return load_suite("impls").entry(case, variant).case


def orders(case: str, epochs: int) -> list[Array]:
    """Each epoch's rows, one after another, however the suite cuts them into batches."""
    schedule, rows = drawn(case).schedule, len(drawn(case).data().x)
    return [np.concatenate(batches) for _, batches in zip(range(epochs), schedule.epochs(rows), strict=False)]
