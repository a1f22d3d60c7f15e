"""The recordings that are changed: small runs of every dtype, some of them recorded deeply, as files in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity.judging.floors.floor import least_floor, save
from parity.recorder import Recorder
from parity.recording.places import keep_explanation
from parity.recording.reader import read
from parity.spec import Adam, Sgd
from parity.tests.recording.runs import make, save_run

Tree = dict[str, bytes]
"""A folder's files by their paths in it."""


@dataclass(frozen=True)
class Subject:
    """A run, and one to hold it against."""

    name: str
    run: Tree
    other: Tree


def files_of(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put(tree: Tree, folder: Path) -> None:
    """Write a tree to a folder that is not there yet."""
    folder.mkdir()
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def subjects(scratch: Path) -> list[Subject]:
    """Every subject, made in an empty folder. Each run passes against itself, and fails against the other."""
    found = []

    def add(name: str, record: Callable[[Path, float], None]) -> None:
        for side, change in (("run", 0.0), ("other", 0.25)):
            record(scratch / name / side, change)
        found.append(Subject(name, files_of(scratch / name / "run"), files_of(scratch / name / "other")))

    for dtype in ("float64", "float32", "float16", "bfloat16"):
        add(dtype, lambda folder, change, dtype=dtype: _plain(folder, change, dtype))
    add("sgd", lambda folder, change: _deep(folder, Sgd(0.125), 0.125 * (1 + change)))
    add("adam", lambda folder, change: _deep(folder, Adam(0.125), 0.125 * (1 + change)))
    return found


def _plain(folder: Path, change: float, dtype: str) -> None:
    run = make(5, dtype=dtype)
    run.loss[-1, 0] += change
    save_run(folder, run, cuts=(1, 3))


def _deep(folder: Path, optimizer: Sgd | Adam, rate: float) -> None:
    """Least squares by gradient descent, whatever ``optimizer`` the run says that it has."""
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(6, 3)), generator.normal(size=(6, 1))
    kernel, bias = generator.normal(size=(3, 1)), np.zeros(1)
    about = {"case": "least-squares", "implementation": "numpy", "deep": 3, "optimizer": optimizer}
    with Recorder(folder, "float64", **about) as run:
        run.snapshot({"dense/kernel": kernel, "dense/bias": bias})
        for epoch in range(1, 4):
            for rows in (np.arange(3), np.arange(3, 6)):
                error = x[rows] @ kernel + bias - y[rows]
                gradients = {"dense/kernel": 2 * x[rows].T @ error / 3, "dense/bias": 2 * error.mean(0)}
                now = {"dense/kernel": kernel, "dense/bias": bias}
                run.step(np.mean(error**2), rows=rows, prediction=error + y[rows], gradients=gradients, params=now)
                kernel, bias = kernel - rate * gradients["dense/kernel"], bias - rate * gradients["dense/bias"]
            run.snapshot({"dense/kernel": kernel, "dense/bias": bias}, epoch)


def folder_of_runs(scratch: Path) -> Tree:
    """A folder as ``parity run --out`` leaves one: a reference with its check, a run in lockstep, floors, a failure."""
    case = scratch / "made-up"
    wrong = make(5, dtype="float64")
    wrong.loss[-1, 0] += 1
    for label, dtype, run in (
        ("numpy", "float64", make(5, dtype="float64")),
        ("numpy", "checked", make(5, dtype="float64")),
        ("torch", "float64", make(5, dtype="float64")),
        ("torch", "float64-lockstep1", make(5, dtype="float64")),
        ("jax", "float64", wrong),
    ):
        device = "-cpu" if "-" not in dtype else ""
        name = f"{label}-{dtype}{device}" if device else f"{label}-float64-cpu-lockstep1"
        save_run(case / name, run, cuts=(2,))
        manifest = json.loads((case / name / "trajectory.json").read_text())
        about = {"implementation": label, "floor": "mark", "lockstep": 1 if "lockstep" in name else None}
        (case / name / "trajectory.json").write_text(json.dumps(manifest | about))
    floor = least_floor(read(case / "numpy-float64-cpu"))
    for name in ("made-up", "made-up-lockstep1"):
        save({"float64": floor}, scratch / "floors" / f"{name}.safetensors", "mark")
    keep_explanation(case / "jax-float64-cpu", "a reason", {"sentence": "a sentence"})
    (case / ".keras-float64-cpu.failed").write_text("a reason")
    return files_of(scratch)
