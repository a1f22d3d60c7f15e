"""What a porting mistake is, and in which cases it can be made."""

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


@dataclass(frozen=True)
class CannotBePlanted:
    """An implementation, or a run of its dtype, cannot make a mistake."""

    why: str


@dataclass(frozen=True)
class ChangesNothing:
    """An implementation can make a mistake, but its run would be the same without it."""

    why: str


Unplanted = CannotBePlanted | ChangesNothing
"""Why there is no trainer that makes a mistake."""
Plant = Callable[[Build, Case, str, str], Trainer | Unplanted]
"""An implementation's ``build`` and what that takes, ``(case, dtype, device)``, to a trainer that makes a mistake."""


@dataclass(frozen=True)
class Local:
    """A mistake as a function of one recorded update, where that is enough to tell it."""

    phase: Phase
    """The phase in which two recordings part when one of them makes the mistake."""
    wrong: Callable[[Step, Step | None, Optimizer | None], Sequence[Step]]
    """``(step, before, optimizer)``: what a right step's loss and gradients would be with the mistake.

    ``before`` is the step before it in the run that may be mistaken, None at its first, and ``optimizer`` the one that
    it is meant to have, None where nobody says it. A mistake that is made in several ways gives several steps, one that
    the optimizer or the step leaves no room for gives none.
    """


def anywhere(case: Case) -> bool:
    """Every case."""
    return True


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A named porting mistake."""

    name: str
    phase: Phase
    """Where a walk from shared states first sees it. States of which all is zero may hide it for a step."""
    sentence: str
    """What the mistake is, in words that follow its name."""
    reference: str
    """An issue, a document or a library's own page that shows people making it."""
    applies: Applies = anywhere
    """Whether a case gives occasion for it, by what the case is: no case without Adam has a mistake in Adam."""
    how: Plant
    """How it is put into an implementation of a case to which it applies."""
    local: Local | None = None
    at_the_end: bool = False
    """It shows in a run's last epoch alone, which a recording of the first updates has not seen."""
    figures_only: bool = False
    """The run's losses and parameters stay right, and only the printed figures come out wrong."""
    pieces_of: tuple[str, ...] = ()
    """The labels, beside the reference's, of implementations in whose pieces it can be planted."""

    def plant(self, build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        """The implementation with the mistake.

        Returns:
            A trainer that makes the mistake; ``CannotBePlanted`` where the case gives no occasion for it, or where the
            implementation or a run of that dtype cannot make it; ``ChangesNothing`` where nothing would be wrong.
        """
        if not self.applies(case):
            return CannotBePlanted(f"{case.name} gives no occasion for it")
        return self.how(build, case, dtype, device)


def float64_alone(dtype: str) -> CannotBePlanted:
    """Why a run in a narrower dtype cannot have rounded something to float32 by mistake."""
    return CannotBePlanted(f"a {dtype} run keeps nothing in more than float32")


def of_loss(*kinds: str) -> Applies:
    """Cases whose loss is of one of these kinds."""
    return lambda case: case.loss.kind in kinds


def of_schedule(*kinds: type) -> Applies:
    """Cases whose batch order is of one of these kinds."""
    return lambda case: isinstance(case.schedule, kinds)


def has_adam(case: Case) -> bool:
    return isinstance(case.optimizer, Adam)


def has_momentum(case: Case) -> bool:
    return isinstance(case.optimizer, Sgd) and case.optimizer.momentum != 0


def has_decay(case: Case, kind: type[Sgd] | type[AdamW] | UnionType = Sgd | AdamW) -> bool:
    return isinstance(case.optimizer, kind) and case.optimizer.weight_decay != 0


def has_classes(case: Case) -> bool:
    return case.loss.kind in ("crossentropy", "nll")
