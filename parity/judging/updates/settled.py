"""What a judgement by distances comes to once single updates are heard, and the growth of the distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity.judging.comparable import coarser_dtype
from parity.judging.compare import differences
from parity.judging.floors.floor import Source
from parity.judging.moments import moment, unit_of
from parity.judging.updates.defects import looked_at
from parity.judging.updates.growth import outgrown
from parity.judging.updates.kinks import crossing
from parity.judging.updates.single import Defect
from parity.judging.verdict import Judgement, Verdict
from parity.recording.steps import Phase
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory

TAKES = (
    "hand the updates to the run.step of parity.watch, which measures a noise floor, let one run follow the other, or "
    "record repetitions and name them with --noise"
)
"""What a reader can do about a doubt."""


def settled(
    found: Judgement, shown: Sequence[Defect], ours: Trajectory, theirs: Trajectory, measured: bool
) -> Judgement:
    """Hear what single updates show, and doubt a failure that may be rounding.

    A certain defect of a single update fails. Without any, a distance fails where no rounding can have grown to it; if
    rounding can, the failure is a doubt, unless a noise floor was measured and no single updates speak against it. A
    suspicious defect keeps a PASS away.

    Args:
        found: The judgement by distances.
        shown: What single updates show: see ``parity.judging.updates.defects``.
        ours: The run that is judged.
        theirs: The run that it is held against.
        measured: Whether the distances were held to measured noise floors.

    Returns:
        The judgement.
    """
    certain = [defect for defect in shown if defect.certain]
    if found.verdict is Verdict.FAIL:
        return found if certain else _doubted(found, ours, theirs, measured)
    if certain:
        return _failed(found, certain[0], ours, theirs)
    if shown and found.verdict is Verdict.PASS:
        takes = "let one run follow the other, or record more updates deeply" if measured else TAKES
        reason = f"agrees within its tolerance, but {shown[0].sentence}; this may be another model: {takes}"
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return found


def _doubted(found: Judgement, ours: Trajectory, theirs: Trajectory, measured: bool) -> Judgement:
    """Turn a failure into a doubt if rounding may have led there."""
    single = looked_at(ours, theirs)
    if not found.evidence or (measured and not single):
        return found
    if found.difference is not None and not np.isfinite(found.difference.absolute):
        return found
    if found.parameter is not None and found.parameter.startswith("metrics/"):
        return found
    if outgrown(found.evidence[0], ours, theirs, after=single) is not None:
        return found
    why = "it grew no faster than rounding can"
    if single:
        why = f"each of the first {single} updates, by itself, agrees"
    if event := crossing(ours, theirs):
        why += f"; {event}"
    takes = f"no noise floor was measured: {TAKES}"
    if measured:
        takes = "the noise floor was measured on runs that did not meet this: let one run follow the other"
    reason = f"{found.reason}; this may be rounding, because {why}; {takes}"
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _failed(found: Judgement, defect: Defect, ours: Trajectory, theirs: Trajectory) -> Judgement:
    """A failure that a single update shows, in the words of a judgement."""
    batches = max(1, ours.loss.shape[1])
    epoch, batch = defect.update // batches + 1, defect.update % batches
    coarser = coarser_dtype(ours, theirs)
    if defect.phase is Phase.LOSS or defect.tensor not in ours.params:
        place = slice(epoch - 1, epoch)
        worst = differences(ours.loss[place], theirs.loss[place], "loss", [epoch], dtype=coarser).absolute
        name = "loss"
    else:
        name = defect.tensor
        snapshot = min(int(np.searchsorted(ours.epochs, epoch)), len(ours.epochs) - 1)
        epoch = int(ours.epochs[snapshot])
        one, other = (run.params[name][snapshot : snapshot + 1] for run in (ours, theirs))
        worst = differences(one, other, name, [epoch], dtype=coarser).absolute
    allowed = None
    if worst is not None:
        allowed = float(2 * FACTOR * least_floor(max(abs(float(worst.a)), abs(float(worst.b))), coarser))
    when = moment(unit_of(ours, theirs), defect.update // batches + 1, batch)
    reason = f"differs at {when}: {defect.sentence}"
    return replace(
        found,
        verdict=Verdict.FAIL,
        reason=reason,
        epoch=epoch,
        parameter=name,
        difference=worst,
        tolerance=allowed,
        source=found.source or Source.ROUNDING,
    )
