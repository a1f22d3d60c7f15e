"""Say what a porting mistake is, and which cases give occasion for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType

from parity.recording.steps import Phase, Step
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.trainer import Build, Trainer
from parity.typing import Array, Params

Gradients = Callable[[Array, Array], tuple[float, Params]]
"""The verb: ``(x, y)`` to the loss and the gradient of every parameter."""
Applies = Callable[[Case], bool]
"""Tells whether a case gives occasion for a mistake."""


@dataclass(frozen=True)
class CannotBePlanted:
    """The answer of a plant if an implementation, or a run of its dtype, cannot make the mistake."""

    why: str


@dataclass(frozen=True)
class ChangesNothing:
    """The answer of a plant if an implementation can make the mistake, but the run would be the same without it."""

    why: str


Unplanted = CannotBePlanted | ChangesNothing
"""Why there is no trainer that makes a mistake."""
Plant = Callable[[Build, Case, str, str], Trainer | Unplanted]
"""An implementation's ``build`` and what that takes, ``(case, dtype, device)``, to a trainer that makes a mistake."""


@dataclass(frozen=True)
class Local:
    """A mistake as a function of one recorded update, if one update is enough to tell it."""

    phase: Phase
    """The phase in which two recordings part if one of them makes the mistake."""
    wrong: Callable[[Step, Step | None, Optimizer | None], Sequence[Step]]
    """``(step, before, optimizer)`` to the right ``step`` with the loss and gradients that the mistake makes of it.

    ``before`` is the step before it in the mistaken run, None at the first step. ``optimizer`` is the one that this run
    is meant to have, None if nobody says. A mistake that is made in several ways gives several steps; it gives none if
    the step or the optimizer give no occasion for it.
    """


def anywhere(case: Case) -> bool:
    """Apply to every case."""
    return True


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A named porting mistake."""

    name: str
    phase: Phase
    """The phase in which a walk from shared states first sees it. Parameters that are zero may hide it for a step."""
    sentence: str
    """The mistake in one sentence."""
    reference: str
    """An issue, a document or a library's own page that shows people making it."""
    applies: Applies = anywhere
    """Tells whether a case gives occasion for it: a case without Adam has no mistake in Adam."""
    how: Plant
    """Puts it into an implementation of a case to which it applies."""
    local: Local | None = None
    """The same as a function of one recorded update, if there is one."""
    at_the_end: bool = False
    """Whether it shows in a run's last epoch alone, which a recording of the first updates lacks."""
    figures_only: bool = False
    """Whether losses and parameters stay right, and only the printed figures come out wrong."""
    pieces_of: tuple[str, ...] = ()
    """The labels of implementations, beside the reference, in whose pieces it can be planted."""

    def plant(self, build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        """Plant the mistake in an implementation.

        Args:
            build: The implementation that is right.
            case: The case that it is built for.
            dtype: The dtype of the run.
            device: The device of the run.

        Returns:
            A trainer that makes the mistake; ``CannotBePlanted`` if the case gives no occasion for it, or if the
            implementation or a run of that dtype cannot make it; ``ChangesNothing`` if nothing would be wrong.
        """
        if not self.applies(case):
            return CannotBePlanted(f"{case.name} gives no occasion for it")
        return self.how(build, case, dtype, device)


def float64_alone(dtype: str) -> CannotBePlanted:
    """Say why a run in a narrower dtype cannot round something to float32 by mistake."""
    return CannotBePlanted(f"a {dtype} run keeps nothing in more than float32")


def of_loss(*kinds: str) -> Applies:
    """Apply to cases whose loss is of one of these kinds."""
    return lambda case: case.loss.kind in kinds


def of_schedule(*kinds: type) -> Applies:
    """Apply to cases whose batch order is of one of these kinds."""
    return lambda case: isinstance(case.schedule, kinds)


def has_adam(case: Case) -> bool:
    return isinstance(case.optimizer, Adam)


def has_momentum(case: Case) -> bool:
    return isinstance(case.optimizer, Sgd) and case.optimizer.momentum != 0


def has_decay(case: Case, kind: type[Sgd] | type[AdamW] | UnionType = Sgd | AdamW) -> bool:
    return isinstance(case.optimizer, kind) and case.optimizer.weight_decay != 0


def has_classes(case: Case) -> bool:
    return case.loss.kind in ("crossentropy", "nll")
