"""Results of benchmarks, made up."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOSTILE = "<script>alert(1)</script>|x`"


def entry(name: str, group: str, seconds: Sequence[float], **info: Any) -> dict[str, Any]:
    return {"name": name, "group": group, "params": None, "stats": {"data": list(seconds)}, "extra_info": info}


def compared(group: str, peer: str, seconds: float, **params: str) -> dict[str, Any]:
    made = entry(f"test_comparison[{peer}]", group, [seconds], values=10**8, peak_bytes=1 << 20)
    return made | {"params": {**params, "peer": peer}}


def training(case: str, label: str, seconds: Sequence[float], listing: Sequence[float]) -> dict[str, Any]:
    first = {"import": 1.0, "build": 0.1, "run": 2.0}
    info = {"case": case, "implementation": label, "steps": 10, "first": first, "listing_seconds": list(listing)}
    return entry(f"test_training[{case}-{label}]", "training", seconds, listing="torch: by hand", **info)


def recording(case: str, label: str, seconds: Sequence[float], train: Sequence[float]) -> dict[str, Any]:
    info = {"case": case, "implementation": label, "steps": 10, "train_seconds": list(train), "evaluate_seconds": []}
    return entry(f"test_recording[{case}-{label}]", "recording", seconds, **info)


def whole() -> list[dict[str, Any]]:
    """A benchmark of every kind."""
    breakdown = {"torch": {"import": 3.0, "build": 1.0, "train": 5.0}}
    after = {"judging": 2.0, "page": 1.0}
    return [
        training("iris-logistic", "torch", [2.0, 4.0, 6.0], [4.0, 4.0, 4.0]),
        training("iris-logistic", "numpy", [0.4, 0.4, 0.4], [4.0, 4.0, 4.0]),
        training("linear-minibatch", "numpy", [1.0, 1.0, 1.0], []),
        recording("char-gru", "jax", [1.2, 1.2, 1.2], [1.0, 1.0, 1.0]),
        compared("comparison", "parity", 0.5, pair="rounding"),
        compared("comparison", "numpy.testing.assert_allclose", 8.0, pair="rounding"),
        compared("comparison", "numpy.testing.assert_allclose", 1.0, pair="NaN"),
        compared("equal bytes", "parity", 0.1),
        compared("equal bytes", "copy", 0.1),
        *(entry(f"test_scaling[{n}]", "scaling", [n / 1e9], values=n, peak_bytes=1 << 20) for n in (1000, 10**6)),
        entry("test_matching[100000000]", "matching", [6.0], values=10**8, tensors=48, proven=48, peak_bytes=3 << 20),
        entry("test_explaining", "explaining", [8.0], values=10**7, layers=200, peak_bytes=400 << 20),
        entry(
            "test_startup[parity --help]",
            "start-up",
            [0.1, 0.1],
            command="parity --help",
            import_numpy_seconds=[0.2, 0.2],
        ),
        entry("test_cold", "matrix", [250.0], arguments=[], recorded_runs=7, breakdown=breakdown, afterwards=after),
        entry("test_warm", "matrix", [2.0, 2.5], arguments=[]),
    ]


def write(path: Path, benchmarks: list[dict[str, Any]], **more: Any) -> Path:
    machine = {"cpu": {"brand_raw": "A Processor"}, "cores": 2, "memory_bytes": 8 << 30, "python_version": "3.11"}
    content = {"benchmarks": benchmarks, "machine_info": machine, "commit_info": {"id": "abcdef0123456"}}
    path.write_text(json.dumps(content | {"datetime": "2026-01-02T03:04:05"} | more))
    return path


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: rows of cells."""
    found: list[list[list[str]]] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            found.append([re.split(r"(?<!\\)\|", line)[1:-1] for line in lines])
    return found


def hostile() -> list[dict[str, Any]]:
    return [
        *whole(),
        training(HOSTILE, "torch", [1.0, 1.0], [1.0, 1.0]),
        compared("comparison", HOSTILE, 1.0, pair=HOSTILE),
        entry("test_startup", "start-up", [1.0], command=HOSTILE),
    ]
