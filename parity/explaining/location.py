"""The place where two runs part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.judging.witness import Check
from parity.recording.steps import Phase
from parity.typing import Params


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a run parts from its reference, with what was found on the way."""

    phase: Phase
    epoch: int
    """From 1."""
    batch: int
    """From 0."""
    parts: tuple[Check, ...] = ()
    """All tensors of the phase that part, the farthest first; none where no single step parts."""
    agreed: Mapping[Phase, float] = field(default_factory=dict)
    """For each phase before, the most noise floors that any of its tensors was off."""
    gradient: Params = field(default_factory=dict)
    """The reference's, at the state from which the step begins."""
    params: Params = field(default_factory=dict)
    """The reference's, there."""
    note: str = ""

    @property
    def check(self) -> Check | None:
        """The tensor that parts by most, None where no single step parts."""
        return self.parts[0] if self.parts else None

    @property
    def finite(self) -> bool:
        """Whether all that parts is a number in both: what follows from a NaN does not explain it."""
        return all(bool(np.isfinite(one.got).all() and np.isfinite(one.wanted).all()) for one in self.parts)

    @property
    def place(self) -> str:
        """Where, in words: epoch, batch, phase and tensor."""
        tensor = self.check.tensor if self.check is not None else ""
        if self.phase is Phase.UNRECORDED:
            return f"epoch {self.epoch}, " + (f"batch {self.batch}, loss" if tensor == "loss" else tensor)
        # That a batch is another is seen in its loss alone.
        of = f" of {tensor}" if tensor and tensor != self.phase and self.phase is not Phase.BATCH else ""
        return f"epoch {self.epoch}, batch {self.batch}, {self.phase}{of}"
