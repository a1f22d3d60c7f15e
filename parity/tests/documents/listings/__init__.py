"""The documents' scripts, written once more from the documents alone: what the suite's cases are held against.

Every learning rate, decay, size, count and seed in these files is the document's word, typed again. Of the suite they
take nothing but what a document leaves to chance: the rows that it draws, the weights that it draws, and the order in
which it draws rows. So whatever drifts in a case's ``spec.py`` parts its runs from these.

A listing runs as its document has it, one framework a file, in float32, and once more in float64, where a difference
has nothing to hide behind. ``python -m parity.tests.documents.listings torch FOLDER`` runs all of a framework's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

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

    def save(self, path: Path) -> None:
        tensors = {f"params/{name}": np.stack(values) for name, values in self.params.items()}
        tensors |= {f"metrics/{name}": np.array(values) for name, values in self.metrics.items()}
        tensors |= {"losses": np.array(self.losses), "epochs": np.array(self.epochs)}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
        path.with_suffix(".json").write_text(json.dumps(self.lines))


@dataclass(frozen=True)
class Saved:
    """A script as ``Script.save`` wrote it: losses (E, B), epochs (S,), each parameter (S, ...), each metric (S,)."""

    losses: Array
    epochs: Array
    params: dict[str, Array]
    metrics: dict[str, Array]
    lines: list[str]


def load(path: Path) -> Saved:
    tensors = load_file(path)
    kinds: dict[str, dict[str, Array]] = {"params": {}, "metrics": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if rest:
            kinds[kind][rest] = value
    lines = json.loads(path.with_suffix(".json").read_text())
    return Saved(tensors["losses"], tensors["epochs"], kinds["params"], kinds["metrics"], lines)


Listing = Callable[[str], Script]
"""Runs one document's script in a dtype, ``float32`` or ``float64``."""


def flowers() -> tuple[Array, Array, Array, Array]:
    """The post's iris rows: inputs and labels to train on, (75, 2) and (75,), and those held out, (25, 2) and (25,)."""
    from fixtures import iris

    file = Path(iris.__file__).parent / "data" / "iris.data"
    x = np.genfromtxt(file, delimiter=",", usecols=range(2), max_rows=100)
    y = np.zeros(100)
    y[50:] = 1
    np.random.seed(1)
    order = np.arange(y.shape[0])
    np.random.shuffle(order)
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
