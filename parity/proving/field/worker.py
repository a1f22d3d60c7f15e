"""The runs of the field as jobs, and the judging of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parity.running.executor import Emit, Environment, Progress, Resources

if TYPE_CHECKING:
    from parity.proving.field.judged import Found

RUNS = ("first", "second", "third")
"""The runs of a pair, which are its recordings' folders: two that are right, and the second with the fault."""


@dataclass(frozen=True)
class Record:
    """Train and record one run of a pair below a folder."""

    pair: str
    which: int
    dtype: str
    folder: str
    environment: Environment
    resources: Resources

    def run(self, emit: Emit) -> None:
        from importlib import import_module

        from parity.proving.field.pair import BY_HAND
        from parity.proving.field.pairs import PAIRS
        from parity.proving.field.setup import Setup

        emit(Progress())
        (pair,) = (each for each in PAIRS if each.name == self.pair)
        side = import_module(f"parity.proving.field.{self.environment.framework}_side")
        right = Setup(**pair.options(wrong=False))
        setup = Setup(**pair.options(wrong=self.which == 2))
        folder = Path(self.folder, RUNS[self.which])
        side.run(folder, setup, self.dtype, pair.by == BY_HAND, said=right.said)


@dataclass(frozen=True)
class Judge:
    """Judge the recordings of a pair in a folder."""

    pair: str
    dtype: str
    folder: str
    environment: Environment
    resources: Resources

    def run(self, emit: Emit) -> Found:
        from parity.proving.field.judged import judged
        from parity.proving.field.pairs import PAIRS

        emit(Progress())
        (pair,) = (each for each in PAIRS if each.name == self.pair)
        first, second, third = (Path(self.folder, name) for name in RUNS)
        return judged(pair, self.dtype, first, second, third)
