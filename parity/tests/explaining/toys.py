"""The toy case recorded deeply, and an implementation of it with a mistake."""

from __future__ import annotations

from dataclasses import replace

from parity.judging.witness import Witness
from parity.recording import steps as deep
from parity.spec import Case
from parity.tests import toy
from parity.trainer import Trainer, record
from parity.trajectory import Trajectory, gather
from parity.typing import Params

CASE = toy.MOMENTUM
MISTAKEN = """
from parity.mistakes.catalogue import CATALOGUE
from parity.tests import toy

PLANT = next(hypothesis.plant for hypothesis in CATALOGUE if hypothesis.name == {name!r})

def build(case, dtype, device):
    return PLANT(toy.build, case, dtype, device)
"""


def recorded(trainer: Trainer, updates: int = 5, case: Case = CASE) -> Trajectory:
    """A run in memory with its first updates recorded deeply."""
    watched = deep.watched(trainer, case, updates)
    seen: Params = {}
    chunks = []
    for chunk in record(watched.trainer, case, case.epochs):
        chunks.append(chunk)
        seen |= watched.take()
    dtype = next(iter(trainer.export().params.values())).dtype.name
    return replace(gather(chunks, {"dtype": dtype}), steps=seen)


def witness(case: Case = CASE) -> Witness:
    return Witness(toy.build, case, "float64")
