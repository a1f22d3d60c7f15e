"""What the project asks of its own speed, and whether a result holds it.

Each limit is a largest ratio, or a largest number of seconds or bytes. It holds where the median does not exceed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import words
from benchmarks.result import Benchmark, Result, Spread
from parity.suite import rank

TORCH_LIMIT = 0.9
"""The recorded run of ``torch`` over the document's own listing."""
FASTEST_LIMITS = {
    **dict.fromkeys(("iris-logistic", "linear-regression", "sine-cubic", "mlp-regression", "char-gru"), 0.2),
    **dict.fromkeys(("mnist-softmax", "mnist-mlp"), 0.7),
}
"""The recorded run of the fastest implementation over the document's own listing, by case."""
RECORDING_LIMIT = 1.1
"""A run recorded on disk over the same training with nothing kept."""
RECORDING_CASES = ("mnist-mlp", "char-gru")
"""The cases that ``RECORDING_LIMIT`` is asked of."""
WATCHING_LIMIT = 1.05
"""An update of a watched loop, after those that are recorded deeply, over one that nobody watches."""
DEEP_LIMIT = 1.5
"""A deeply recorded update, less what the disk alone takes for what it records, over one that nobody watches."""
OURS = "parity"
"""What stands in a benchmark's parameter ``peer`` where the project's own work is timed."""
ASKED_VALUES = 10**8
"""The number of values, in each run, that the limits of comparing are set for."""
COMPARING_LIMITS = {"numpy.testing.assert_allclose": 0.05, "torch.testing.assert_close": 0.15}
"""Comparing two runs over what the peer of that name takes for the same arrays."""
EQUAL_LIMITS = {"copy": 2.0}
"""Recognising equal bytes over copying as many."""
MEMORY_LIMIT = 64 << 20
"""The bytes that comparing takes beyond the arrays that it reads."""
MATCHING_SECONDS = 5.0
"""Matching two checkpoints of ``ASKED_VALUES`` values, read from disk."""
COLD_SECONDS, WARM_SECONDS = 240.0, 3.0
"""``parity run`` of everything: into an empty folder, and again with all of it on disk."""


@dataclass(frozen=True)
class Limit:
    """One limit: ``figure``, the measure of ``what``, must not exceed ``most``. ``unit`` is ``×``, ``s`` or ``B``."""

    what: str
    figure: Spread
    most: float
    unit: str = "×"

    @property
    def holds(self) -> bool:
        return self.figure.median <= self.most

    @property
    def measured(self) -> str:
        """The figure in words, a ratio with its spread."""
        return words.times(self.figure) if self.unit == "×" else self._said(self.figure.median)

    @property
    def limit(self) -> str:
        """The largest value allowed, in words."""
        return self._said(self.most)

    def _said(self, value: float) -> str:
        return {"s": words.seconds, "B": words.memory}[self.unit](value) if self.unit in "sB" else f"{value:g} ×"


def limits(result: Result) -> Iterator[Limit]:
    """Every limit whose figure ``result`` holds."""
    yield from _training_limits(result)
    yield from _recording_limits(result)
    yield from _watching_limits(result)
    yield from _comparing_limits(result)
    yield from _matching_limits(result)
    yield from _matrix_limits(result)


def _training_limits(result: Result) -> Iterator[Limit]:
    for case, found in by_case(result.group("training")).items():
        against = {label: ratio for label, b in found.items() if (ratio := b.ratio("listing_seconds"))}
        if "torch" in against:
            yield Limit(f"{case}: torch, over the listing", against["torch"], TORCH_LIMIT)
        if against and case in FASTEST_LIMITS:
            label = min(against, key=lambda label: against[label].median)
            yield Limit(f"{case}: the fastest ({label}), over the listing", against[label], FASTEST_LIMITS[case])


def _recording_limits(result: Result) -> Iterator[Limit]:
    for case, found in by_case(result.group("recording")).items():
        for label, benchmark in found.items():
            ratio = benchmark.ratio("train_seconds")
            if ratio and case in RECORDING_CASES:
                yield Limit(f"{case}: {label} recorded, over training alone", ratio, RECORDING_LIMIT)


def _watching_limits(result: Result) -> Iterator[Limit]:
    for benchmark in result.group("watching"):
        if ratio := benchmark.ratio("plain_seconds"):
            yield Limit(f"{benchmark.info['loop']}: a watched update, over a plain one", ratio, WATCHING_LIMIT)
        if deep := deep_ratio(benchmark):
            yield Limit(f"{benchmark.info['loop']}: a deep update less its bytes, over a plain one", deep, DEEP_LIMIT)


def deep_ratio(benchmark: Benchmark) -> Spread | None:
    """A deep update less what the disk takes for it, over a plain one, round by round; None where one is missing."""
    deep, disk, plain = (benchmark.info.get(f"{name}_seconds") for name in ("deep", "disk", "plain"))
    if not deep or not disk or not plain:
        return None
    return Spread(tuple((each - written) / usual for each, written, usual in zip(deep, disk, plain, strict=True)))


def _comparing_limits(result: Result) -> Iterator[Limit]:
    """Comparisons over their peers. A benchmark's parameter ``peer`` names either side."""
    for group, most in (("comparison", COMPARING_LIMITS), ("equal bytes", EQUAL_LIMITS)):
        large = [b for b in result.group(group) if b.info.get("values", 0) >= ASKED_VALUES]
        for what, found in beside_peers(large).items():
            for peer, other in found.items():
                if OURS in found and peer in most and "partial" not in other.info:
                    ratio = Spread((found[OURS].seconds.median / other.seconds.median,))
                    yield Limit(f"{what}: over {peer}", ratio, most[peer])
        taken = [float(b.info["peak_bytes"]) for b in large if b.params.get("peer", OURS) == OURS]
        if taken:
            yield Limit(f"{group}: memory beyond the arrays", Spread((max(taken),)), MEMORY_LIMIT, "B")


def _matching_limits(result: Result) -> Iterator[Limit]:
    for benchmark in result.group("matching"):
        if benchmark.info["values"] >= ASKED_VALUES:
            yield Limit(f"matching {benchmark.info['values']:,} values", benchmark.seconds, MATCHING_SECONDS, "s")


def _matrix_limits(result: Result) -> Iterator[Limit]:
    """The whole matrix. A part of it, which has arguments, is asked nothing."""
    for benchmark in result.group("matrix"):
        if not benchmark.info.get("arguments"):
            cold = benchmark.name == "test_cold"
            again, most = ("for the first time", COLD_SECONDS) if cold else ("again", WARM_SECONDS)
            yield Limit(f"parity run: everything, run {again}", benchmark.seconds, most, "s")


def by_case(benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, Benchmark]]:
    """Case to implementation to benchmark: cases as they were measured, implementations in the matrix's order."""
    found: dict[str, dict[str, Benchmark]] = {}
    for benchmark in sorted(benchmarks, key=lambda benchmark: rank(benchmark.info["implementation"])):
        found.setdefault(benchmark.info["case"], {})[benchmark.info["implementation"]] = benchmark
    order = list(dict.fromkeys(benchmark.info["case"] for benchmark in benchmarks))
    return {case: found[case] for case in order}


def beside_peers(benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, Benchmark]]:
    """What is compared to peer to benchmark. The parameter ``peer`` names the peer; the others say what is compared."""
    found: dict[str, dict[str, Benchmark]] = {}
    for b in benchmarks:
        what = ", ".join((b.group, *(str(value) for name, value in b.params.items() if name != "peer")))
        found.setdefault(what, {})[str(b.params.get("peer", OURS))] = b
    return found
