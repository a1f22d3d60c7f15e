"""What it costs to match the tensors of two checkpoints by value, and to explain two deep recordings of many layers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from parity.explaining.folders import explain_folders
from parity.judging.floors.known import NOTHING
from parity.judging.tensors.matching import match
from parity.recorder import Recorder
from parity.recording.artefacts import open_run
from parity.typing import Array, Params

HEADS = 8
BLOCKS = 12
LAYERS, WIDTH, BATCH = 200, 224, 64
WRONG = LAYERS // 2
"""The layer of the second run that computes otherwise."""
ROUNDS = 3


def checkpoints(folder: Path, values: int) -> tuple[Path, Path]:
    """A transformer of about so many values, as PyTorch users and as flax users write it: fused, and by heads."""
    draw = np.random.default_rng(0)
    width = int((values / BLOCKS / 12) ** 0.5) // HEADS * HEADS
    by_head = width, HEADS, width // HEADS

    def drawn(rows: int, columns: int) -> Array:
        found: Array = draw.standard_normal((rows, columns), np.float32)
        return found

    one: Params = {}
    other: Params = {}
    for block in range(BLOCKS):
        q, k, v, out = (drawn(width, width) for _ in range(4))
        up, down = drawn(width, 4 * width), drawn(4 * width, width)
        one |= {
            f"h.{block}.attn.qkv.weight": np.concatenate([q, k, v], 1).T.copy(),
            f"h.{block}.attn.out.weight": out.T.copy(),
            f"h.{block}.mlp.up.weight": up.T.copy(),
            f"h.{block}.mlp.down.weight": down.T.copy(),
        }
        other |= {
            f"Block_{block}/query/kernel": q.reshape(by_head),
            f"Block_{block}/key/kernel": k.reshape(by_head),
            f"Block_{block}/value/kernel": v.reshape(by_head),
            f"Block_{block}/out/kernel": out.reshape(HEADS, width // HEADS, width),
            f"Block_{block}/up/kernel": up,
            f"Block_{block}/down/kernel": down,
        }
    paths = folder / "one.safetensors", folder / "other.safetensors"
    for path, tensors in zip(paths, (one, other), strict=True):
        save_file(tensors, path)
    return paths


def recorded(folder: Path, wrong: int | None) -> Path:
    """One update of ``LAYERS`` layers with tanh, recorded deeply; in the ``wrong`` one, with something else."""
    draw = np.random.default_rng(0)
    params = {f"layer{k}/kernel": draw.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5 for k in range(LAYERS)}
    x = draw.standard_normal((BATCH, WIDTH))
    given, activations, slopes = [x], {}, []
    for k, kernel in enumerate(params.values()):
        z = given[-1] @ kernel * (1.001 if k == wrong else 1.0)
        given.append(np.tanh(z))
        slopes.append((1 - given[-1] ** 2) * (1.001 if k == wrong else 1.0))
        activations[f"layer{k}"] = given[-1]
    d_h, gradients, activation_gradients = np.full_like(x, 1 / x.size), {}, {}
    for k in reversed(range(LAYERS)):
        activation_gradients[f"layer{k}"] = d_h
        d_z = d_h * slopes[k]
        gradients[f"layer{k}/kernel"] = given[k].T @ d_z
        d_h = d_z @ params[f"layer{k}/kernel"].T
    with Recorder(folder, "float64", deep=1) as run:
        run.snapshot(params)
        run.step(
            given[-1].mean(),
            rows=np.arange(BATCH),
            prediction=given[-1],
            gradients=gradients,
            params=params,
            activations=activations,
            activation_gradients=activation_gradients,
        )
        run.snapshot({name: value - 0.1 * gradients[name] for name, value in params.items()})
        run.describe(layers=[{"name": name, "kind": "Dense", "configuration": {}} for name in activations])
    return folder


def timed(benchmark: Any, work: Callable[[], Any], rounds: int) -> Any:
    """Time ``work``, and once more, untimed, trace its memory. Gives what it returns."""
    tracemalloc.start()
    found = work()
    benchmark.extra_info["peak_bytes"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.pedantic(work, rounds=rounds)
    return found


def _never(*arguments: Any) -> Any:
    raise AssertionError("these runs are of no case, so that none is replayed")


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files are taken away at once: they are large."""
    yield tmp_path
    for file in tmp_path.rglob("*.safetensors"):
        file.unlink()


@pytest.mark.parametrize("values", [10**6, 10**7, 10**8])
@pytest.mark.benchmark(group="matching")
def test_matching(benchmark: Any, scratch: Path, values: int, quick: bool) -> None:
    """Match all tensors of two checkpoints, of one transformer in two layouts."""
    if quick and values > 10**7:
        pytest.skip("takes a gigabyte: without --quick")
    one, other = checkpoints(scratch, values)
    found = timed(benchmark, lambda: match(open_run(one), open_run(other)), ROUNDS)
    proven = sum(pairing.proven for pairing in found.pairings)
    benchmark.extra_info |= {"values": values, "tensors": 4 * BLOCKS, "proven": proven}


@pytest.mark.benchmark(group="explaining")
def test_explaining(benchmark: Any, scratch: Path) -> None:
    """Explain where two recordings of many layers part, one of which is wrong in the middle."""
    right, wrong = recorded(scratch / "right", None), recorded(scratch / "wrong", WRONG)

    def work() -> Any:
        return explain_folders(NOTHING, wrong, right, (), None, _never)[1]

    said = timed(benchmark, work, ROUNDS)
    benchmark.extra_info |= {"values": LAYERS * WIDTH**2, "layers": LAYERS, "said": said["sentence"][:200]}
