"""The numbers of a run's optimizer, fitted to its updates, and the mistakes that they contradict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.replay import Replay
from parity.explaining.updates.compared import ANOTHER_DECAY, ANOTHER_RATE, LATE, SOME_DECAY, rates_in_words
from parity.explaining.updates.decays import as_meant, spread_of, tensors_in_words
from parity.explaining.updates.fits import Followed, altered, constants, errors_apart, fitted, plainly, residuals
from parity.explaining.updates.remade import Updates
from parity.recording.steps import Phase
from parity.rules import Listed
from parity.spec import Adam, AdamW, Optimizer, decay_of
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
    return _of_decays(updates, found, until) if updates.has_rates(found) else _of_rates(updates, found, until)


def _of_rates(updates: Updates, found: Followed, until: int | None) -> tuple[list[Replay], str]:
    """Say which learning rates updates have, if they are not the expected ones."""
    optimizer, expected = updates.optimizer, updates.expected_rates(len(found.rates))
    words = rates_in_words(found.rates, expected, found.unsure, "", "that optimizer's")
    if len(found.rates) < 3:
        return [], words
    # The decay goes with the rate.
    if any(abs(value - decay_of(optimizer, name)) > unsure for name, (value, unsure) in found.decays.items()):
        return [], rates_in_words(
            found.rates, expected, found.unsure, "", "that optimizer's"
        ) if found.rate is None else ""
    some = "all that were recorded" if until is None else f"all before update {until}"
    if not updates.scheduled and found.rate is not None:
        rate = plainly(*found.rate)
        left = updates.left_by(altered(optimizer, learning_rate=rate), until)
        return [Replay((ANOTHER_RATE,), Phase.UPDATE, left)], f"{some} are those of a learning rate of {rate:.6g}"
    if updates.scheduled and (times := _times(found, expected)) is not None:
        rates = Listed(tuple((times * expected).tolist()))
        left = updates.left_by(replace(optimizer, rates=rates), until)
        text = f"the learning rates of {some} are {times:.6g} times that optimizer's"
        return [Replay((ANOTHER_RATE,), Phase.UPDATE, left)], text
    if " late" in words:
        left = updates.left_by(replace(optimizer, rates=Listed(tuple(found.rates.tolist()))), until)
        return [Replay((LATE,), Phase.UPDATE, left)], words
    return [], words


def _times(found: Followed, expected: np.ndarray) -> float | None:
    """Find the one number by which learning rates are a multiple of those that are expected; None if there is none."""
    seen = expected != 0
    if np.any(np.abs(found.rates[~seen]) > found.unsure[~seen]) or seen.sum() < 3 or not np.ptp(expected[seen]):
        return None
    ratios, unsure = found.rates[seen] / expected[seen], found.unsure[seen] / np.abs(expected[seen])
    weights = 1 / np.maximum(unsure, np.finfo(np.float64).eps) ** 2
    middle = float(np.sum(weights * ratios) / np.sum(weights))
    if np.any(np.abs(ratios - middle) > unsure):
        return None
    return plainly(middle, float(1 / np.sqrt(np.sum(weights))))


def _of_decays(updates: Updates, found: Followed, until: int | None) -> tuple[list[Replay], str]:
    """Say which weight decay updates have, and on what, if it is not the expected one."""
    optimizer, shapes = updates.optimizer, updates.shapes
    meant = {name: decay_of(optimizer, name) for name in shapes}
    if all(abs(value - meant[name]) <= unsure for name, (value, unsure) in found.decays.items()):
        return [], ""
    spread = spread_of(found)
    if spread is None:
        return [], ""
    spread = as_meant(spread, meant)
    wanted = getattr(optimizer, "weight_decay", 0.0)
    another = abs(spread.value - wanted) > spread.unsure
    others = {name for name in shapes if bool(meant[name]) != (name in spread.touched)}
    if not spread.touched:  # nothing decays, and what is left out says nothing
        another, others = True, set()
    elif not any(meant.values()):  # nothing should, so that no tensor was chosen
        others = set()
    value = spread.plain if another else wanted
    better = replace(_decaying(optimizer, value), decayed=tuple(sorted(spread.touched)))
    left = updates.left_by(better, until)
    said = [f"its weight decay is {value:.6g}, not {wanted:.6g}"] if another else []
    if others or (another and spread.touched and spread.spared):
        on = "it" if another else f"its weight decay of {wanted:.6g}"
        touched, spared = (tensors_in_words(names, shapes) for names in (spread.touched, spread.spared))
        said.append(f"{on} is on {touched}" + (f" and not on {spared}" if spread.spared else ""))
    names = [ANOTHER_DECAY] * another + [SOME_DECAY] * bool(others)
    return [Replay(tuple(names), Phase.UPDATE, left)], ", and ".join(said)


def _decaying(optimizer: Optimizer, decay: float) -> Optimizer:
    if type(optimizer) is Adam:
        numbers = optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon
        return AdamW(*numbers, decay, rates=optimizer.rates, clipping=optimizer.clipping)
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
        times, optimizer = DECAYS[name], updates.optimizer
        return any(
            abs(value - times * decay_of(optimizer, tensor)) > unsure
            for tensor, (value, unsure) in found.decays.items()
        )
    if name in ONE_CONSTANT:
        constant, said = ONE_CONSTANT[name]
        sample, optimizer = updates.sample_until(until), updates.optimizer
        better = altered(optimizer, **{constant: fitted(sample, optimizer, constant)[0]})
        wrong = altered(optimizer, **{constant: said})
        return errors_apart(sample, wrong, better) > FACTOR and updates.left_by(better, until) <= FACTOR
    return False


def constants_of(updates: Updates, until: int | None) -> tuple[list[Replay], str]:
    """Fit one constant of an optimizer after another."""
    optimizer, sample = updates.optimizer, updates.sample_until(until)
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
