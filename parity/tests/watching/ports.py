"""A small convolutional network as its users write it, in torch, flax and Keras. Each trains in a process of its own.

BatchNorm, a strided convolution and a bias before BatchNorm, whose gradient is rounding alone and which Adam turns into
full steps. ``epsilon`` is BatchNorm's, and the mistake that is planted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity.layout import Slot

STEPS, BATCH, CLASSES = 12, 8, 4
TORCH = {
    "conv/kernel": ("0.weight", (3, 2, 0, 1)),
    "conv/bias": ("0.bias", None),
    "norm/scale": ("1.weight", None),
    "norm/bias": ("1.bias", None),
    "norm/mean": ("1.running_mean", None),
    "norm/variance": ("1.running_var", None),
    "dense/kernel": ("5.weight", (1, 0)),
    "dense/bias": ("5.bias", None),
}
FLAX = {
    "conv/kernel": "Conv_0/kernel",
    "conv/bias": "Conv_0/bias",
    "norm/scale": "BatchNorm_0/scale",
    "norm/bias": "BatchNorm_0/bias",
    "norm/mean": "BatchNorm_0/mean",
    "norm/variance": "BatchNorm_0/var",
    "dense/kernel": "Dense_0/kernel",
    "dense/bias": "Dense_0/bias",
}


KERAS = {
    "conv/kernel": "conv/kernel",
    "conv/bias": "conv/bias",
    "norm/scale": "norm/gamma",
    "norm/bias": "norm/beta",
    "norm/mean": "norm/moving_mean",
    "norm/variance": "norm/moving_variance",
    "dense/kernel": "dense/kernel",
    "dense/bias": "dense/bias",
}
UNBIASED = "norm/variance"
"""torch's running variance is the unbiased one, flax's is not: no slot names it. No training step reads it."""


def initial(dtype: str, seed: int = 0) -> dict[str, Any]:
    """The weights from which both begin: canonical kernels, images (height, width, channels)."""
    draw = np.random.RandomState(seed)
    shapes = {"conv/kernel": (3, 3, 2, 4), "conv/bias": (4,), "dense/kernel": (64, CLASSES), "dense/bias": (CLASSES,)}
    found = {
        name: draw.normal(size=shape) / np.sqrt(np.prod(shape[:-1], initial=1.0)) for name, shape in shapes.items()
    }
    ones = {"norm/scale": 1, "norm/bias": 0, "norm/mean": 0, "norm/variance": 1}
    return {
        name: value.astype(dtype)
        for name, value in (found | {k: np.full(4, float(v)) for k, v in ones.items()}).items()
    }


def batches(dtype: str, seed: int = 0, steps: int = STEPS) -> Iterator[tuple[Any, Any]]:
    draw = np.random.RandomState(seed + 1)
    for _ in range(steps):
        yield draw.normal(size=(BATCH, 8, 8, 2)).astype(dtype), draw.randint(0, CLASSES, BATCH)


def in_torch(
    folder: Path | None,
    dtype: str,
    epsilon: float = 1e-5,
    rule: str = "adamw",
    closure: bool = True,
    wrapped: Callable[[Any], Any] = lambda m: m,
    seed: int = 0,
    steps: int = STEPS,
    settings: Mapping[str, Any] | None = None,
    **watching: Any,
) -> tuple[list[float], dict[str, Any]]:
    """Train; ``folder`` None is the loop that nobody watches. Gives its losses and its last state."""
    import torch

    from parity.watching import watch

    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, eps=epsilon), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Dropout(0.0), nn.Linear(64, CLASSES),
    ).to(getattr(torch, dtype))  # fmt: skip
    begun = initial(dtype, seed)
    with torch.no_grad():
        for canonical, (name, axes) in TORCH.items():
            model.state_dict()[name].copy_(torch.tensor(begun[canonical].transpose(axes) if axes else begun[canonical]))
    model = wrapped(model)
    kind, own = torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 1e-2}
    if rule == "sgd":
        kind, own = torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}
    optimizer: torch.optim.Optimizer = kind(model.parameters(), **(own | dict(settings or {})))
    layout = [Slot(canonical, name, axes=axes) for canonical, (name, axes) in TORCH.items() if canonical != UNBIASED]
    losses = []
    with watch(folder, model, optimizer, layout=layout, **watching) if folder else nullcontext() as run:
        for x, y in batches(dtype, seed, steps):
            x, y = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y)

            def loss_of(x: Any = x, y: Any = y) -> Any:
                return nn.functional.cross_entropy(model(x), y)

            if run is not None and closure:
                loss = run.step(loss_of)
            else:
                optimizer.zero_grad()
                loss = loss_of()
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
    return losses, {name: value.numpy() for name, value in getattr(model, "_orig_mod", model).state_dict().items()}


def in_flax(
    folder: Path | None,
    dtype: str,
    epsilon: float = 1e-5,
    rule: str = "adamw",
    compiled: bool = True,
    seed: int = 0,
    steps: int = STEPS,
    settings: Mapping[str, Any] | None = None,
    **watching: Any,
) -> tuple[list[float], dict[str, Any]]:
    """The same in flax's linen, with optax, and a pure function for an update."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from parity.watching import watch

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            own = {"dtype": dtype, "param_dtype": dtype}
            x = nn.Conv(4, (3, 3), strides=2, padding=1, **own)(x)
            x = nn.BatchNorm(use_running_average=False, epsilon=epsilon, momentum=0.9, **own)(x)
            x = nn.relu(x).transpose(0, 3, 1, 2).reshape(len(x), -1)
            return nn.Dense(CLASSES, **own)(x)

    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for canonical, value in initial(dtype, seed).items():
        layer, role = FLAX[canonical].split("/")
        kind = "batch_stats" if role in ("mean", "var") else "params"
        variables[kind].setdefault(layer, {})[role] = jnp.asarray(value)
    model = Network()
    if rule == "sgd":
        tx = optax.sgd(**({"learning_rate": 0.05, "momentum": 0.9} | dict(settings or {})))
    else:
        tx = optax.adamw(**({"learning_rate": 1e-3, "weight_decay": 1e-2} | dict(settings or {})))
    state = tx.init(variables["params"])

    def update(variables: Any, state: Any, x: Any, y: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits, stats = model.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), stats

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, state = tx.update(gradients, state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **stats}, state, loss

    step = jax.jit(update) if compiled else update
    layout = [Slot(canonical, name) for canonical, name in FLAX.items() if canonical != UNBIASED]
    losses = []
    with watch(folder, variables, state, layout=layout, **watching) if folder else nullcontext() as run:
        for x, y in batches(dtype, seed, steps):
            made = step if run is None else lambda *given: run.step(step, *given)
            variables, state, loss = made(variables, state, jnp.asarray(x), jnp.asarray(y))
            losses.append(float(loss))
    flat = jax.tree_util.tree_leaves_with_path(variables)
    return losses, {jax.tree_util.keystr(path): np.asarray(value) for path, value in flat}


def in_keras(
    folder: Path | None,
    dtype: str,
    epsilon: float = 1e-5,
    rule: str = "sgd",
    fit: bool = False,
    seed: int = 0,
    steps: int = STEPS,
    settings: Mapping[str, Any] | None = None,
    **watching: Any,
) -> tuple[list[float], dict[str, Any]]:
    """The same in Keras, compiled with its loss and SGD: its Adam adds another epsilon."""
    import keras

    from parity.watching import watch

    assert rule == "sgd"
    own, before = {"dtype": dtype}, keras.config.floatx()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2), dtype=dtype),
            layers.ZeroPadding2D(1, **own),
            layers.Conv2D(4, 3, strides=2, name="conv", **own),
            layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name="norm", **own),
            layers.ReLU(**own),
            layers.Permute((3, 1, 2), **own),
            layers.Flatten(**own),
            layers.Dense(CLASSES, name="dense", **own),
        ],
        name="network",
    )
    begun = initial(dtype, seed)
    for canonical, name in KERAS.items():
        next(v for v in model.variables if v.path == f"network/{name}").assign(begun[canonical])
    keras.config.set_floatx(dtype)  # in which the optimizer keeps its learning rate, and losses are added up
    chosen = {"learning_rate": np.float64(0.05), "momentum": np.float64(0.9)} | dict(settings or {})
    optimizer = keras.optimizers.SGD(**chosen)
    model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, **own))
    layout = [Slot(canonical, name) for canonical, name in KERAS.items() if canonical != UNBIASED]
    rows, losses = list(batches(dtype, seed, steps)), []
    with watch(folder, model, layout=layout, **watching) if folder else nullcontext() as run:
        if fit:
            x, y = (np.concatenate(each) for each in zip(*rows, strict=True))
            model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        else:
            for x, y in rows:
                made = model.train_on_batch if run is None else partial(run.step, model.train_on_batch)
                losses.append(float(made(x, y)))
    keras.config.set_floatx(before)
    return losses, {v.path: v.numpy() for v in model.variables}


PORTS = {"torch": in_torch, "flax": in_flax, "keras": in_keras}
WRONG = 1e-3


def trained(label: str, dtype: str, folder: str, rule: str = "adamw") -> dict[str, Any]:
    """Train a port watched and not, and with the mistake; whether watching changed a bit."""
    port = PORTS[label]
    plain, after = port(None, dtype, rule=rule)
    seen, watched = port(Path(folder, "right"), dtype, rule=rule)
    port(Path(folder, "wrong"), dtype, WRONG, rule=rule)
    same = all(np.array_equal(after[name], watched[name]) for name in after)
    return {"folder": folder, "losses": plain == seen, "state": same}
