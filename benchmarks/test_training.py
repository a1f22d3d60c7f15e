"""Training throughput: the recorded run of every case and implementation beside the document's own listing.

A round is the listing and then the recorded run, for the same number of epochs from the same initial parameters, with
a snapshot and the case's metrics after every epoch; where a case has metrics, it is run without them as well. What is
short is repeated within a round.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measuring import CLOCK, Workers, repeats, steps, take
from benchmarks.plain import LISTINGS
from parity.matrix import Cell

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
    first = workers.ask(framework, "prepare", **job, way="record")
    ways = ("record", "keep") if case.metrics else ("record",)
    often = {}
    for way in ways:
        workers.ask(framework, "run", **job, way=way, repeats=1)  # compiled for its shapes, not counted
        often[way] = repeats(workers.ask(framework, "run", **job, way=way, repeats=1))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    plain = []
    if listing:
        written = repeats(workers.ask(listing.framework, "listing", case=case.name, epochs=epochs, repeats=1))
    for _ in range(rounds):
        if listing:
            ask = {"case": case.name, "epochs": epochs, "repeats": written}
            plain.append(workers.ask(listing.framework, "listing", **ask))
        for way in ways:
            seconds[way].append(workers.ask(framework, "run", **job, way=way, repeats=often[way]))
    take(benchmark, seconds["record"])
    benchmark.extra_info |= {
        "case": case.name,
        "implementation": label,
        "steps": steps(case, epochs),
        "first": first,
        "listing": f"{listing.framework}: {listing.way}" if listing else None,
        "listing_seconds": plain,
        "without_metrics_seconds": seconds.get("keep", []),
    }
