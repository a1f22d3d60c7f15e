"""A small network with a normalization as two people port it: other names, layouts, and perhaps another epsilon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from parity.recorder import Recorder
from parity.typing import Array, Params

UPDATES, RATE = 6, 0.05
Names = Mapping[str, str]
PLAIN = {"hidden": "0", "norm": "1", "out": "2"}
OTHER = {"hidden": "Dense_0", "norm": "LayerNorm_0", "out": "Dense_1"}
EPSILON = {"torch": "eps", "flax": "epsilon"}
KINDS = {
    "torch": {"hidden": "Linear", "norm": "LayerNorm", "out": "Linear"},
    "flax": {"hidden": "Dense", "norm": "LayerNorm", "out": "Dense"},
}


def record(
    folder: Path, style: str, names: Names, epsilon: float = 1e-5, begin: float = 1.0, foreign: str = ""
) -> Path:
    """Train the network and record it.

    Args:
        folder: Where the recording goes.
        style: ``torch``, whose kernels are transposed, or ``flax``.
        names: What the layers are called.
        epsilon: The normalization's.
        begin: What all initial values are multiplied by.
        foreign: A text of a stranger's in all that a recording may say freely.
    """
    draw = np.random.default_rng(0)
    params = {"hidden/kernel": draw.normal(size=(3, 4)), "out/kernel": draw.normal(size=(4, 2))}
    params = {name: value * begin for name, value in params.items()}
    x, y = 0.02 * draw.normal(size=(8, 3)), draw.normal(size=(8, 2))
    named = _named(style, names)
    with Recorder(folder, "float64", deep=4, implementation=f"{style}{foreign}") as run:
        run.describe(layers=_layers(style, names, epsilon, foreign), settings={f"s{foreign}": foreign})
        run.snapshot(named(params))
        for _ in range(UPDATES):
            given, loss, gradients = _walk(params, x, y, epsilon)
            run.step(
                loss,
                rows=np.arange(8),
                inputs=[x],
                prediction=given["out"],
                activations={names[layer]: value for layer, value in given.items()},
                gradients=named(gradients),
                params=named(params),
            )
            params = {name: value - RATE * gradients[name] for name, value in params.items()}
            run.snapshot(named(params))
    return folder


def _walk(params: Params, x: Array, y: Array, epsilon: float) -> tuple[Params, float, Params]:
    """What each layer gives, the loss, and its gradients."""
    hidden = x @ params["hidden/kernel"]
    centred = hidden - hidden.mean(1, keepdims=True)
    scale = np.sqrt((centred**2).mean(1, keepdims=True) + epsilon)
    norm = centred / scale
    out = norm @ params["out/kernel"]
    back = 2 * (out - y) / y.size
    through = back @ params["out/kernel"].T
    through = (through - through.mean(1, keepdims=True) - norm * (through * norm).mean(1, keepdims=True)) / scale
    gradients = {"hidden/kernel": x.T @ through, "out/kernel": norm.T @ back}
    return {"hidden": hidden, "norm": norm, "out": out}, float(np.mean((out - y) ** 2)), gradients


def _named(style: str, names: Names) -> Callable[[Params], Params]:
    def named(params: Params) -> Params:
        found = {}
        for name, value in params.items():
            layer = names[name.partition("/")[0]]
            found[f"{layer}.weight" if style == "torch" else f"{layer}/kernel"] = value.T if style == "torch" else value
        return found

    return named


def _layers(style: str, names: Names, epsilon: float, foreign: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    before = "input-0"
    for layer, kind in KINDS[style].items():
        settings = {EPSILON[style]: epsilon} if layer == "norm" else {"more": foreign}
        name = names[layer]
        found.append(
            {
                "name": f"{name}{foreign}",
                "kind": f"{kind}{foreign}" if layer == "out" else kind,
                "configuration": settings,
                "inputs": [before],
                "outputs": [name],
            }
        )
        before = name
    return found


def pair(root: Path, foreign: str = "") -> tuple[Path, Path, Path]:
    """The folders of a run, of one that trains alike, and of one whose epsilon is another."""
    right = record(root / "torch", "torch", PLAIN), record(root / "flax", "flax", OTHER, foreign=foreign)
    return (*right, record(root / "wrong", "flax", OTHER, epsilon=1e-3, foreign=foreign))
