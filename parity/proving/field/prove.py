"""The field proved: every pair recorded in its two frameworks, judged, explained, and held against what is right."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from parity.dtypes import DTYPES
from parity.judging.verdict import Verdict
from parity.proving.field.judged import NARROWED, RIGHT, UNEXPLAINED, WRONG, Found
from parity.proving.field.pair import Pair
from parity.proving.field.pairs import PAIRS
from parity.proving.field.worker import RUNS, Judge, Record
from parity.running.deadlines import Deadlines
from parity.running.executor import Environment, Progress, Resources, WorkerError
from parity.running.on import LOCAL, executor
from parity.running.packages import reach_of
from parity.running.versions import Versions

SUBSET = (
    "adamw-default-decay",
    "warm-up-from-zero",
    "sum-for-mean",
    "clipped-by-tensor",
    "gradients-not-cleared",
    "padding-row-trained",
    "layer-norm-unbiased",
    "flattened-channels-first",
)
"""Pairs of every phase, in PyTorch and JAX."""
LOCATED = 0.95
"""The least share of the faults that must be located."""


@dataclass
class FieldEvidence:
    """What ``parity prove --field`` found.

    Attributes:
        found: What became of each pair in each dtype.
        left_out: Why pairs were left out, by their names.
        failures: What could not be run.
        subset: Whether a part of the pairs was asked for.
        seconds: How long it took.
    """

    found: list[Found] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    subset: bool = False
    seconds: float = 0.0

    def counts(self, dtype: str | None = None) -> dict[str, int]:
        """Count what was found.

        Args:
            dtype: Of which runs; None for all.

        Returns:
            Numbers by what they count.
        """
        found = [one for one in self.found if dtype in (None, one.dtype)]
        return {
            "pairs": len(found),
            **{f"right_{verdict.lower()}": sum(one.right is verdict for one in found) for verdict in Verdict},
            "caught": sum(one.wrong is Verdict.FAIL for one in found),
            "located": sum(one.located for one in found),
            "named_right": sum(one.named == RIGHT for one in found),
            "narrowed": sum(one.named == NARROWED for one in found),
            "named_wrong": sum(one.named == WRONG for one in found),
            "unexplained": sum(one.named == UNEXPLAINED for one in found),
        }

    @property
    def proved(self) -> bool:
        """No right pair fails, every fault fails in float64, 95 % are located, none is named wrongly, all was run."""
        counts = self.counts()
        caught = all(one.wrong is Verdict.FAIL for one in self.found if one.dtype == "float64")
        located = counts["located"] >= LOCATED * counts["pairs"]
        clean = not counts["right_fail"] and not counts["named_wrong"]
        return bool(self.found) and clean and caught and located and not self.failures

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        known = {pair.name: pair for pair in PAIRS}
        pairs = [
            {
                **asdict(one),
                "differs": known[one.pair].differs,
                "address": known[one.pair].address,
                "planted_phase": str(known[one.pair].phase),
                "sides": list(known[one.pair].sides),
                "by": known[one.pair].by,
            }
            for one in self.found
        ]
        counts = {dtype: self.counts(dtype) for dtype in DTYPES} | {"all": self.counts()}
        return {
            "counts": counts,
            "pairs": pairs,
            "left_out": self.left_out,
            "failures": self.failures,
            "subset": self.subset,
            "proved": self.proved,
            "seconds": self.seconds,
        }


def prove_field(
    names: Sequence[str] = (),
    subset: bool = False,
    jobs: int | None = None,
    pythons: Mapping[str, str] | None = None,
    timeout: float | None = None,
    folder: Path | None = None,
    on_plan: Callable[[int], None] = lambda jobs: None,
    on_step: Callable[[str], None] = lambda name: None,
    on_job: Callable[[str], None] = lambda name: None,
) -> FieldEvidence:
    """Record the pairs of the field in worker processes, and judge them; leave out those of missing frameworks.

    Args:
        names: Which pairs; none for all.
        subset: Whether a representative part is enough.
        jobs: How many processes work at a time.
        pythons: Interpreters of frameworks.
        timeout: Seconds that a job may take.
        folder: Where recordings are kept; None to keep none.
        on_plan: Told how many jobs there are.
        on_step: Told which job is at work.
        on_job: Told which job has ended.

    Raises:
        ValueError: If no pair has one of the names.
    """
    begun, evidence = time.monotonic(), FieldEvidence(subset=subset)
    chosen = _available(_chosen(names, subset), Versions(pythons or {}), evidence)
    with tempfile.TemporaryDirectory(prefix="parity-field-") as own:
        root = folder or Path(own)
        with executor(LOCAL, jobs, pythons, reach_of("parity"), Deadlines(timeout)) as pool:
            on_plan(len(chosen) * len(DTYPES) * (len(RUNS) + 1))
            runs: dict[Future[Any], Record | Judge] = {}
            waiting: dict[tuple[str, str], int] = {}
            # All of one framework one after the other, so that its processes are begun once.
            for pair in chosen:
                for dtype in DTYPES:
                    place = root / dtype / pair.name
                    place.mkdir(parents=True, exist_ok=True)
                    waiting[pair.name, dtype] = len(RUNS)
                    for which in range(len(RUNS)):
                        environment = Environment(pair.environments[min(which, 1)])
                        resources = Resources(about=f"field {pair.model}")
                        job = Record(pair.name, which, dtype, str(place), environment, resources)
                        runs[pool.submit(job, partial(_told, on_step, _name(job)))] = job
            while runs:
                done, _ = wait(runs, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    ended = runs.pop(future)
                    key = ended.pair, ended.dtype
                    try:
                        result = future.result()
                        if isinstance(ended, Judge):
                            evidence.found.append(result)
                        else:
                            waiting[key] -= 1
                    except WorkerError as error:
                        evidence.failures.append(f"{_name(ended)}: {error}")
                    on_job(_name(ended))
                    if isinstance(ended, Record) and waiting[key] == 0:
                        judge = Judge(*key, ended.folder, Environment("numpy"), Resources(about="field"))
                        runs[pool.submit(judge, partial(_told, on_step, _name(judge)))] = judge
    order = [pair.name for pair in PAIRS]
    evidence.found.sort(key=lambda one: (order.index(one.pair), one.dtype))
    evidence.seconds = time.monotonic() - begun
    return evidence


def _chosen(names: Sequence[str], subset: bool) -> list[Pair]:
    known = {pair.name: pair for pair in PAIRS}
    for name in names:
        if name not in known:
            raise ValueError(f"no pair of the field is called {name!r}: there are {', '.join(known)}")
    return [known[name] for name in names or (SUBSET if subset else known)]


def _available(pairs: Sequence[Pair], versions: Versions, evidence: FieldEvidence) -> list[Pair]:
    """Leave out the pairs whose frameworks are not installed, and say why."""
    found = []
    for pair in pairs:
        missing = [one.reason for one in map(versions.availability, pair.sides) if not one.available]
        if missing:
            evidence.left_out[pair.name] = missing[0]
        else:
            found.append(pair)
    return found


def _name(job: Record | Judge) -> str:
    what = "judge" if isinstance(job, Judge) else f"{job.environment.framework} {RUNS[job.which]}"
    return f"{job.pair} {job.dtype} {what}"


def _told(on_step: Callable[[str], None], name: str, progress: Progress) -> None:
    on_step(name)
