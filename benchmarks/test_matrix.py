"""The whole matrix as it is run: ``parity run`` into an empty folder, and again, when all is on disk.

The breakdown is read from the recorded runs, which say how long importing, building and training took in the workers.
What the command does after that is timed with ``parity report``, which does the same with the runs in the folder.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import CLOCK, QUICK_LABELS, Workers, take
from benchmarks.test_startup import process
from parity.frameworks import FRAMEWORKS, framework_of
from parity.recording.format import MANIFEST

QUICK = ("iris-logistic", "mlp-regression")


class Runs:
    """``parity run`` into one folder."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder, self.arguments = folder, arguments

    def run(self) -> float:
        """Seconds of the command; CalledProcessError unless every cell passes."""
        return process("-m", "parity", "run", "--out", str(self.folder), *self.arguments)

    def breakdown(self) -> Mapping[str, Mapping[str, float]]:
        """Framework to phase to the seconds that its workers spent there, over all recorded runs."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for meta in self._recorded():
            found[framework_of(meta["implementation"]).name].update(meta["timings"], train=meta["seconds"])
        return found

    def afterwards(self, scratch: Path) -> dict[str, float]:
        """The seconds of judging every run and of making the page, both done once more from the folder."""
        again = ("-m", "parity", "report", str(self.folder))
        judged = process(*again, "--format", "json", "--output", str(scratch / "outcomes.json"))
        whole = process(*again, "--output", str(scratch / "report.html"))
        return {"judging": judged, "page": max(0.0, whole - judged)}

    def manifests(self) -> list[Path]:
        return list(self.folder.glob(f"*/*/{MANIFEST}"))

    def _recorded(self) -> Iterator[dict[str, Any]]:
        for path in self.manifests():
            yield json.loads(path.read_text())


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, quick: bool, workers: Workers, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    option = request.config.getoption
    cases = option("--parity-case") or (QUICK if quick else ())
    labels = option("--parity-impl") or (QUICK_LABELS if quick else ())
    arguments = [*cases, *(word for label in labels for word in ("--impl", label))]
    here = [framework.name for framework in FRAMEWORKS if workers.has(framework.name)]
    frameworks = option("--parity-framework") or (here if len(here) < len(FRAMEWORKS) else [])
    arguments += [word for name in frameworks for word in ("--framework", name)]
    return Runs(tmp_path_factory.mktemp("matrix"), arguments)


@pytest.mark.benchmark(group="matrix", timer=CLOCK)
def test_cold(benchmark: Any, runs: Runs, tmp_path: Path) -> None:
    take(benchmark, [runs.run()])
    benchmark.extra_info |= {
        "arguments": runs.arguments,
        "recorded_runs": len(runs.manifests()),
        "breakdown": runs.breakdown(),
        "afterwards": runs.afterwards(tmp_path),
    }


@pytest.mark.benchmark(group="matrix", timer=CLOCK)
def test_warm(benchmark: Any, runs: Runs, rounds: int) -> None:
    if not runs.manifests():
        runs.run()
    take(benchmark, [runs.run() for _ in range(rounds)])
    benchmark.extra_info |= {"arguments": runs.arguments}
