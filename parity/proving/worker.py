"""The jobs of ``parity prove``, for a worker process of their own."""

from __future__ import annotations

from typing import Any

from parity.running.jobs import Emit, Job
from parity.running.worker import serve


def main() -> None:
    serve({"prove": _prove, "clean": _clean, "smallest": _smallest})


def _prove(job: Job, emit: Emit) -> Any:
    from parity.proving.experiments import plants

    suite, entry, implementation = _of_suite(job)
    return plants(suite, entry, implementation, job["plants"], lambda: emit("step"), job["alternate"])


def _clean(job: Job, emit: Emit) -> Any:
    from parity.proving.experiments import clean

    suite, entry, implementation = _of_suite(job)
    return clean(suite, entry, implementation, job["seeds"], lambda: emit("step"))


def _smallest(job: Job, emit: Emit) -> Any:
    from parity.proving.experiments import smallest

    suite, entry, _ = _of_suite(job)
    return smallest(suite, entry, lambda: emit("step"))


def _of_suite(job: Job) -> tuple[Any, Any, Any]:
    from parity.suite import load_suite

    suite = load_suite(job["suite"])
    entry = suite.entry(job["case"])
    return suite, entry, suite.implementation(entry, job["implementation"])


if __name__ == "__main__":
    main()
