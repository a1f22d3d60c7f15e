"""Training loops of one's own, as a user of a framework has them: each is called in the process of its framework."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.frameworks import FRAMEWORKS
from parity.recorder import Recorder
from parity.spec import Adam

Make = Callable[[Any, str], Any]
"""Makes a tensor of a list, in a dtype."""


def tensors(framework: str) -> Make:
    """How a framework makes its tensors."""
    if framework == "numpy":
        return np.array
    if framework == "torch":
        import torch

        return lambda values, dtype: torch.tensor(values, dtype=getattr(torch, dtype), requires_grad="float" in dtype)
    if framework == "tensorflow":
        import tensorflow as tf

        return tf.constant
    if framework == "keras":
        import keras

        return lambda values, dtype: keras.Variable(values, dtype=dtype)
    return importlib.import_module("jax.numpy").array  # type: ignore[no-any-return]


def dtypes_of(framework: str) -> list[str]:
    return ["float64", "float32", "float16"] + ["bfloat16"] * (framework != "numpy")


def tiny(framework: str, folder: str) -> str:
    """Record two updates with the framework's own tensors, in a folder for each of its dtypes."""
    make = tensors(framework)
    label = next(iter(next(known for known in FRAMEWORKS if known.name == framework).packages))
    for dtype in dtypes_of(framework):
        with Recorder(Path(folder, dtype), dtype, implementation=label, deep=2) as run:
            run.snapshot({"dense/kernel": make([[1.5, -2.0]], dtype)})
            now = {"dense/kernel": make([[1.5, -2.0]], dtype)}
            for k in range(2):
                values = {"dense/kernel": make([[0.5, k]], dtype)}
                rows = make([k, 3], "int32") if framework == "jax" else [k, 3]
                seen = {"prediction": make([0.5], dtype), "gradients": values, "params": now}
                run.step(make(0.25, dtype), rows=rows, **seen)
                run.snapshot(values)
                now = values
    return folder


def adams(folder: str) -> str:
    """Least squares with Adam by hand, with Keras's own, and with that one told the epsilon: ``<way>-<dtype>``."""
    import keras

    def kerass(dtype: str, **more: float) -> tuple[Any, Callable[[int, Any], Any]]:
        keras.config.set_floatx(dtype)
        kernel, adam = keras.Variable(np.full((3, 1), 0.5), dtype=dtype), keras.optimizers.Adam(0.01, **more)
        return kernel, lambda t, g: adam.apply([keras.ops.convert_to_tensor(g)], [kernel])

    def own() -> tuple[Any, Callable[[int, Any], Any]]:
        kernel, m, v = np.full((3, 1), 0.5), 0.0, 0.0

        def update(t: int, g: Any) -> None:
            nonlocal m, v
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            kernel[:] -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

        return kernel, update

    usual = keras.config.floatx()
    for dtype in ("float32", "float64"):
        for way, (kernel, update) in (
            ("own", own()),
            ("keras", kerass(dtype)),
            ("epsilon", kerass(dtype, epsilon=1e-8)),
        ):
            with Recorder(Path(folder, f"{way}-{dtype}"), dtype, deep=20, optimizer=Adam(0.01)) as run:
                _least_squares(run, dtype, kernel, update)
    keras.config.set_floatx(usual)
    return folder


def _least_squares(run: Recorder, dtype: str, kernel: Any, update: Callable[[int, Any], Any]) -> None:
    x, y = np.random.RandomState(0).normal(size=(64, 3)), np.random.RandomState(1).normal(size=(64, 1))
    run.snapshot({"dense/kernel": np.array(kernel, dtype)})
    for t in range(1, 21):
        now = {"dense/kernel": np.array(kernel, dtype)}
        error = x @ now["dense/kernel"] - y
        # Small, so that the epsilon counts; of one and the same dtype, so that it is the update that parts.
        g = (1e-6 * 2 * x.T @ error / len(x)).astype(dtype)
        seen = {"prediction": error, "gradients": {"dense/kernel": g}, "params": now}
        run.step(np.mean(error**2), rows=np.arange(64), **seen)
        update(t, g)
        run.snapshot({"dense/kernel": np.array(kernel, dtype)})
