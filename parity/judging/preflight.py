"""Differences between two runs' settings, found before any result is compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.dtypes import rounded, unit
from parity.frameworks import in_tf32
from parity.judging.compare import distance
from parity.judging.moments import moment, unit_of
from parity.recording.steps import epochs_and_batches, rows_in_words
from parity.trajectory import Trajectory


def preflight(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield each difference between settings that both runs record, and each setting that contradicts a run's dtype."""
    for name in ("case", "dtype", "device", "threads", "lockstep"):
        ours, theirs = a.meta.get(name), b.meta.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            yield f"{name} differs: {ours} and {theirs}"
    yield from _other_order(a, b)
    for group in ("hyper_parameters", "settings", "versions", "platform"):
        ours, theirs = (run.meta.get(group) for run in (a, b))
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for name in sorted(set(ours) & set(theirs)):
                if ours[name] != theirs[name]:
                    yield f"{name} differs: {ours[name]} and {theirs[name]}"
    yield from _other_beginning(a, b)
    for run in (a, b):
        settings = run.meta.get("settings") or {}
        who = run.meta.get("implementation", "a run")
        if run.meta.get("dtype") == "float64" and settings.get("x64") is False:
            yield f"{who} is said to be float64, but x64 is off: JAX computes in float32"
        on_gpu = run.meta.get("device") not in (None, "cpu")
        if on_gpu and run.meta.get("dtype") == "float32" and in_tf32(settings):
            yield f"TF32 is on in {who}: float32 products keep ten bits"


def _other_order(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield a difference in the order of the batches; it names the first such batch if both runs recorded its rows."""
    ours, theirs = a.meta.get("batch_order"), b.meta.get("batch_order")
    if ours is None or theirs is None or ours == theirs:
        return
    for number, (epoch, batch) in enumerate(epochs_and_batches(a)):
        mine, other = (run.steps.get(f"{number}/rows") for run in (a, b))
        if mine is None or other is None:
            yield f"the order of the batches differs: SHA-256 {ours[:8]}… and {theirs[:8]}…"
            return
        if not np.array_equal(mine, other):
            rows = f"{rows_in_words(mine)} and {rows_in_words(other)}"
            alike = ", the same in another order" if np.array_equal(np.sort(mine), np.sort(other)) else ""
            when = moment(unit_of(a, b), epoch, batch)
            yield f"the order of the batches differs: {when} has the rows {rows}{alike}"
            return


def _other_beginning(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield the initial parameters that differ after rounding to the narrower of the two dtypes."""
    for name in a.params:
        if name in b.params and a.params[name].shape[1:] == b.params[name].shape[1:]:
            narrow = max((run.meta.get("dtype", run.params[name].dtype.name) for run in (a, b)), key=unit)
            ours, theirs = (rounded(np.asarray(run.params[name][0]), narrow) for run in (a, b))
            if not np.array_equal(ours, theirs, equal_nan=True):
                apart = float(distance(ours[None], theirs[None])[0])
                yield f"initial {name} differs" + (f", by up to {apart:.3g}" if np.isfinite(apart) else "")
