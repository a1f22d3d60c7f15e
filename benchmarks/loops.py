"""A training loop of one's own, watched and not, in each framework: what ``test_watching`` takes the time of."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import RESOURCES
from parity.running.executor import Emit, Environment, Resources

WIDTH, BATCH = 256, 256
LAYERS = 4
SIDE, IMAGES = 64, 4
CHANNELS = (64, 64, 128, 128, 256, 256)
"""Of each block of the residual network, two convolutions beside an identity; where they double, the sides halve."""
GROUPS = 8
DEEP, BLOCK = 4, 10
"""So many updates are recorded deeply, and so many later ones are timed together."""
Step = Callable[[], Any]


@dataclass(frozen=True)
class Loop:
    """A way to train: what ``watch`` is given, and what makes an update of it, watched by a run or by nobody."""

    watched: tuple[Any, ...]
    update: Callable[[Any], Step]
    wait: Callable[[Any], Any]
    """Waits for what an update returned."""


def _batch(residual: bool) -> tuple[Any, Any]:
    draw = np.random.RandomState(0)
    if residual:
        images = draw.normal(size=(IMAGES, SIDE, SIDE, 3)).astype(np.float32)
        return images, images[:, 0, 0, :1] * 2
    x = draw.normal(size=(BATCH, WIDTH)).astype(np.float32)
    return x, x[:, :1] * 2


def _blocks() -> list[tuple[int, int, int]]:
    """The channels that each block takes and gives, and its stride."""
    before = (CHANNELS[0], *CHANNELS[:-1])
    return [(one, other, other // one) for one, other in zip(before, CHANNELS, strict=True)]


def in_torch(compiled: bool, residual: bool) -> Loop:
    import torch
    from torch import nn

    def conv(one: int, other: int, size: int = 3, stride: int = 1) -> Any:
        return nn.Conv2d(one, other, size, stride, size // 2)

    class Block(nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self, one: int, other: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = conv(one, other, 3, stride), conv(other, other)
            self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, other) for _ in range(2))
            self.relus = nn.ModuleList(nn.ReLU() for _ in range(2))
            self.beside = conv(one, other, 1, stride) if stride > 1 else nn.Identity()

        def forward(self, x: Any) -> Any:
            h = self.relus[0](self.norms[0](self.first(x)))
            return self.relus[1](self.norms[1](self.second(h)) + self.beside(x))

    torch.manual_seed(0)
    if residual:
        inner = [conv(3, CHANNELS[0]), *(Block(*each) for each in _blocks()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model: Any = nn.Sequential(*inner, nn.Linear(CHANNELS[-1], 1))
    else:
        inner = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        model = nn.Sequential(*inner, nn.Linear(WIDTH, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model = torch.compile(model, backend="aot_eager") if compiled else model
    x, y = map(torch.tensor, _batch(residual))
    x = x.permute(0, 3, 1, 2).contiguous() if residual else x

    def loss_of() -> Any:
        return (model(x) - y).square().mean()

    def plain() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    return Loop((model, optimizer), lambda run: plain if run is None else lambda: run.step(loss_of), lambda loss: loss)


def in_flax(compiled: bool, residual: bool) -> Loop:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    class Model(nn.Module):  # type: ignore[misc,unused-ignore]
        @nn.compact  # type: ignore[untyped-decorator,unused-ignore]
        def __call__(self, x: Any) -> Any:
            for _ in range(LAYERS):
                x = nn.relu(nn.Dense(WIDTH)(x))
            return nn.Dense(1)(x)

    class Block(nn.Module):  # type: ignore[misc,unused-ignore]
        channels: int
        stride: int

        @nn.compact  # type: ignore[untyped-decorator,unused-ignore]
        def __call__(self, x: Any) -> Any:
            strides = (self.stride, self.stride)
            h = nn.relu(nn.GroupNorm(GROUPS)(nn.Conv(self.channels, (3, 3), strides)(x)))
            h = nn.GroupNorm(GROUPS)(nn.Conv(self.channels, (3, 3))(h))
            return nn.relu(h + (nn.Conv(self.channels, (1, 1), strides)(x) if self.stride > 1 else x))

    class Residual(nn.Module):  # type: ignore[misc,unused-ignore]
        @nn.compact  # type: ignore[untyped-decorator,unused-ignore]
        def __call__(self, x: Any) -> Any:
            x = nn.Conv(CHANNELS[0], (3, 3))(x)
            for _, channels, stride in _blocks():
                x = Block(channels, stride)(x)
            return nn.Dense(1)(x.mean((1, 2)))

    x, y = map(jnp.asarray, _batch(residual))
    model, tx = Residual() if residual else Model(), optax.adam(1e-3)
    params = model.init(jax.random.key(0), x)
    state = {"now": (params, tx.init(params))}

    @jax.jit  # type: ignore[untyped-decorator,unused-ignore]
    def update(params: Any, opt: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean((model.apply(p, x) - y) ** 2))(params)
        updates, opt = tx.update(gradients, opt, params)
        return optax.apply_updates(params, updates), opt, loss

    def made(run: Any) -> Step:
        def step() -> Any:
            given = (*state["now"], x, y)
            *now, loss = update(*given) if run is None else run.step(update, *given)
            state["now"] = tuple(now)
            return loss

        return step

    return Loop(state["now"], made, lambda loss: loss.block_until_ready())


def in_nnx(compiled: bool, residual: bool) -> Loop:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Model(nnx.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self, rngs: Any) -> None:
            self.inner = nnx.List([nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(LAYERS)])
            self.last = nnx.Linear(WIDTH, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            for layer in self.inner:
                x = nnx.relu(layer(x))
            return self.last(x)

    class Block(nnx.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self, one: int, other: int, stride: int, rngs: Any) -> None:
            self.first = nnx.Conv(one, other, (3, 3), stride, rngs=rngs)
            self.second = nnx.Conv(other, other, (3, 3), rngs=rngs)
            self.norms = nnx.List([nnx.GroupNorm(other, GROUPS, rngs=rngs) for _ in range(2)])
            self.beside = nnx.Conv(one, other, (1, 1), stride, rngs=rngs) if stride > 1 else None

        def __call__(self, x: Any) -> Any:
            h = self.norms[1](self.second(nnx.relu(self.norms[0](self.first(x)))))
            return nnx.relu(h + (x if self.beside is None else self.beside(x)))

    class Residual(nnx.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self, rngs: Any) -> None:
            self.first = nnx.Conv(3, CHANNELS[0], (3, 3), rngs=rngs)
            self.inner = nnx.List([Block(*each, rngs) for each in _blocks()])
            self.last = nnx.Linear(CHANNELS[-1], 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = self.first(x)
            for block in self.inner:
                x = block(x)
            return self.last(x.mean((1, 2)))

    x, y = map(jnp.asarray, _batch(residual))
    model: Any = (Residual if residual else Model)(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit  # type: ignore[untyped-decorator,unused-ignore]
    def update(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
        optimizer.update(model, gradients)
        return loss

    def made(run: Any) -> Step:
        given = model, optimizer, x, y
        return lambda: update(*given) if run is None else run.step(update, *given)

    return Loop((model, optimizer), made, jax.block_until_ready)


def in_keras(compiled: bool, residual: bool) -> Loop:
    import keras
    from keras import layers

    def conv(channels: int, size: int = 3, stride: int = 1) -> Any:
        return layers.Conv2D(channels, size, stride, padding="same")

    if residual:
        inputs = keras.Input((SIDE, SIDE, 3))
        h = conv(CHANNELS[0])(inputs)
        for _, channels, stride in _blocks():
            beside = conv(channels, 1, stride)(h) if stride > 1 else h
            h = layers.ReLU()(layers.GroupNormalization(GROUPS)(conv(channels, 3, stride)(h)))
            h = layers.ReLU()(layers.Add()([layers.GroupNormalization(GROUPS)(conv(channels)(h)), beside]))
        model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(h)))
    else:
        inner = [layers.Dense(WIDTH, "relu") for _ in range(LAYERS)]
        model = keras.Sequential([keras.Input((WIDTH,)), *inner, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=compiled)
    x, y = _batch(residual)

    def made(run: Any) -> Step:
        if run is None:
            return lambda: model.train_on_batch(x, y)
        return lambda: run.step(model.train_on_batch, x, y)

    return Loop((model,), made, lambda loss: loss)


WAYS: dict[str, tuple[str, Callable[[bool, bool], Loop], bool]] = {
    "torch": ("torch", in_torch, False),
    "torch.compile": ("torch", in_torch, True),
    "flax jit": ("jax", in_flax, True),
    "flax nnx jit": ("jax", in_nnx, True),
    "keras graph": ("tensorflow", in_keras, False),
    "keras jit": ("tensorflow", in_keras, True),
}
"""Name to framework, loop, and whether it is compiled."""
RESIDUAL = ", residual"
LOOPS: dict[str, tuple[str, Callable[[], Loop]]] = {
    f"{name}{RESIDUAL if residual else ''}": (framework, partial(make, compiled, residual))
    for residual in (False, True)
    for name, (framework, make, compiled) in WAYS.items()
}
"""Name to framework and loop. Four layers take milliseconds for an update, the residual network about half a second."""


@dataclass(frozen=True)
class Watch:
    """Time a loop that nobody watches, a deeply recorded update and a later one, taking turns.

    The result has the seconds of an update of each, round by round, how many bytes the process grew by meanwhile, and
    the seconds that the disk alone takes for what a deep update records.
    """

    environment: Environment
    suite: str
    loop: str
    rounds: int
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> dict[str, list[float]]:
        make, large = LOOPS[self.loop][1], self.loop.endswith(RESIDUAL)
        deeply, block = (1, 1) if large else (DEEP, BLOCK)
        found: dict[str, list[float]] = {"plain": [], "deep": [], "disk": [], "later": [], "bytes": [], "first": []}
        alone = make()
        plain = alone.update(None)
        _timed(alone, plain, 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with self._watched(make(), deep=deeply * self.rounds + 2) as (loop, step, folder):
            found["first"].append(_timed(loop, step, 1))
            _timed(loop, step, 1)
            for _ in range(self.rounds):
                found["deep"].append(_timed(loop, step, deeply))
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found["disk"] += [_written(folder / "disk", size // (deeply * self.rounds + 2)) for _ in range(self.rounds)]
        found["bytes"].append(1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        with self._watched(make(), deep=1) as (loop, step, _):
            _timed(loop, step, 4)
            for _ in range(self.rounds):
                # Both in each round: a machine that others use is not as fast in the next.
                found["plain"].append(_timed(alone, plain, block))
                found["later"].append(_timed(loop, step, block))
        return found

    @contextmanager
    def _watched(self, loop: Loop, deep: int) -> Iterator[tuple[Loop, Step, Path]]:
        from parity.watching import watch

        folder = Path(tempfile.mkdtemp(prefix="parity-bench-"))
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder)
            run = stack.enter_context(watch(folder / "run", *loop.watched, deep=deep, shadows=0))
            yield loop, loop.update(run), folder


def _written(path: Path, size: int) -> float:
    """The seconds that so many bytes take to the disk."""
    data = np.random.default_rng(0).bytes(size)
    begun = time.perf_counter()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begun


def _timed(loop: Loop, step: Step, updates: int) -> float:
    begun = time.perf_counter()
    for _ in range(updates):
        last = step()
    loop.wait(last)
    return (time.perf_counter() - begun) / updates
