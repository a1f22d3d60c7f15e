"""Make the run of a port where its framework is, and hold two against each other."""

from __future__ import annotations

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
    "mobile": ("torch", "linen", "keras"),
    "translator": ("torch", "linen", "keras"),
    "stacked": ("torch", "linen"),
}
STEPS, DEEP = 8, 3


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
    warm: Warm, folder: Callable[[], Path], model: str, framework: str, dtype: str = "float32", mistake: str = ""
) -> Future[Any]:
    """The future of the folder of a port's run."""
    weights = warm.ask(begun, Environment("torch"), {"model": model}, "", folder).result()
    arguments = {"model": model, "framework": framework, "dtype": dtype, "weights": weights, "mistake": mistake}
    return warm.ask(trained, Environment(PROCESS[framework]), arguments, "", folder)
