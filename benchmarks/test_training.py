"""Training throughput: the recorded run of every case and implementation beside the document's own listing.

A round runs the listing and then the recorded run, both for the same number of epochs from the same initial
parameters. The recorded run takes a snapshot and the case's metrics after every epoch; a case that has metrics is run
without them too.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measuring import CLOCK, Workers, in_turns, prepare, take
from benchmarks.plain import LISTINGS
from benchmarks.worker import Listing
from parity.running.cells import Cell

EPOCHS = {
    "sine-cubic": 500,
    "sine-legendre": 500,
    "linear-gd": 500,
    "mnist-softmax": 2,
    "mnist-mlp": 2,
    "dogecoin-logistic": 2,
    "char-gru": 10,
}
"""Case to epochs, where whole runs would take minutes. The cost of an epoch does not depend on their number."""


@pytest.mark.benchmark(group="training", timer=CLOCK)
def test_training(benchmark: Any, trained: Cell, workers: Workers, rounds: int) -> None:
    case = trained.entry.case
    listing = LISTINGS.get(case.name)
    if listing and not workers.has(listing.framework):
        listing = None
    epochs = EPOCHS.get(case.name, case.epochs)
    prepared = prepare(workers, trained, epochs, "record")
    works = {}
    if listing:
        works["listing"] = workers.timed(listing.framework, Listing, case=case.name, epochs=epochs)
    works |= prepared.works("record", *["keep"] * bool(case.metrics))
    seconds = in_turns(works, rounds)
    take(benchmark, seconds["record"])
    benchmark.extra_info |= prepared.described() | {
        "first": prepared.first,
        "listing": f"{listing.framework}: {listing.way}" if listing else None,
        "listing_seconds": seconds.get("listing", []),
        "without_metrics_seconds": seconds.get("keep", []),
    }
