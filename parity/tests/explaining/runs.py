"""Recorded runs of the toy case, with an update or a gradient that may be mistaken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parity.explaining.explain import explain_pair
from parity.explaining.updates.remade import UPDATES as MISTAKES
from parity.judging.verdict import Judgement, Verdict
from parity.mistakes.mistake import Unplanted
from parity.mistakes.stepwise import Stepwise, asked, honest
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.tests import toy
from parity.tests.explaining.toys import recorded
from parity.trainer import Trainer
from parity.trajectory import Trajectory

KNOWN = {mistake.name: mistake for mistake in MISTAKES}
UPDATES = 18
"""All of the toy's."""
OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Adam(0.1, epsilon=1e-3),
    "adamw": AdamW(0.1, epsilon=1e-3, weight_decay=0.2),
    "momentum": Sgd(0.1, momentum=0.9, weight_decay=0.2),
    "sgd": Sgd(0.1, weight_decay=0.2),
}


def run_of(
    trainer: Trainer | Unplanted, case: Case, said: Optimizer | None = None, updates: int = UPDATES
) -> Trajectory:
    assert not isinstance(trainer, Unplanted)
    run = recorded(trainer, updates, case)
    return replace(run, meta={**run.meta, "hyper_parameters": {"optimizer": repr(said or case.optimizer)}})


def explained(run: Trajectory, other: Trajectory) -> dict:
    some = Judgement(Verdict.FAIL, 2.0, 1, "loss", "", None, 1.0)
    return explain_pair(run, other, some, "no case is at hand").as_json()


def scheduled(optimizer, name, p, g, state):
    """Half the learning rate, of which parity.spec has no word."""
    return honest(replace(optimizer, learning_rate=optimizer.learning_rate / 2), name, p, g, state)


def unbiased(optimizer, name, p, g, state):
    """A schedule and a decay of kernels alone."""
    return scheduled(replace(optimizer, weight_decay=0) if name.endswith("bias") else optimizer, name, p, g, state)


def ruled(case: Case, rule: Any = honest, evaluate: Any = asked) -> Trajectory:
    return run_of(Stepwise(toy.build(case, "float64", "cpu"), case, "float64", rule=rule, evaluate=evaluate), case)
