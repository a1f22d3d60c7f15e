"""Models as colleagues port them: a GRU, an autoencoder trained by Adam, and a transformer with a norm of its own.

Each is written for torch and for Keras. ``mistake`` plants one, in the port of either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.watching import watch

BATCH, STEPS, WIDTH, HIDDEN, UPDATES = 4, 5, 3, 4, 2
GATES = {"gates": (0, 1, 2)}
"""In which order the Keras port takes torch's gates; torch has r, z, n and Keras z, r, n."""


def draw(*shape: int, seed: int) -> Any:
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def weights() -> dict[str, Any]:
    """torch's own layout of a GRU in both directions, and of the layer after it."""
    found = {}
    for seed, back in enumerate(("", "_reverse")):
        found[f"weight_ih_l0{back}"] = draw(3 * HIDDEN, WIDTH, seed=4 * seed)
        found[f"weight_hh_l0{back}"] = draw(3 * HIDDEN, HIDDEN, seed=4 * seed + 1)
        found[f"bias_ih_l0{back}"] = draw(3 * HIDDEN, seed=4 * seed + 2)
        found[f"bias_hh_l0{back}"] = draw(3 * HIDDEN, seed=4 * seed + 3)
    return found


def gru_in_torch(folder: Path, mistake: str) -> None:
    import torch
    from torch import nn

    both = mistake.startswith("both")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(WIDTH, HIDDEN, batch_first=True, bidirectional=both)
            self.out = nn.Linear(HIDDEN * (1 + both), 1)

        def forward(self, x: Any) -> Any:
            y, h = self.rnn(x)
            return self.out(torch.cat([h[0], h[1]], -1) if both else y[:, -1])

    net = Net()
    with torch.no_grad():
        for name, value in weights().items():
            if both or not name.endswith("reverse"):
                getattr(net.rnn, name).copy_(torch.tensor(value))
        net.out.weight.copy_(torch.tensor(draw(1, HIDDEN * (1 + both), seed=9)))
        net.out.bias.zero_()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(folder, net, optimizer, deep=1) as run:
        for k in range(UPDATES):
            x, y = torch.tensor(draw(BATCH, STEPS, WIDTH, seed=20 + k)), torch.tensor(draw(BATCH, 1, seed=30 + k))
            run.step(lambda x=x, y=y: (net(x) - y).square().mean())


def gru_in_keras(folder: Path, mistake: str) -> None:
    import keras
    from keras import layers

    both, plain = mistake.startswith("both"), mistake.removeprefix("both-")
    own, after = weights(), plain != "reset"

    def laid(value: Any) -> Any:
        parts = np.split(value, 3)
        return np.concatenate([parts[gate] for gate in GATES.get(plain, (1, 0, 2))])

    hard = "hard_sigmoid" if plain == "hard" else "sigmoid"
    layer = layers.GRU(
        HIDDEN, recurrent_activation=hard, reset_after=after, go_backwards=plain == "back",
        return_sequences=plain == "last",
    )  # fmt: skip
    i = keras.Input((STEPS, WIDTH))
    x = (layers.Bidirectional(layer) if both else layer)(i)
    net = keras.Model(i, layers.Dense(1)(x[:, -1] if plain == "last" else x))
    taken = []
    for back in ("", "_reverse") if both else ("",):
        kernel, inner, b, c = (
            laid(own[f"{name}_l0{back}"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        taken += [kernel.T, inner.T, np.stack([b, c]) if after else b + c]
    net.set_weights([*taken, draw(1, HIDDEN * (1 + both), seed=9).T, np.zeros(1)])
    net.compile(keras.optimizers.SGD(0.1), "mse")
    with watch(folder, net, deep=1, shadows=0) as run:
        for k in range(UPDATES):
            run.step(net.train_on_batch, draw(BATCH, STEPS, WIDTH, seed=20 + k), draw(BATCH, 1, seed=30 + k))


def norm_in_torch(folder: Path, mistake: str) -> None:
    import torch
    from torch import nn

    class Own(nn.RMSNorm):
        pass

    net = nn.Sequential(nn.Linear(6, 6), Own(6, eps=1e-5), nn.Linear(6, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(draw(6, 6, seed=1)))
        net[2].weight.copy_(torch.tensor(draw(1, 6, seed=2)))
        net[0].bias.zero_()
        net[2].bias.zero_()
    with watch(folder, net, torch.optim.SGD(net.parameters(), 0.1), deep=1) as run:
        for k in range(UPDATES):
            x, y = torch.tensor(draw(BATCH, 6, seed=20 + k)), torch.tensor(draw(BATCH, 1, seed=30 + k))
            run.step(lambda x=x, y=y: (net(x) - y).square().mean())


def norm_in_keras(folder: Path, mistake: str) -> None:
    import keras
    from keras import layers

    class Mine(layers.RMSNormalization):
        pass

    epsilon = 1e-2 if mistake == "epsilon" else 1e-5
    net = keras.Sequential([keras.Input((6,)), layers.Dense(6), Mine(epsilon=epsilon), layers.Dense(1)])
    net.set_weights([draw(6, 6, seed=1).T, np.zeros(6), np.ones(6), draw(1, 6, seed=2).T, np.zeros(1)])
    net.compile(keras.optimizers.SGD(0.1), "mse")
    with watch(folder, net, deep=1, shadows=0) as run:
        for k in range(UPDATES):
            run.step(net.train_on_batch, draw(BATCH, 6, seed=20 + k), draw(BATCH, 1, seed=30 + k))


def norm_in_flax(folder: Path, mistake: str) -> None:
    import jax
    import optax
    from flax import linen as nn

    class Theirs(nn.RMSNorm):
        pass

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            epsilon = 1e-2 if mistake == "epsilon" else 1e-5
            return nn.Dense(1, name="b")(Theirs(epsilon=epsilon, name="n")(nn.Dense(6, name="a")(x)))

    net = Net()
    params = {
        "a": {"kernel": draw(6, 6, seed=1).T, "bias": np.zeros(6, np.float32)},
        "n": {"scale": np.ones(6, np.float32)},
        "b": {"kernel": draw(1, 6, seed=2).T, "bias": np.zeros(1, np.float32)},
    }
    params = jax.tree.map(jax.numpy.asarray, params)
    optimizer = optax.sgd(0.1)
    state = optimizer.init(params)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda p: ((net.apply({"params": p}, x) - y) ** 2).mean())(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    with watch(folder, params, state, deep=1, shadows=0) as run:
        for k in range(UPDATES):
            x, y = draw(BATCH, 6, seed=20 + k), draw(BATCH, 1, seed=30 + k)
            params, state, _ = run.step(step, params, state, x, y)


def adam_in_torch(folder: Path, mistake: str) -> None:
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(draw(6, 6, seed=1)))
        net[3].weight.copy_(torch.tensor(1e-6 * draw(1, 6, seed=2)))
        net[0].bias.copy_(torch.tensor(draw(6, seed=3)))
        net[3].bias.zero_()
    with watch(folder, net, torch.optim.Adam(net.parameters(), 1e-3), deep=3) as run:
        for k in range(3):
            x, y = torch.tensor(draw(BATCH, 6, seed=20 + k)), torch.tensor(draw(BATCH, 1, seed=30 + k))
            run.step(lambda x=x, y=y: (net(x) - y).square().mean())


def adam_in_keras(folder: Path, mistake: str) -> None:
    import keras
    from keras import layers

    norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    net = keras.Sequential([keras.Input((6,)), layers.Dense(6), norm, layers.Activation("tanh"), layers.Dense(1)])
    ones, zeros = np.ones(6), np.zeros(6)
    last = [1e-6 * draw(1, 6, seed=2).T, np.zeros(1)]
    net.set_weights([draw(6, 6, seed=1).T, draw(6, seed=3), ones, zeros, zeros, ones, *last])
    more = {} if mistake == "default" else {"epsilon": 1e-8}
    rate = 2e-3 if mistake == "rate" else 1e-3
    net.compile(keras.optimizers.Adam(rate, **more), "mse")
    with watch(folder, net, deep=3) as run:
        for k in range(3):
            run.step(net.train_on_batch, draw(BATCH, 6, seed=20 + k), draw(BATCH, 1, seed=30 + k))


PORTS: dict[tuple[str, str], Callable[[Path, str], None]] = {
    ("torch", "gru"): gru_in_torch,
    ("keras", "gru"): gru_in_keras,
    ("torch", "norm"): norm_in_torch,
    ("keras", "norm"): norm_in_keras,
    ("flax", "norm"): norm_in_flax,
    ("torch", "adam"): adam_in_torch,
    ("keras", "adam"): adam_in_keras,
}


def recorded(label: str, model: str, mistake: str, folder: str) -> str:
    """Called where a framework is: trains a port, right or with a mistake, and gives the folder of the run."""
    PORTS[label, model](Path(folder, "run"), mistake)
    return str(Path(folder, "run"))
