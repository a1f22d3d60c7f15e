"""What recording costs: the same epochs trained and nothing kept, snapshots written to disk, and evaluated.

The runs alternate. ``train`` is one call for all epochs. ``write`` takes snapshots as often as the case has them and
writes a trajectory, checksums and fsync included: what it takes beyond ``train`` is the cost of recording. ``write
each`` takes one after every epoch where the case has fewer. ``evaluate`` also takes the case's metrics, such as the
accuracy over all training rows, which is work of the case and not of recording.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measuring import CLOCK, Workers, in_turns, steps, take
from benchmarks.worker import Prepare, Run
from parity.running.cells import Cell

EPOCHS = {"mnist-mlp": 10, "char-gru": 100, "iris-logistic": 10}
"""Case to epochs: the two that the limit is set for, and a small one, where a snapshot is as much work as a step."""


def wanted(cell: Cell) -> bool:
    """Those cases, in each framework's plain way."""
    return cell.entry.case.name in EPOCHS and "-" not in cell.implementation


@pytest.mark.benchmark(group="recording", timer=CLOCK)
def test_recording(benchmark: Any, trained: Cell, workers: Workers, rounds: int, quick: bool) -> None:
    case, label = trained.entry.case, trained.implementation
    framework = workers.need(label)
    # The shorter the run, the more the few files weigh that any run writes: a quick ratio is an upper one.
    epochs = min(10, EPOCHS[case.name]) if quick else EPOCHS[case.name]
    job = {"case": case.name, "implementation": label, "epochs": epochs}
    workers.ask(framework, Prepare, **job, way="train")
    ways = ["train", "write", *["write each"] * (case.every > 1), *["evaluate"] * bool(case.metrics)]
    seconds = in_turns({way: workers.timed(framework, Run, **job, way=way) for way in ways}, rounds)
    take(benchmark, seconds["write"])
    benchmark.extra_info |= {
        "case": case.name,
        "implementation": label,
        "steps": steps(case, epochs),
        "train_seconds": seconds["train"],
        "every": case.every,
        "each_seconds": seconds.get("write each", []),
        "evaluate_seconds": seconds.get("evaluate", []),
    }
