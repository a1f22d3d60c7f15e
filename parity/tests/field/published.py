"""Watch MaxCode's PyTorch modules beside ports of them to flax: ``python -m parity.tests.field.published FOLDER``.

The argument is the folder of the modules, ``MaxCode/evaluation/code_agent/pytorch_references/level2`` of a clone of
AI-Hypercomputer/accelerator-agents, which publishes them without ports. Each is watched; those that have a port below
are trained in both frameworks, as they are and with one change.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity import transfer, watch
from parity.explaining.folders import explain_folders
from parity.judging.floors.known import NOTHING
from parity.recording.layers import layers_of
from parity.recording.reader import read

BATCH, UPDATES, DEEP, RATE = 6, 8, 2, 2**-6


class Convolutions(nn.Module):
    wrong: bool = False

    @nn.compact
    def __call__(self, x):  # (batch, channels, rows, columns)
        x = x.transpose(0, 2, 3, 1)
        for width in (16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3), padding=1)(x)), (2, 2), (2, 2))
        x = x if self.wrong else x.transpose(0, 3, 1, 2)
        return nn.Dense(10)(nn.relu(nn.Dense(256)(x.reshape(len(x), -1))))


class Graph(nn.Module):
    wrong: bool = False

    @nn.compact
    def __call__(self, nodes, edges):
        edges = edges if self.wrong else edges + jnp.eye(len(edges))
        scale = jnp.diag(edges.sum(1) ** -0.5)
        return nn.relu(edges @ scale @ scale @ nn.Dense(4)(nodes))


class Attention(nn.Module):
    wrong: bool = False

    @nn.compact
    def __call__(self, x):
        values, keys, queries = (nn.Dense(8, use_bias=False, name=n)(x) for n in ("values", "keys", "queries"))
        split = [y.reshape(*y.shape[:2], 2, 4) for y in (values, keys, queries)]
        energy = jnp.einsum("bqhf,bkhf->bhqk", split[2], split[1]) / (8 if self.wrong else 4) ** 0.5
        mixed = jnp.einsum("bhqk,bkhf->bqhf", nn.softmax(energy), split[0])
        return nn.Dense(8, name="fc_out")(mixed.reshape(x.shape))


def drawn(*shape: int) -> Any:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


EDGES = (np.abs(drawn(BATCH, BATCH)) > 0.5).astype(np.float32)
SUBJECTS: dict[str, tuple[str, Callable[[Any], Any], tuple[Any, ...], Callable[[bool], Any] | None]] = {
    "GRU": ("GRU", lambda m: m.GRUForecaster(4, 6, 2, 3), (drawn(BATCH, 5, 4),), None),
    "MLP": ("MLP", lambda m: m.CreditScoringMLP(6), (drawn(BATCH, 6),), None),
    "TCU": ("TCU", lambda m: m.TemporalBlock(3, 4, 3, 1, 1, 2), (drawn(BATCH, 3, 7),), None),
    "VAE": ("VAE", lambda m: m.VAE(784, 8, 4), (drawn(BATCH, 784),), None),
    "encoder": ("encoder", lambda m: m.TransformerModel(9, 8, 2, 8, 2), (np.arange(30).reshape(BATCH, 5) % 9,), None),
    "generator": ("generative_adversarial_network", lambda m: m.Generator(5, (1, 4, 4)), (drawn(BATCH, 5),), None),
    "discriminator": (
        "generative_adversarial_network",
        lambda m: m.Discriminator((1, 4, 4)),
        (drawn(BATCH, 16),),
        None,
    ),
    "graph": ("graph_convolution", lambda m: m.GraphConvolution(5, 4), (drawn(BATCH, 5), EDGES), Graph),
    "attention forecaster": (
        "lstm_attention_forecaster",
        lambda m: m.LSTMAttentionForecaster(4, 6, 3),
        (drawn(BATCH, 5, 4),),
        None,
    ),
    "lstm": ("lstm_forecaster", lambda m: m.LSTMForecaster(4, 6, 2, 3), (drawn(BATCH, 5, 4),), None),
    "self-attention": ("self_attention", lambda m: m.SelfAttention(8, 2), (drawn(BATCH, 5, 8),), Attention),
    "cnn": ("simple_CNN", lambda m: m.SimpleCNN(), (drawn(BATCH, 3, 32, 32),), Convolutions),
    "rnn": ("simple_RNN", lambda m: m.SimpleRNN(4, 6, 1, 3), (drawn(BATCH, 5, 4),), None),
}


def loaded(folder: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_torch(folder: Path, module: Any, make: Callable[[Any], Any], given: tuple[Any, ...], name: str) -> None:
    torch.manual_seed(0)
    model = make(module)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)
    inputs = [torch.tensor(value) for value in given]
    inputs = [inputs[0]] * 3 + [None] if name == "self-attention" else inputs
    with watch(folder, model, optimizer, shadows=2, deep=DEEP) as run:
        for _ in range(UPDATES):

            def loss() -> Any:
                found = model(*inputs)
                return (found[0] if isinstance(found, tuple) else found).square().mean()

            run.step(loss)


def in_flax(folder: Path, lead: Path, model: Any, given: tuple[Any, ...]) -> None:
    inputs = [jnp.asarray(value) for value in given]
    params, optimizer = model.init(jax.random.key(0), *inputs)["params"], optax.sgd(RATE, 0.5)
    transfer(lead, into=params)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state):
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean(model.apply({"params": p}, *inputs) ** 2))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    with watch(folder, params, state, shadows=2, deep=DEEP) as run:
        for _ in range(UPDATES):
            params, state, _ = run.step(update, params, state)


def never(*arguments: Any) -> Any:
    raise AssertionError("no case is known")


def main(folder: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as kept:
        for number, (name, (file, make, given, port)) in enumerate(SUBJECTS.items()):
            if names and name not in names:
                continue
            begun, lead = time.perf_counter(), Path(kept, f"{number}-torch")
            try:
                in_torch(lead, loaded(folder, file), make, given, name)
            except Exception as error:  # what cannot be watched is a result
                print(f"{name}: not watched: {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            said = f"{name}: watched, {len(list(layers_of(read(lead))))} layers"
            for wrong in (False, True) if port else ():
                other = Path(kept, f"{number}-{wrong}")
                in_flax(other, lead, port(wrong), given)
                comparison, found = explain_folders(NOTHING, other, lead, (), None, never)
                words = f": {found['sentence'][:300]}" if found else ""
                said += f"\n    {'changed' if wrong else 'port'}: {comparison.judgement.verdict}{words}"
            print(f"{said}  ({time.perf_counter() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
