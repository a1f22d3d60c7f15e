"""Training throughput: the recorded run of every case and implementation beside the document's own listing.

A round is the listing and then the recorded run, for the same number of epochs from the same initial parameters, with
a snapshot and the case's metrics after every epoch; where a case has metrics, it is run without them as well.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measuring import CLOCK, Workers, in_turns, steps, take
from benchmarks.plain import LISTINGS
from benchmarks.worker import Listing, Prepare, Run
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
"""Where rounds of the whole run would take minutes. What an epoch costs does not depend on their number."""


@pytest.mark.benchmark(group="training", timer=CLOCK)
def test_training(benchmark: Any, trained: Cell, workers: Workers, rounds: int) -> None:
    case, label = trained.entry.case, trained.implementation
    framework, listing = workers.need(label), LISTINGS.get(case.name)
    if listing and not workers.has(listing.framework):
        listing = None
    epochs = EPOCHS.get(case.name, case.epochs)
    job: dict[str, Any] = {"case": case.name, "implementation": label, "epochs": epochs}
    first = workers.ask(framework, Prepare, **job, way="record").as_json()
    works = {}
    if listing:
        works["listing"] = workers.timed(listing.framework, Listing, case=case.name, epochs=epochs)
    for way in ("record", "keep") if case.metrics else ("record",):
        works[way] = workers.timed(framework, Run, **job, way=way)
    seconds = in_turns(works, rounds)
    take(benchmark, seconds["record"])
    benchmark.extra_info |= {
        "case": case.name,
        "implementation": label,
        "steps": steps(case, epochs),
        "first": first,
        "listing": f"{listing.framework}: {listing.way}" if listing else None,
        "listing_seconds": seconds.get("listing", []),
        "without_metrics_seconds": seconds.get("keep", []),
    }
