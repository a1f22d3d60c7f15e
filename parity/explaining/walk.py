"""Find where two runs part: take each update apart at a state that both share, phase by phase.

The walk loads an implementation with the reference's exact state, so that all inputs agree, and asks in turn: is the
prediction the same? its loss? its gradients? does the implementation train on the rows that it is given? is the update
the same? The first answer that differs by more than rounding explains everything after it. Recorded updates answer the
same questions: a recording is held against the reference at the run's own states, two recordings against each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.explaining.location import Location
from parity.judging.moments import EPOCH, moment
from parity.judging.updates.followed import other_rows
from parity.judging.witness import Check, Witness, apart, held, take_apart, within_rounding
from parity.recording.steps import ASKED, Phase, Step, epochs_and_batches, step_of, steps_of
from parity.trainer import State, Trainer
from parity.trajectory import Trajectory
from parity.typing import Batches, Params

LATER = 8
"""If zeros may hide something, the walk looks at this many updates more."""
Agreed = Mapping[Phase, float]
"""For each phase, the distance of its farthest tensor so far, in noise floors."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One update on a walk, taken apart."""

    epoch: int
    batch: int
    checks: Mapping[Phase, Sequence[Check] | str]
    """The phases in the order in which they are asked: the checks of each, or why there is nothing to check."""
    gradient: Params = field(default_factory=dict)
    """The reference's gradient at the state from which the update begins."""
    params: Params = field(default_factory=dict)
    """The parameters of that state."""
    beside: Mapping[Phase, Sequence[Check]] = field(default_factory=dict)
    """Checks of what no later update depends on."""
    unit: str = EPOCH
    """By what the run counts its moments: see ``parity.judging.moments``."""

    def at(self, phase: Phase, parts: Sequence[Check] = (), agreed: Agreed | None = None, note: str = "") -> Location:
        """Give the place of a phase of this update."""
        return Location(
            phase=phase,
            epoch=self.epoch,
            batch=self.batch,
            parts=tuple(parts),
            agreed=agreed or {},
            gradient=self.gradient,
            params=self.params,
            note=note,
            unit=self.unit,
        )


def walk(
    stops: Iterable[Stop], agreed: Agreed | None = None, beyond: Iterable[Stop] = ()
) -> tuple[Location | None, Agreed]:
    """Walk along updates and stop at the first that parts.

    Args:
        stops: The updates, in their order. The walk takes no more of them than it needs.
        agreed: The distances of the updates before.
        beyond: The updates after the one that parts, from states that the runs still share. If some parameters are
            zero, a phase may agree although it is wrong: a product with zeros is right whatever is multiplied, and a
            loss of zeros is the same for all rows. Then the walk goes on and looks for an earlier phase that parts.

    Returns:
        The place, None if every phase of every update agrees; and the distances of the phases before it.
    """
    so_far: Agreed = agreed or {}
    for stop in stops:
        found, so_far = parting(stop, so_far)
        if found is not None:
            return _before_zeros(found, beyond), so_far
    return None, so_far


def parting(stop: Stop, agreed: Agreed) -> tuple[Location | None, Agreed]:
    """Find the first phase of an update that parts; and the distances of the phases before it."""
    agreed = dict(agreed)
    for phase, checks in stop.checks.items():
        if isinstance(checks, str):
            return stop.at(phase, agreed=agreed, note=checks), agreed
        if parts := apart(checks):
            return stop.at(phase, parts, agreed), agreed
        agreed[phase] = max([agreed.get(phase, 0.0), *(check.floors for check in checks)])
    return None, agreed


def _before_zeros(found: Location, beyond: Iterable[Stop]) -> Location:
    """Replace a place by an earlier phase, if zeros hid that phase and a later update shows it."""
    if all(value.any() for value in found.params.values()):
        return found
    for stop in itertools.islice(beyond, LATER):
        again, _ = parting(stop, {})
        if again is not None and again.parts and ASKED.index(again.phase) < ASKED.index(found.phase):
            when = moment(stop.unit, stop.epoch, stop.batch)
            note = f"seen at {when}: before, parameters are zero and hide it"
            return replace(again, epoch=found.epoch, batch=found.batch, note=note)
    return found


def locate(trainer: Trainer, witness: Witness, reference: Trainer, start: int, until: int) -> Location:
    """Walk beside the reference from epoch to epoch, and stop at the first step that parts.

    Each step begins from the reference's state in both. After an epoch whose steps agree one by one, the whole epoch is
    trained in one call.

    Args:
        trainer: The implementation.
        witness: What is expected of each step.
        reference: A float64 reference at the case's beginning, which walks beside the implementation.
        start: The epoch after which the walk begins.
        until: The last epoch of the walk; at least one epoch is walked.

    Returns:
        The place, with ``STATE`` and no check if every step agrees.
    """
    rows, schedule = len(witness.data.x), witness.case.schedule
    for batches in itertools.islice(schedule.epochs(rows), start):
        reference.train([batches])
    stops = _live(trainer, witness, reference, start)
    agreed: Agreed = {}
    for epoch, batches in enumerate(itertools.islice(schedule.epochs(rows), start, max(start + 1, until)), start + 1):
        before = reference.export()
        found, agreed = walk(itertools.islice(stops, len(batches)), agreed, beyond=stops)
        if found is not None:
            return found
        # A single update was trained in one call already.
        found, _ = walk(_together(trainer, witness, before, batches, epoch) if len(batches) > 1 else ())
        if found is not None:
            note = "each step agrees by itself; together, in one call, they do not"
            return replace(found, agreed=agreed, note=note)
    note = "no single step from a shared state parts"
    return Location(phase=Phase.STATE, epoch=start + 1, batch=0, agreed=agreed, note=note)


def _live(trainer: Trainer, witness: Witness, reference: Trainer, start: int) -> Iterator[Stop]:
    """Take apart the updates after epoch ``start``, each from the state that the reference has come to."""
    data = witness.data
    order = itertools.islice(witness.case.schedule.epochs(len(data.x)), start, None)
    for epoch, batches in enumerate(order, start + 1):
        for batch, rows in enumerate(batches):
            state = reference.export()
            step = step_of(trainer, state, data.x[rows], data.y[rows], rows)
            reference.train([(rows,)])
            yield _against_reference(step, witness, epoch, batch)


def _against_reference(step: Step, witness: Witness, epoch: int, batch: int) -> Stop:
    expected = witness.step(step.before, step.rows)
    return Stop(
        epoch=epoch,
        batch=batch,
        checks=take_apart(step, expected),
        gradient=expected[Phase.GRADIENT].values,
        params=step.before.params,
    )


def _together(trainer: Trainer, witness: Witness, before: State, batches: Batches, epoch: int) -> Iterator[Stop]:
    """Train a whole epoch in one call, and hold its losses against those of the reference."""
    expected = witness.epoch(before, batches)
    trainer.load(before)
    for batch, loss in enumerate(trainer.train([batches]).losses.reshape(-1)):
        # The first loss belongs to the state that was loaded: if it differs, its rows or its time are wrong.
        phase = Phase.STATE if batch else Phase.BATCH
        checks = {phase: held({"loss": loss}, expected[batch])}
        yield Stop(epoch=epoch, batch=batch, checks=checks, params=before.params)


def walk_recorded(run: Trajectory, witness: Witness) -> Location | None:
    """Walk along a recording, each update at the run's own state, and stop at the first that parts.

    Returns:
        The place, None if no update was recorded deeply. If all agree, the place has no check, and its note says how
        many they are.
    """
    steps = steps_of(run)
    if not steps:
        return None
    initial = {name: value.astype(witness.dtype) for name, value in witness.case.initial().items()}
    parts = tuple(c for c in within_rounding(steps[0].before.params, initial, witness.dtype) if not c.agrees)
    if parts:
        note = "the run does not begin with the case's initial parameters"
        return Location(phase=Phase.STATE, epoch=1, batch=0, parts=parts, params=initial, note=note)
    stops = _recorded(run, steps, witness)
    found, agreed = walk(stops, beyond=stops)
    return found or all_agree(len(steps), agreed)


def _recorded(run: Trajectory, steps: Sequence[Step], witness: Witness) -> Iterator[Stop]:
    """Take recorded updates apart, each at the run's own state, up to the first that took other rows."""
    order = itertools.chain.from_iterable(witness.case.schedule.epochs(len(witness.data.x)))
    for step, rows, (epoch, batch) in zip(steps, order, epochs_and_batches(run), strict=False):
        if not np.array_equal(step.rows, rows):
            yield Stop(epoch=epoch, batch=batch, checks={Phase.BATCH: other_rows(step.rows, rows)})
            return
        yield _against_reference(step, witness, epoch, batch)


def all_agree(updates: int, agreed: Agreed) -> Location:
    note = f"each of the {updates} updates recorded deeply agrees by itself: more of them would reach further"
    return Location(phase=Phase.STATE, epoch=1, batch=0, agreed=agreed, note=note)
