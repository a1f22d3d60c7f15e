"""What a run's optimizer has else: its numbers, its clipping, its schedule, or all that is Keras's own Adam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity import nn
from parity.dtypes import unit
from parity.explaining.replay import Replay
from parity.explaining.updates.clipping import ANOTHER_LIMIT
from parity.explaining.updates.compared import ALIKE, ANOTHER_DECAY, ANOTHER_RATE, LATE, SOME_DECAY, rates_in_words
from parity.explaining.updates.decays import as_meant, spread_of, tensors_in_words
from parity.explaining.updates.fits import Followed, altered, constants, errors_apart, fitted, plainly, residuals
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.rules import KERAS, EpsilonHat
from parity.mistakes.catalogue.adam import KERAS_EPSILON
from parity.mistakes.catalogue.recipe import BY_EPOCHS, CLIPPED
from parity.recording.steps import Phase
from parity.rules import Listed
from parity.spec import Adam, AdamW, Optimizer, decay_of
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

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
        meant = optimizer.learning_rate
        if (
            updates.each > 1
            and meant
            and min(abs(rate / meant - each) for each in (updates.each, 1 / updates.each)) < 1e-3
        ):
            return [], ""  # gradients that are added up make this, too
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


OF_KERAS, EPSILON_HAT = "adam-of-keras", "adam-epsilon-before-bias-correction"


def adam_said(run: Trajectory) -> EpsilonHat | None:
    """Read Keras's Adam with its numbers; None if a run says another optimizer, or one with more to it."""
    said = run.meta.get("optimizer")
    groups, kind = (said.get("groups"), said.get("class")) if isinstance(said, dict) else (None, None)
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], dict) or not isinstance(kind, str):
        return None
    group = groups[0]
    if not kind.startswith(KERAS) or kind.rpartition(".")[2] not in ("Adam", "AdamW"):
        return None
    if group.get("amsgrad") or group.get("use_ema"):
        return None
    names = {"learning_rate": "learning_rate", "beta1": "beta_1", "beta2": "beta_2", "epsilon": "epsilon"}
    numbers = {ours: float(group[own]) for ours, own in names.items() if isinstance(group.get(own), int | float)}
    decay = group.get("weight_decay")
    if len(numbers) < len(names):
        return None
    rate, beta1, beta2, epsilon = (numbers[name] for name in names)
    return EpsilonHat(rate, beta1, beta2, epsilon, float(decay) if isinstance(decay, int | float) else 0.0)


def of_keras(updates: Updates, until: int | None) -> tuple[Replay, str] | None:
    """Replay the updates of a run by Keras's Adam, if the run says that it had that and is meant to have torch's.

    Keras works out the correction of the bias in the run's dtype: so the learning rate of each update is fitted, and
    is to be the one that is said, as far as that rounding lets it.

    Args:
        updates: The run's, with the optimizer that it is meant to have.
        until: The update before which the replay ends.

    Returns:
        The mistake with what it leaves, and the numbers in words; None if the updates are not those.
    """
    meant, said = updates.optimizer, adam_said(updates.run)
    if said is None or not isinstance(meant, Adam):
        return None
    found = _fitted(updates, said, until)
    if found is None:
        return None
    rates, unsure, left = found
    name = OF_KERAS if abs(said.epsilon - KERAS_EPSILON) <= ALIKE * KERAS_EPSILON else EPSILON_HAT
    if abs(said.epsilon - meant.epsilon) <= ALIKE * meant.epsilon:
        name = EPSILON_HAT
    names = [name]
    words = [
        f"Keras's Adam adds its epsilon of {said.epsilon:.6g} before the bias is corrected, torch's of "
        f"{meant.epsilon:.6g} is added after it"
    ]
    for each in ("beta1", "beta2"):
        one, other = getattr(said, each), getattr(meant, each)
        if abs(one - other) > ALIKE * other:
            names.append(f"another-{each}")
            words.append(f"its {each} is {one:.6g}, not {other:.6g}")
    expected = updates.expected_rates(len(rates))
    if np.any(np.abs(rates - expected) > unsure + unit(updates.dtype) * np.abs(expected)):
        if np.any(np.abs(rates - said.learning_rate) > unsure):
            return None
        names.append(ANOTHER_RATE)
        words.append(f"its learning rate is {said.learning_rate:.6g}, not {meant.learning_rate:.6g}")
    return Replay(tuple(names), Phase.UPDATE, left), "; ".join(words)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _fitted(updates: Updates, said: EpsilonHat, until: int | None) -> tuple[Array, Array, float] | None:
    """Fit the learning rate of each update; None if more is left than rounding, of gradients too, makes of it.

    Keras's gradients are recorded aside, and where they are as small as epsilon a step follows their rounding: how far
    each strays is measured, and what that makes of a step is allowed.
    """
    sample = updates.sample_until(until)
    along, decay = sample.directions(said)
    floors = sample.floors[:, sample.ids] + said.learning_rate * updates.effect_of_strays(said, until)
    along = along + said.weight_decay * decay
    weights = np.divide(1.0, floors**2, out=np.zeros_like(floors), where=floors > 0)
    made, square = sample.before - sample.after, np.sum(weights * along * along, axis=1)
    if not sample.count or not np.isfinite(along).all() or not np.isfinite(made).all() or not (square > 0).all():
        return None
    rates = np.sum(weights * along * made, axis=1) / square
    far = np.abs(made - rates[:, None] * along)
    left = float(np.max(np.divide(far, floors, out=np.where(far > 0, np.inf, 0.0), where=floors > 0), initial=0.0))
    unsure = FACTOR / np.sqrt(square) + unit(updates.dtype) / (1 - said.beta2) * np.abs(rates)
    return (rates, unsure, left) if left <= FACTOR else None
