"""The two runs of a pair, each with the optimizer that it says, or that the other run says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parity.explaining.updates.decays import spread_of
from parity.explaining.updates.fits import follow
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.rules import beyond_the_spec
from parity.recording.steps import Step, steps_of
from parity.spec import Adam, AdamW, Optimizer, Sgd, decay_of, optimizer_from
from parity.trajectory import Trajectory


@dataclass(frozen=True)
class Side:
    """One run of a pair."""

    which: str
    """``first`` or ``second``."""
    run: Trajectory
    steps: Sequence[Step]
    """The updates that it recorded deeply."""
    optimizer: Optimizer | None
    """The optimizer that it is meant to have."""
    decays: Sequence[float] = ()
    """The weight decays of that optimizer's groups, if it has several."""

    _updates: dict[Optimizer, Updates] = field(default_factory=dict, repr=False, compare=False)

    def updates(self, optimizer: Optimizer) -> Updates:
        """Make its updates again by an optimizer; of each optimizer once."""
        if optimizer not in self._updates:
            self._updates[optimizer] = Updates(self.run, self.steps, optimizer)
        return self._updates[optimizer]

    def only(self, number: int) -> Side:
        """Keep one of its updates."""
        return Side(self.which, self.run, self.steps[number : number + 1], self.optimizer, self.decays)


def sides_of(run: Trajectory, other: Trajectory) -> tuple[Side, Side]:
    """Make the sides of a pair. A run that says no optimizer is meant to have the other's."""

    both = optimizer_said(run), optimizer_said(other)
    if both == (None, None):  # what parity.spec has no words for is read only where nothing better is known
        both = beyond_the_spec(run), beyond_the_spec(other)

    def side(which: str, one: Trajectory, own: int) -> Side:
        said = both[own] if _is_of(both[own], one) else None
        its, steps = (run, other)[1 - own], steps_of(one)
        of = one if said is not None else its
        said = said if said is not None else both[1 - own]
        said, decays = _masked(of, said, decays_said(one) or (decays_said(its) if of is its else ()))
        return Side(which, one, steps, said if _is_of(said, one) else None, decays)

    return side("first", run, 0), side("second", other, 1)


def _is_of(optimizer: Optimizer | None, run: Trajectory) -> bool:
    """Tell whether the parameters that an optimizer lets decay are the run's, whose tensors may have other names."""
    if optimizer is None or not optimizer.decayed:
        return optimizer is not None
    return any(decay_of(optimizer, name) for name in run.params) or not getattr(optimizer, "weight_decay", 0.0)


def _masked(
    run: Trajectory, optimizer: Optimizer | None, decays: tuple[float, ...]
) -> tuple[Optimizer | None, tuple[float, ...]]:
    """Let an optimizer whose groups decay or do not say which tensors do, as its run's updates show."""
    steps = steps_of(run)
    if optimizer is None or not steps or len(decays) != 2 or decays[0] or optimizer.decayed is not None:
        return optimizer, decays
    updates = Updates(run, steps, optimizer)
    found = follow(updates.sample, updates.optimizer)
    spread = spread_of(found) if found is not None and updates.has_rates(found) else None
    if spread is None or not spread.touched or abs(spread.value - decays[1]) > spread.unsure:
        return optimizer, decays
    return replace(optimizer, decayed=tuple(sorted(spread.touched))), ()


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """Read the optimizer that a run declares; None if it declares none, or not in the words of ``parity.spec``."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else in_our_words(run.meta.get("optimizer"))


def decays_said(run: Trajectory) -> tuple[float, ...]:
    """Read the weight decays of a watched optimizer's groups, if they have several: which decays what, nobody says."""
    said = run.meta.get("optimizer")
    groups = said.get("groups") if isinstance(said, dict) else None
    decays = [group.get("weight_decay") for group in groups or () if isinstance(group, dict)]
    found = sorted({float(decay) for decay in decays if isinstance(decay, int | float)})
    return tuple(found) if len(found) > 1 else ()


def class_said(run: Trajectory) -> str:
    """Read the class of the optimizer that a watched run had; empty if nobody watched it."""
    said = run.meta.get("optimizer")
    name = said.get("class") if isinstance(said, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def in_our_words(said: Any) -> Optimizer | None:
    """Say in the words of ``parity.spec`` what a watcher read off a framework's optimizer; None if they do not fit.

    Groups may differ in what decays: then the decay is that of the first group that does.
    """
    groups = said.get("groups") if isinstance(said, dict) else None
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return None
    kind, decays = str(said.get("class")), [group.get("weight_decay") for group in groups]
    group = {**groups[0], "weight_decay": next((decay for decay in decays if decay), decays[0])}

    def number(*names: str) -> float:
        return next((float(group[each]) for each in names if isinstance(group.get(each), int | float)), 0.0)

    # Where the rate is recorded of each update, this one, which may be the last and 0, does not count.
    rate, decay, name = number("lr", "learning_rate") or 1.0, number("weight_decay"), kind.rpartition(".")[2]
    if any(group.get(flag) for flag in ("nesterov", "dampening", "amsgrad", "maximize")):
        return None
    if name == "SGD" and (kind.startswith("torch.") or not decay):
        return Sgd(rate, number("momentum"), decay)
    betas = group.get("betas")
    # Keras's Adam adds its epsilon elsewhere.
    if not kind.startswith("torch.") or name not in ("Adam", "AdamW") or not isinstance(betas, list | tuple):
        return None
    told = rate, float(betas[0]), float(betas[1]), number("eps")
    if name == "AdamW" or group.get("decoupled_weight_decay"):
        return AdamW(*told, decay)
    return None if decay else Adam(*told)
