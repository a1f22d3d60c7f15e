"""Make the run of a port where its framework is, and hold two against each other."""

from __future__ import annotations

import ast
from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from parity.running.executor import Environment
from parity.tests.architectures.data import batches
from parity.tests.ports.pairs import PROCESS, settled
from parity.tests.warm import Warm

PORTS = {
    # Not Keras: deep updates are made eagerly, where a grouped convolution has no gradient on a CPU without oneDNN.
    "mobile": ("torch", "linen"),
    "translator": ("torch", "linen", "keras"),
    "stacked": ("torch", "linen"),
}
STEPS, DEEP = 8, 3
Folder = Callable[[], Path]
"""Makes a new folder."""


def port(model: str, framework: str) -> Any:
    return import_module(f"parity.tests.architectures.{model}_{framework}")


def begun(model: str, folder: str) -> str:
    """Called where torch is: the torch model's first weights, as its author drew them. Gives their file."""
    import torch

    torch.manual_seed(5)
    path = Path(folder, "begun.npz")
    np.savez(path, **{name: value.numpy() for name, value in port(model, "torch").build().state_dict().items()})
    return str(path)


def trained(
    model: str, framework: str, dtype: str, weights: str, folder: str, mistake: str = "", shadows: int = 2
) -> str:
    """Called where the framework is: train a port, watched. Gives the folder of its run."""
    from parity import watch

    with np.load(weights) as file:
        begin = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in file.items()}
    run = Path(folder, "run")
    with settled(framework, dtype):
        port(model, framework).train(
            lambda *objects: watch(run, *objects, shadows=shadows, deep=DEEP),
            begin,
            batches(model, STEPS, dtype),
            dtype,
            mistake,
        )
    return str(run)


def made(
    warm: Warm, folder: Folder, model: str, framework: str, dtype: str = "float32", mistake: str = ""
) -> Future[Any]:
    """The future of the folder of a port's run."""
    weights = warm.ask(begun, Environment("torch"), {"model": model}, "", folder).result()
    arguments = {"model": model, "framework": framework, "dtype": dtype, "weights": weights, "mistake": mistake}
    return warm.ask(trained, Environment(PROCESS[framework]), arguments, "", folder)


def layers_of_mistake(model: str, framework: str) -> dict[str, str]:
    """Which layer each mistake is in, as a port's file says; read without its framework."""
    source = Path(__file__).with_name(f"{model}_{framework}.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MISTAKES":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise AssertionError(f"{model}_{framework} has no MISTAKES")


def numbered(model: str, framework: str, weights: str, folder: str) -> dict[str, list[str]]:
    """Called where the framework is: which of torch's tensors each of a port's own ones is made of.

    The port carries over tensors that are filled with one number each, so that its own ones show them.
    """
    with np.load(weights) as file:
        names, begin, drawn = list(file), {}, dict[bytes, int]()
        for number, (name, value) in enumerate(file.items()):
            # A tensor that is tied to another is that one.
            one = drawn.setdefault(value.tobytes(), number) if np.unique(value).size > 1 else number
            begin[name] = np.full(value.shape, one, value.dtype)
    run = Path(folder, "run")
    from parity import read, watch

    with settled(framework, "float32"):
        port(model, framework).train(
            lambda *objects: watch(run, *objects, shadows=0, deep=0), begin, batches(model, 1, "float32"), "float32"
        )
    first = {name: np.unique(np.asarray(stack[0])) for name, stack in read(run).params.items()}
    return {name: [names[round(float(value))] for value in values] for name, values in first.items()}


def names_of(warm: Warm, folder: Folder, model: str, framework: str) -> dict[str, set[str]]:
    """Which of torch's tensors each of a port's own ones is made of."""
    weights = warm.ask(begun, Environment("torch"), {"model": model}, "", folder).result()
    arguments = {"model": model, "framework": framework, "weights": weights}
    found = warm.ask(numbered, Environment(PROCESS[framework]), arguments, "", folder).result()
    return {name: set(of) for name, of in found.items()}
