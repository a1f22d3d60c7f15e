"""Optimizers that no document uses, on the ladder in every framework, as a user's own suite has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from parity.frameworks import FRAMEWORKS
from parity.tests.suites import each_framework

pytest_generate_tests = each_framework

LABELS = ("numpy", "torch", "tf1", "keras", "jax", "flax")
SPEC = """
from dataclasses import replace

from impls.logistic.spec import CASES as DOCUMENTED
from parity.spec import Adam, AdamW, Publication

PLAIN = replace(DOCUMENTED[0], metrics=(), publication=Publication(), absent={}, epochs=12)
CASES = (
    replace(PLAIN, name="adam", optimizer=Adam(0.05)),
    replace(PLAIN, name="adamw", optimizer=AdamW(0.05, weight_decay=0.2)),
)
"""


def test_adam_with_and_without_decay_climbs_the_ladder(framework: str, tmp_path: Path) -> None:
    model = tmp_path / "optimized" / "logistic"
    model.mkdir(parents=True)
    for folder in (model, model.parent):
        (folder / "__init__.py").touch()
    (model / "spec.py").write_text(SPEC)
    for label in LABELS:
        (model / f"logistic_{label}.py").write_text(f"from impls.logistic.logistic_{label} import build\n")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "parity.tests.test_ladder"]
    done = subprocess.run(
        [sys.executable, *command, "--parity-suite", "optimized", "--parity-framework", framework],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (known,) = (one for one in FRAMEWORKS if one.name == framework)
    # Six rungs, two cases and two dtypes of each implementation.
    assert f"{24 * len(known.packages)} passed" in done.stdout, done.stdout
