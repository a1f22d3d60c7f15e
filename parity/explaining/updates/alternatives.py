"""What a run may have in the place of its clipping or its schedule, tried on whole updates.

A replay of one tensor's values by themselves cannot clip by a norm, nor count epochs: the run's updates can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parity import nn
from parity.explaining.replay import Replay
from parity.explaining.updates.clipping import ANOTHER_LIMIT
from parity.explaining.updates.fits import fitted, plainly, residuals
from parity.explaining.updates.remade import Updates
from parity.mistakes.catalogue.recipe import BY_EPOCHS, CLIPPED
from parity.recording.steps import Phase
from parity.rules import Listed
from parity.spec import Optimizer
from parity.tolerance import FACTOR


def alternatives_of(updates: Updates, until: int | None) -> tuple[list[Replay], str]:
    """Make a run's updates with another clipping, or with a schedule that counts epochs.

    Args:
        updates: The run's.
        until: The update before which they end.

    Returns:
        The mistakes that were tried, with what each leaves, and the threshold in words, if another one was found.
    """
    found = [Replay((name,), Phase.UPDATE, _left(updates, other, until)) for name, other in _others(updates)]
    asked = updates.optimizer.clipping
    if asked is None or any(replay.explains for replay in found):
        return found, ""
    sample = updates.sample_until(until)
    value, unsure = fitted(sample, updates.optimizer, "limit")
    for limit in dict.fromkeys((plainly(value, 0.005 * value), plainly(value, unsure), value)):
        left = _left(updates, replace(updates.optimizer, clipping=replace(asked, limit=limit)), until)
        if left <= FACTOR:
            found.append(Replay((ANOTHER_LIMIT,), Phase.UPDATE, left))
            return found, f"it clips to {limit:.6g}, not to {asked.limit:.6g}"
    return found, ""


def _others(updates: Updates) -> Iterator[tuple[str, Optimizer]]:
    """List the mistakes, each with the optimizer that it makes of the run's."""
    optimizer = updates.optimizer
    if optimizer.clipping is not None:
        for name, change in CLIPPED.items():
            if (other := change(optimizer)) != optimizer:
                yield name, other
    each = updates.run.loss.shape[1]
    if each > 1 and optimizer.rates is not None and not isinstance(optimizer.rates, Listed):
        rates = [nn.rate(optimizer, number // each) for number in range(len(updates.raw))]
        if not np.array_equal(rates, nn.updates.rates(optimizer, 0, len(rates))):
            yield BY_EPOCHS, replace(optimizer, rates=Listed(tuple(rates)))


def _left(updates: Updates, other: Optimizer, until: int | None) -> float:
    """Measure what another optimizer leaves: of some values, each update by itself; then of all, one after another."""
    sample = updates.sample_until(until)
    left = float(np.max(sample.left(sample.after - residuals(sample, other)), initial=0.0))
    return updates.left_by(other, until) if left <= FACTOR else left
