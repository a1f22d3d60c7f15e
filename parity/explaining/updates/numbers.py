"""The numbers of a run's optimizer, fitted to its updates, and the mistakes that they contradict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.explaining.pattern import enumerated
from parity.explaining.replay import Replay
from parity.explaining.updates.compared import ANOTHER_DECAY, ANOTHER_RATE, SOME_DECAY, rates_in_words
from parity.explaining.updates.fits import Followed, altered, constants, errors_apart, fitted, plainly, residuals
from parity.explaining.updates.remade import Updates
from parity.recording.steps import Phase
from parity.spec import Adam, AdamW, Optimizer
from parity.tolerance import FACTOR

ONE_CONSTANT = {
    "adam-epsilon-1e-7": ("epsilon", 1e-7),
    "adam-beta2-0.99": ("beta2", 0.99),
    "momentum-missing": ("momentum", 0.0),
}
"""Mistakes that give one constant another value."""
DECAYS = {"weight-decay-missing": 0.0, "weight-decay-doubled": 2.0}
"""Mistakes that multiply the decay of every tensor."""


def numbers_of(updates: Updates, found: Followed, until: int | None) -> tuple[list[Replay], str]:
    """Say which numbers a run's updates follow, and how well those explain it."""
    optimizer, expected = updates.optimizer, updates.expected_rates(len(found.rates))
    meant, decay = getattr(optimizer, "weight_decay", 0.0), found.decay()
    if not updates.has_rates(found):
        if found.rate is None or len(found.rates) < 3:
            return [], rates_in_words(found.rates, expected, found.unsure, "", "that optimizer's")
        # The decay goes with the rate.
        if any(abs(value - meant) > unsure for value, unsure in found.decays.values()):
            return [], ""
        rate = plainly(*found.rate)
        left = updates.left_by(altered(optimizer, learning_rate=rate), until)
        some = "all that were recorded" if until is None else f"all before update {until}"
        return [Replay((ANOTHER_RATE,), Phase.UPDATE, left)], f"{some} are those of a learning rate of {rate:.6g}"
    if decay is not None and abs(decay[0] - meant) > decay[1]:
        value = plainly(*decay)
        left = updates.left_by(_decaying(optimizer, value), until)
        return [Replay((ANOTHER_DECAY,), Phase.UPDATE, left)], f"its weight decay is {value:.6g}, not {meant:.6g}"
    split = found.undecayed()
    if (
        decay is None
        and split is not None
        and all(abs(found.decays[name][0] - meant) <= found.decays[name][1] for name in split[0])
    ):
        sample, (decayed, others) = updates.sample_until(until), split
        along, shrinks = sample.directions(optimizer)
        decays = np.array([meant if name in decayed else 0.0 for name in sample.names])[sample.ids]
        left = float(np.max(sample.left(sample.before - expected[:, None] * (along + decays * shrinks)), initial=0.0))
        words = f"its weight decay of {meant:.6g} is on {enumerated(decayed)} and not on {enumerated(others)}"
        return [Replay((SOME_DECAY,), Phase.UPDATE, left)], words
    return [], ""


def _decaying(optimizer: Optimizer, decay: float) -> Optimizer:
    if type(optimizer) is Adam:
        return AdamW(optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon, decay)
    return altered(optimizer, weight_decay=decay)


def uncontradicted(
    replays: Sequence[Replay], updates: Updates, found: Followed | None, until: int | None
) -> list[Replay]:
    """Leave out the mistakes that explain a run, if a number that was fitted to it contradicts them."""
    return [
        replay
        for replay in replays
        if not (replay.explains and any(_contradicts(name, updates, found, until) for name in replay.names))
    ]


def _contradicts(name: str, updates: Updates, found: Followed | None, until: int | None) -> bool:
    if name in DECAYS and found is not None:
        meant = DECAYS[name] * getattr(updates.optimizer, "weight_decay", 0.0)
        return any(abs(value - meant) > unsure for value, unsure in found.decays.values())
    if name in ONE_CONSTANT:
        constant, said = ONE_CONSTANT[name]
        sample, optimizer = updates.sample_until(until), updates.optimizer
        better = altered(optimizer, **{constant: fitted(sample, optimizer, constant)[0]})
        wrong = altered(optimizer, **{constant: said})
        return errors_apart(sample, wrong, better) > FACTOR and updates.left_by(better, until) <= FACTOR
    return False


def constants_of(updates: Updates, until: int | None) -> tuple[list[Replay], str]:
    """Fit one constant of an optimizer after another, if its learning rate does not change."""
    optimizer, sample = updates.optimizer, updates.sample_until(until)
    if updates.rates is not None:
        return [], ""
    found: list[Replay] = []
    said = []
    for name in constants(optimizer):
        value, unsure = fitted(sample, optimizer, name)
        better = altered(optimizer, **{name: value})
        left = float(np.max(sample.left(sample.after - residuals(sample, better)), initial=0.0))
        if left <= FACTOR:  # of some values, each update by itself; then of all, one after another
            left = updates.left_by(better, until)
        said_value = value
        # A number of few digits is meant, if it leaves about as little.
        for plain in (plainly(value, 0.005 * abs(value)), plainly(value, unsure)) if left <= FACTOR else ():
            by_plain = updates.left_by(altered(optimizer, **{name: plain}), until)
            if by_plain <= 2 * max(left, 1.0):
                left, said_value = by_plain, plain
                break
        found.append(Replay((f"another-{name}",), Phase.UPDATE, left))
        if left <= FACTOR:
            said.append(f"its {name} is {said_value:.6g}, not {getattr(optimizer, name):.6g}")
    return (found, ", or ".join(said)) if said else ([], "")
