"""The place where two runs part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.judging.moments import EPOCH, moment
from parity.judging.witness import Check
from parity.recording.steps import Phase
from parity.typing import Params


@dataclass(frozen=True, kw_only=True)
class Location:
    """The place where a run parts from its reference, with the phases that agreed before it."""

    phase: Phase
    epoch: int
    """From 1."""
    batch: int
    """From 0."""
    parts: tuple[Check, ...] = ()
    """All tensors of the phase that part, the farthest first; none if no single step parts."""
    agreed: Mapping[Phase, float] = field(default_factory=dict)
    """For each phase before, the distance of its farthest tensor in noise floors."""
    gradient: Params = field(default_factory=dict)
    """The reference's gradient at the state from which the step begins."""
    params: Params = field(default_factory=dict)
    """The parameters of that state."""
    note: str = ""
    others: tuple[str, ...] = ()
    """Other places at which the runs part by themselves, in words."""
    unit: str = EPOCH
    """By what the runs count their moments: see ``parity.judging.moments``."""

    @property
    def check(self) -> Check | None:
        """Take the tensor that parts by most; None if no single step parts."""
        return self.parts[0] if self.parts else None

    @property
    def finite(self) -> bool:
        """Tell whether every tensor that parts is finite in both runs: the effects of a NaN do not explain it."""
        return all(bool(np.isfinite(one.got).all() and np.isfinite(one.wanted).all()) for one in self.parts)

    @property
    def place(self) -> str:
        """Name the place in words: epoch, batch, phase and tensor."""
        tensor = self.check.tensor if self.check is not None else ""
        if self.phase is Phase.UNRECORDED:
            return f"{moment(self.unit, self.epoch, self.batch if tensor == 'loss' else None)}, {tensor}"
        # Another batch is seen in its loss alone, which need not be named.
        of = f" of {tensor}" if tensor and tensor != self.phase and self.phase is not Phase.BATCH else ""
        return f"{moment(self.unit, self.epoch, self.batch)}, {self.phase}{of}"
