"""The result of a benchmark run, read from pytest-benchmark's JSON, and how two results differ."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

SURE = 0.05
"""A difference is marked if chance alone would show it less often than in this share of comparisons."""
TOO_FEW = "too few rounds"
PEERS = ("listing_seconds", "train_seconds", "import_numpy_seconds")
"""Under these names the suites keep the seconds of the peers that they alternate with."""


class ResultError(ValueError):
    """The file is no result of these benchmarks; the message says what to do."""


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: the ``seconds`` of each round, the test's parameters, and in ``info`` what else the test notes."""

    name: str
    group: str
    seconds: Spread
    params: dict[str, Any]
    info: dict[str, Any]

    @property
    def per_step(self) -> Spread:
        """Seconds of a training step; seconds of a round where nothing is trained."""
        steps = self.info.get("steps", 1)
        return Spread(tuple(value / steps for value in self.seconds.values))

    def ratio(self, peer: str, of: str = "") -> Spread | None:
        """Each round over the peer's in the same round; None where either is missing.

        ``info`` has the peer's seconds under the name ``peer``. With ``of``, seconds of that name in ``info`` take the
        place of the benchmark's own.
        """
        ours, other = self.info.get(of) if of else self.seconds.values, self.info.get(peer)
        if not ours or not other or len(other) != len(ours):
            return None
        return Spread(tuple(a / b for a, b in zip(ours, other, strict=True)))

    def paired(self) -> Spread | None:
        """The ratio to the peer that the benchmark alternated with; None where it had none."""
        return next((ratio for peer in PEERS if (ratio := self.ratio(peer))), None)


@dataclass(frozen=True)
class Result:
    """A run of the benchmarks. ``unmeasured`` maps each benchmark without a figure to the reason."""

    benchmarks: tuple[Benchmark, ...]
    machine: dict[str, Any]
    commit: dict[str, Any]
    date: str
    quick: bool
    unmeasured: dict[str, str]

    @property
    def version(self) -> str:
        """The commit that was measured, in words; "" where it is unknown because the run began outside a clone."""
        name = str(self.commit.get("id", "unversioned"))
        if name == "unversioned":  # as pytest-benchmark has it
            return ""
        return f"commit {name[:10]}" + (" and changes" if self.commit.get("dirty") else "")

    def group(self, name: str) -> list[Benchmark]:
        return [benchmark for benchmark in self.benchmarks if benchmark.group == name]


def read(path: Path) -> Result:
    """Read a result from pytest-benchmark's JSON; ResultError says what is wrong with the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        benchmarks = tuple(_benchmarks(content["benchmarks"]))
        return Result(
            benchmarks,
            dict(content["machine_info"]),
            dict(content["commit_info"]),
            str(content["datetime"]),
            bool(content.get("quick", False)),
            dict(content.get("unmeasured", {})),
        )
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path} is no result of 'parity bench' ({type(error).__name__}: {error}): name its parity-benchmarks.json"
        ) from error


def _benchmarks(entries: Sequence[dict[str, Any]]) -> Iterator[Benchmark]:
    for entry in entries:
        seconds = tuple(float(value) for value in entry["stats"]["data"])
        if not seconds or min(seconds) <= 0:
            raise ValueError(f"{entry['name']} holds no positive times")
        params, info = dict(entry.get("params") or {}), dict(entry["extra_info"])
        yield Benchmark(str(entry["name"]), str(entry["group"]), Spread(seconds), params, info)


@dataclass(frozen=True)
class Change:
    """One benchmark in two runs, in seconds, or ``paired`` as the ratio to its peer of the same run.

    ``mark`` is faster, slower, within noise, or TOO_FEW.
    """

    name: str
    now: Spread
    before: Spread
    paired: bool
    mark: str

    @property
    def ratio(self) -> float:
        return self.now.median / self.before.median


def chance(rounds: int, others: int) -> float:
    """The probability that all rounds of one run lie on one side of all of the other's, if every order is as likely."""
    return 2 / comb(rounds + others, rounds)


def beyond_noise(now: Spread, before: Spread) -> str:
    """The mark of a change. It is beyond noise if the slowest round of one run beats the fastest of the other."""
    if chance(len(now.values), len(before.values)) > SURE:
        return TOO_FEW
    if now.high < before.low:
        return "faster"
    return "slower" if now.low > before.high else "within noise"


def changes(result: Result, earlier: Result) -> list[Change]:
    """The benchmarks that both runs measured, in this run's order."""
    before = {(benchmark.group, benchmark.name): benchmark for benchmark in earlier.benchmarks}
    found = []
    for benchmark in result.benchmarks:
        other = before.get((benchmark.group, benchmark.name))
        if other is None:
            continue
        now, then = benchmark.paired(), other.paired()
        paired = now is not None and then is not None
        if now is None or then is None:
            now, then = benchmark.per_step, other.per_step
        found.append(Change(benchmark.name, now, then, paired, beyond_noise(now, then)))
    return found


def drift(result: Result, earlier: Result) -> float | None:
    """How many times as long the listings took as in the earlier run: the machine's own change."""
    before = {benchmark.name: benchmark for benchmark in earlier.group("training")}
    ratios = [
        statistics.median(_peer(benchmark)) / statistics.median(_peer(before[benchmark.name]))
        for benchmark in result.group("training")
        if benchmark.name in before and _peer(benchmark) and _peer(before[benchmark.name])
    ]
    return statistics.median(ratios) if ratios else None


def _peer(benchmark: Benchmark) -> list[float]:
    return [value / benchmark.info["steps"] for value in benchmark.info.get("listing_seconds", [])]
