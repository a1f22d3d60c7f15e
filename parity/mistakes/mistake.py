"""What a porting mistake is, and on which cases it can be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType

from parity.recording.steps import Phase
from parity.spec import Adam, AdamW, Case, Sgd
from parity.trainer import Build, Trainer
from parity.typing import Array, Params

Plant = Callable[[Build, Case, str, str], Trainer | None]
Gradients = Callable[[Array, Array], tuple[float, Params]]
"""The verb: ``(x, y)`` to the loss and the gradient of every parameter."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A named porting mistake.

    ``phase`` is where a walk from shared states first sees the mistake. States
    of which all is zero may hide it for a step. ``reference`` names an issue, a document or a library's own page that
    shows people making it. ``plant(build, case, dtype, device)`` gives the implementation with the mistake, or None
    where it cannot be made or changes nothing.

    ``figures_only``: the run's losses and parameters stay right, and only the printed figures come out wrong.
    ``pieces_of`` are the labels, beside the reference's, of implementations in whose pieces it can be planted.
    """

    name: str
    phase: Phase
    sentence: str
    reference: str
    plant: Plant
    figures_only: bool = False
    pieces_of: tuple[str, ...] = ()


def has_adam(case: Case) -> bool:
    return isinstance(case.optimizer, Adam)


def has_momentum(case: Case) -> bool:
    return isinstance(case.optimizer, Sgd) and case.optimizer.momentum != 0


def has_decay(case: Case, kind: type[Sgd] | type[AdamW] | UnionType = Sgd | AdamW) -> bool:
    return isinstance(case.optimizer, kind) and case.optimizer.weight_decay != 0


def has_classes(case: Case) -> bool:
    return case.loss.kind in ("crossentropy", "nll")


def anywhere(case: Case) -> bool:
    return True
