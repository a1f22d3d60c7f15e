"""What recording costs: the same epochs with nothing kept, with snapshots on disk, and with metrics.

The runs alternate. ``train`` trains all epochs in one call. ``write`` takes snapshots as often as the case does and
writes a trajectory, checksums and fsync included: its time beyond ``train`` is the cost of recording. ``write each``
takes a snapshot after every epoch, where the case takes fewer. ``evaluate`` also takes the case's metrics, such as the
accuracy over all training rows: the case asks for that work, recording does not.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measuring import CLOCK, Workers, in_turns, prepare, take
from parity.running.cells import Cell

EPOCHS = {"mnist-mlp": 10, "char-gru": 100, "iris-logistic": 10}
"""Case to epochs: the two cases that have the limit, and a small one, where a snapshot is as much work as a step."""


def wanted(cell: Cell) -> bool:
    """Those cases, in each framework's plain way."""
    return cell.entry.case.name in EPOCHS and "-" not in cell.implementation


@pytest.mark.benchmark(group="recording", timer=CLOCK)
def test_recording(benchmark: Any, trained: Cell, workers: Workers, rounds: int, quick: bool) -> None:
    case = trained.entry.case
    # Every run writes a few files, which weigh more in a short run: a quick ratio is an upper bound.
    epochs = min(10, EPOCHS[case.name]) if quick else EPOCHS[case.name]
    prepared = prepare(workers, trained, epochs, "train")
    ways = ["train", "write", *["write each"] * (case.every > 1), *["evaluate"] * bool(case.metrics)]
    seconds = in_turns(prepared.works(*ways), rounds)
    take(benchmark, seconds["write"])
    benchmark.extra_info |= prepared.described() | {
        "train_seconds": seconds["train"],
        "every": case.every,
        "each_seconds": seconds.get("write each", []),
        "evaluate_seconds": seconds.get("evaluate", []),
    }
