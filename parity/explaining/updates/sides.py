"""The two runs of a pair, each with the optimizer that it is meant to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from parity.explaining.updates.decays import spread_of
from parity.explaining.updates.fits import follow
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.rules import beyond_the_spec
from parity.explaining.updates.said import decays_said, optimizer_said
from parity.recording.steps import Step, steps_of
from parity.spec import Optimizer, decay_of
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
