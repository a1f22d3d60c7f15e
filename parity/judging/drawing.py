"""Layers that draw random numbers, as dropout does: what keeps two right runs apart there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.frameworks import known_framework
from parity.nn.configuration import RANDOM
from parity.recording.layers import Layer, layers_of
from parity.trajectory import Trajectory

ACROSS = "dropout draws a mask of its own in each framework, which no seed carries over: leave it out of both"
ALIKE = 1e-3
"""Predictions that agree to so much of their largest value were made with one mask, or without any."""


def drawing(run: Trajectory) -> Iterator[Layer]:
    """Yield a run's layers that draw which of their values go on."""
    for layer in layers_of(run):
        said = layer.configuration
        rate = layer.common.settings.get("rate")
        still = said.get("training") is False or said.get("deterministic") is True
        if layer.common.kind in RANDOM and isinstance(rate, int | float) and rate > 0 and not still:
            yield layer


def other_draws(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Say that two runs draw otherwise, if layers of both draw and their first predictions do not agree."""
    first = [next(drawing(run), None) for run in (a, b)]
    if first[0] is None or first[1] is None or _predict_alike(a, b):
        return
    frameworks = [known_framework(str(run.meta.get("implementation", ""))) for run in (a, b)]
    if frameworks[0] != frameworks[1]:
        yield ACROSS
        return
    states = [run.meta.get("random") for run in (a, b)]
    if all(isinstance(state, str) for state in states) and states[0] != states[1]:
        yield f"the random state differs: layer {first[0].name} draws another mask: seed both alike"


@np.errstate(all="ignore")  # a recording may hold any numbers
def _predict_alike(a: Trajectory, b: Trajectory) -> bool:
    """Tell whether the first predictions of two runs are known to agree, in whatever order their values lie."""
    seen = [run.steps.get("0/prediction") for run in (a, b)]
    if seen[0] is None or seen[1] is None or seen[0].size != seen[1].size:
        return False
    one, other = (np.sort(np.asarray(values, np.float64).ravel()) for values in (seen[0], seen[1]))
    return bool(np.max(np.abs(one - other), initial=0.0) <= ALIKE * np.max(np.abs(other), initial=0.0))
