"""Explain the updates of Keras's Adam, which a run says by its optimizer's class and numbers."""

from __future__ import annotations

import numpy as np

from parity.dtypes import unit
from parity.explaining.replay import Replay
from parity.explaining.updates.compared import ALIKE, ANOTHER_RATE
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.rules import KERAS, EpsilonHat
from parity.mistakes.catalogue.adam import KERAS_EPSILON
from parity.recording.steps import Phase
from parity.spec import Adam
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

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
