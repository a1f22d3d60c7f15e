"""The place where two runs part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity.judging.witness import Check
from parity.typing import Params

UNRECORDED = "unrecorded"
"""The phase where a recording has losses and snapshots alone."""


@dataclass(frozen=True)
class Location:
    """Where a run parts from its reference, with what was found on the way.

    ``epoch`` counts from 1 and ``batch`` from 0. ``check`` is the tensor that parts by most in the phase, None where
    no single step parts. ``agreed`` gives, for each phase before, the largest share of its noise floor used.
    ``parameters`` are all tensors of the phase that part; ``gradient``, ``params`` the reference's at that state.
    """

    phase: str
    epoch: int
    batch: int
    check: Check | None
    agreed: dict[str, float]
    parts: tuple[Check, ...]
    gradient: Params
    params: Params
    note: str = ""

    @property
    def finite(self) -> bool:
        """Whether all that parts is a number in both: what follows from a NaN does not explain it."""
        return all(bool(np.isfinite(one.got).all() and np.isfinite(one.wanted).all()) for one in self.parts)

    @property
    def place(self) -> str:
        """Where, in words: epoch, batch, phase and tensor."""
        tensor = self.check.tensor if self.check is not None else ""
        if self.phase == UNRECORDED:
            return f"epoch {self.epoch}, " + (f"batch {self.batch}, loss" if tensor == "loss" else tensor)
        # That a batch is another is seen in its loss alone.
        of = f" of {tensor}" if tensor and self.phase not in (tensor, "batch") else ""
        return f"epoch {self.epoch}, batch {self.batch}, {self.phase}{of}"
