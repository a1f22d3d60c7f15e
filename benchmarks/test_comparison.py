"""What a comparison costs: every value's difference, beside NumPy, PyTorch and a plain copy.

Each group times all of its peers on the same arrays in one process: its ratios say more than its seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from parity.judging.compare import differences
from parity.spec import Array

VALUES, QUICK_VALUES = 10**8, 10**7
SNAPSHOTS = 10
ROUNDS = 5

Work = Callable[[Array, Array], object]


@cache
def values(count: int) -> Array:
    """``count`` normal float32 values as (10, count / 10)."""
    return np.random.default_rng(0).standard_normal(count, np.float32).reshape(SNAPSHOTS, -1)


def rounded(a: Array) -> Array:
    """The same run in another framework: every value up to three ULPs off, a few to either side of the tolerance."""
    ulps = np.random.default_rng(1).integers(-3, 4, a.shape, np.int8)
    b: Array = a + ulps * np.spacing(a)
    return b


def nearly_equal(a: Array) -> Array:
    b = a.copy()
    b[:, a.shape[1] // 2] += np.float32(1e-3)
    return b


def opposite(a: Array) -> Array:
    return -rounded(a)


def with_nan(a: Array) -> Array:
    b = rounded(a)
    b[:, ::1000] = np.nan
    return b


CASES: dict[str, Callable[[Array], Array]] = {
    "rounding": rounded,
    "nearly equal": nearly_equal,
    "opposite signs": opposite,
    "NaN": with_nan,
}


@pytest.fixture(scope="session")
def size(quick: bool) -> int:
    return QUICK_VALUES if quick else VALUES


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, size: int) -> tuple[str, Array, Array]:
    """One case with its two sides. Memory holds one case at a time."""
    return request.param, values(size), CASES[request.param](values(size))


def ours(a: Array, b: Array) -> object:
    return differences(a, b, tolerance=np.full(len(a), 1e-6))


def numpy_assert(a: Array, b: Array) -> object:
    with contextlib.suppress(AssertionError):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return None


def torch_assert(a: Array, b: Array) -> object:
    import torch

    with contextlib.suppress(AssertionError):
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(b))
    return None


def copy(a: Array, b: Array) -> object:
    # Into the other side's place, kept from call to call: pages that exist cost no fault.
    np.copyto(target(a.size)[: a.size].reshape(a.shape), a)
    return None


@cache
def target(count: int) -> Array:
    return np.zeros(count, np.float32)


PEERS: dict[str, Work] = {"parity": ours, "numpy.testing.assert_allclose": numpy_assert, "copy": copy}
if importlib.util.find_spec("torch"):
    PEERS["torch.testing.assert_close"] = torch_assert


def timed(benchmark: Any, work: Work, a: Array, b: Array, rounds: int = ROUNDS) -> None:
    """Time ``work``. Of our own work, one more run, untimed, traces the memory."""
    benchmark.extra_info.update(values=a.size, bytes=a.nbytes + b.nbytes)
    if work is ours:
        tracemalloc.start()
        work(a, b)
        benchmark.extra_info["peak_bytes"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    benchmark.pedantic(work, (a, b), rounds=rounds, warmup_rounds=0)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.benchmark(group="comparison")
def test_comparison(benchmark: Any, pair: tuple[str, Array, Array], peer: str) -> None:
    """Find the largest absolute, relative and ULP difference, places, counts. The peers' asserts do a part of that."""
    case, a, b = pair
    PEERS[peer](a[:1, :10], b[:1, :10])  # A peer's import is no comparison.
    # The peers take seconds a round. Only the typical case times them as often as ours, the others twice.
    rounds = ROUNDS if case == "rounding" or peer in ("parity", "copy") else 2
    if case == "NaN" and PEERS[peer] is numpy_assert:
        benchmark.extra_info["partial"] = "it compares the places of NaN first and stops where they differ"
    timed(benchmark, PEERS[peer], a, b, rounds)


@pytest.mark.parametrize("peer", ["parity", "copy"])
@pytest.mark.benchmark(group="equal bytes")
def test_equal_bytes(benchmark: Any, size: int, peer: str) -> None:
    """Two stacks of the same bytes beside a copy of one: both move the same number of bytes."""
    timed(benchmark, PEERS[peer], values(size), values(size).copy())


@pytest.mark.parametrize("count", [10**n for n in range(3, 9)])
@pytest.mark.benchmark(group="scaling")
def test_scaling(benchmark: Any, count: int) -> None:
    """Seconds grow with the values and memory does not."""
    a = values(count)
    timed(benchmark, ours, a, rounded(a), rounds=max(ROUNDS, min(100, 10**6 // count)))


@pytest.mark.parametrize(
    "shape", [(1, QUICK_VALUES), (1000, QUICK_VALUES // 1000), (QUICK_VALUES // 100, 100)], ids=str
)
@pytest.mark.benchmark(group="shapes")
def test_shapes(benchmark: Any, shape: tuple[int, int]) -> None:
    """One large tensor, many snapshots, very many small ones: 10^7 values each."""
    a = values(QUICK_VALUES).reshape(shape)
    timed(benchmark, ours, a, rounded(a))
