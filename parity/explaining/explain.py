"""Explain a failed run: say where it parts from the reference, what the difference looks like, and which mistake
makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.explaining.diagnose import Diagnosis, diagnose
from parity.explaining.layers.find import Layers, find_layers
from parity.explaining.location import Location
from parity.explaining.pairs import Noise, largest_parting, walk_pair
from parity.explaining.pattern import growth, pattern
from parity.explaining.recordings import SENTENCES, explain_steps
from parity.explaining.replay import Replays
from parity.explaining.walk import locate, walk_recorded
from parity.judging.compare import Difference
from parity.judging.floors.floor import Floor
from parity.judging.moments import unit_of
from parity.judging.policy import asserts_parameters
from parity.judging.shared import shared
from parity.judging.tensors.correspondence import Correspondence
from parity.judging.updates.followed import followed_updates
from parity.judging.verdict import Judgement
from parity.judging.witness import Check, Witness
from parity.mistakes.catalogue import mistakes_for
from parity.recording.steps import Phase
from parity.spec import Case
from parity.suite import Entry, Implementation, named
from parity.tolerance import FACTOR
from parity.trainer import Trainer
from parity.trajectory import Trajectory, TrajectoryError


@dataclass(frozen=True)
class Explanation:
    """A diagnosis, with the words to print it."""

    diagnosis: Diagnosis
    sentences: Mapping[str, str]
    """Each mistake's sentence, by its name."""
    growth: str = ""
    """How the distance grows along the run."""
    layers: Layers | None = None
    """In which layers the runs part; None where they recorded none."""

    def as_json(self) -> dict[str, Any]:
        """Give the explanation as plain data, which a worker sends and ``--json`` writes."""
        location, check = self.diagnosis.location, self.diagnosis.location.check
        sentences = dict(self.sentences)
        return {
            "sentence": self.diagnosis.sentence(sentences),
            "why": self.diagnosis.why(sentences),
            "place": location.place,
            "phase": str(location.phase),
            "epoch": location.epoch,
            "batch": location.batch,
            "unit": location.unit,
            "parameter": check.tensor if check else None,
            "floors": check.floors if check else None,
            "difference": _plain(check.worst) if check and check.worst else None,
            "parts": [[part.tensor, part.floors] for part in location.parts],
            "agreed": {str(phase): floors for phase, floors in location.agreed.items()},
            "note": location.note,
            "others": list(location.others),
            "pattern": self.diagnosis.pattern,
            "growth": self.growth,
            "layer": self.layers.as_json() if self.layers is not None else None,
            "matched": None,
            "untouched": self.diagnosis.untouched,
            "epochs": self.diagnosis.epochs,
            "unfinished": self.diagnosis.unfinished,
            "replays": [
                {"names": list(replay.names), "phase": str(replay.phase), "floors": replay.floors}
                for replay in self.diagnosis.replays
            ],
            "cannot_be_planted": self.diagnosis.impossible,
            "changes_nothing": self.diagnosis.without_effect,
            "named": list(self.diagnosis.explanations[0].names) if self.diagnosis.explanations else [],
            "sentences": {name: sentences[name] for replay in self.diagnosis.replays[:8] for name in replay.names},
        }


def _plain(worst: Difference) -> dict[str, Any]:
    return {
        "index": list(worst.index),
        "ours": float(worst.a),
        "reference": float(worst.b),
        "absolute": worst.absolute,
        "relative": worst.relative,
        "ulp": worst.ulp,
    }


def explain(
    entry: Entry,
    implementation: Trainer,
    reference: Implementation,
    run: Trajectory,
    *,
    failed: int,
    dtype: str,
    floor: Floor,
    lockstep: int | None = None,
    on_step: Callable[[], None] = lambda: None,
    replays: Replays | None = None,
    seconds: float = 45.0,
) -> Explanation:
    """Explain a run that left its tolerance, with its implementation and the reference at hand.

    Args:
        entry: The case.
        implementation: The trainer that made the failed run, newly built.
        reference: The implementation that the run is held against.
        run: The run that failed: the free run, or the one in lockstep.
        failed: The epoch, from 1, where the run first left its tolerance.
        dtype: The run's.
        floor: The run's noise floor.
        lockstep: The epochs of a stretch, if the failed run is the one in lockstep.
        on_step: Called after each mistake that was replayed.
        replays: The paths that other runs of the same case have left, with the same ``lockstep``.
        seconds: No replay begins later than this.

    Returns:
        The place where the first step parts, what the difference looks like, and which mistakes explain it.
    """
    case = replace(entry.case, metrics=())
    witness = Witness(reference.build, case, dtype)

    def walk(start: int, until: int) -> Location:
        return locate(implementation, witness, reference.build(case, "float64", "cpu"), start, until)

    # A mistake in every step shows in the first step, long before it has grown beyond the tolerance of a run.
    location = walk(0, 1)
    if location.phase is Phase.STATE and location.check is None and failed > 1:
        if lockstep is not None:
            location = walk((failed - 1) // lockstep * lockstep, failed)
        else:
            # The last snapshot before the failure, at which the run agreed.
            agreed = max((int(epoch) for epoch in run.epochs if epoch < failed), default=0)
            location = walk(max(1, agreed), agreed + case.every)
    replays = replays or Replays(reference.build, entry.case, mistakes_for(entry), lockstep)
    params = lockstep is not None or asserts_parameters(entry.case, dtype)
    return _diagnosed(replays, run, location, dtype=dtype, floor=floor, params=params, seconds=seconds, on_step=on_step)


def explain_recorded(
    entry: Entry,
    reference: Implementation,
    run: Trajectory,
    other: Trajectory,
    judgement: Judgement,
    floor: Floor,
    seconds: float = 45.0,
) -> Explanation:
    """Explain a recorded run of a case from the recording alone.

    Each update that is recorded deeply is held against the reference at the run's own state.

    Args:
        entry: The case.
        reference: Its reference implementation.
        run: The run that is explained.
        other: The run that it was judged against.
        judgement: The failure of that comparison.
        floor: The run's noise floor.
        seconds: No replay begins later than this.

    Returns:
        The place where the run parts from the reference, and which mistakes explain it.

    Raises:
        TrajectoryError: The run has other parameters than the case.
        ValueError: The deep recording has other shapes than the case.
    """
    _check_parameters(run, entry.case)
    dtype = run.meta["dtype"]
    witness = Witness(reference.build, replace(entry.case, metrics=()), dtype)
    location = _placed(walk_recorded(run, witness), run, other, judgement, f"{_command(run)} --deep 20'")
    replays, params = Replays(reference.build, entry.case, mistakes_for(entry)), asserts_parameters(entry.case, dtype)
    return _diagnosed(replays, run, location, dtype=dtype, floor=floor, params=params, seconds=seconds)


def _check_parameters(run: Trajectory, case: Case) -> None:
    """Refuse, with TrajectoryError, a run that has other parameters than the case that it names."""
    ours = {name: values.shape[1:] for name, values in run.params.items()}
    theirs = {name: value.shape for name, value in case.initial().items()}
    if ours != theirs:
        said, known = (", ".join(f"{name} {shape}" for name, shape in sorted(of.items())) for of in (ours, theirs))
        raise TrajectoryError(
            f"the recording says that it is of the case {case.name}, but has the parameters {said}, and not {known}: "
            "name the suite that it is of with --suite"
        )


@np.errstate(all="ignore")  # a recording may hold any numbers, a NaN that signals too
def explain_pair(
    run: Trajectory,
    other: Trajectory,
    judgement: Judgement,
    untried: str,
    noise: Sequence[tuple[Trajectory, Trajectory]] = (),
    matched: Correspondence | None = None,
) -> Explanation:
    """Explain two recorded runs without a reference.

    The mistakes of ``parity.explaining.recordings`` are tried on the updates that the runs recorded deeply.

    Args:
        run: The first run.
        other: The second run.
        judgement: The failure of their comparison.
        untried: Why no reference is at hand.
        noise: Repetitions, each with the run that it repeats, as ``walk.Noise`` takes them.
        matched: Which tensors of the runs were matched, where names alone did not say it.

    Returns:
        The place where the runs part, and which mistakes explain it.

    Raises:
        ValueError: The deep recordings have tensors of different shapes.
    """
    repeated = Noise(noise)
    walked = walk_pair(run, other, repeated)
    location = _placed(walked, run, other, judgement, "a deep recording of both (parity.recorder makes one)")
    return _explained_at(location, run, other, untried, repeated, matched)


@np.errstate(all="ignore")  # a recording may hold any numbers, a NaN that signals too
def explain_doubt(
    run: Trajectory,
    other: Trajectory,
    untried: str,
    noise: Sequence[tuple[Trajectory, Trajectory]] = (),
    matched: Correspondence | None = None,
) -> Explanation | None:
    """Say where single updates of two runs part by most, if no verdict could be given.

    Args:
        run: The first run.
        other: The second run.
        untried: Why no reference is at hand.
        noise: Repetitions, as ``explain_pair`` takes them.
        matched: As ``explain_pair`` takes it.

    Returns:
        The place and what explains it, as ``explain_pair`` gives them; or the largest parting if each is within
        rounding. None if no update was recorded deeply by both, or all are equal.

    Raises:
        ValueError: The deep recordings have tensors of different shapes.
    """
    repeated = Noise(noise)
    location = walk_pair(run, other, repeated)
    if location is None:
        return None
    if location.parts or location.phase is not Phase.STATE:
        doubt = "this may be rounding: what the verdict asks for would tell"
        location = replace(location, note="; ".join(filter(None, (location.note, doubt))))
        return _explained_at(location, run, other, untried, repeated, matched)
    largest, note = largest_parting(run, other, repeated), location.note
    if largest is None:
        return None
    largest = replace(largest, note=note, unit=unit_of(run, other))
    found = Diagnosis(location=largest, pattern=pattern(largest), named="no single update parts by more than rounding")
    return Explanation(found, SENTENCES, layers=find_layers(run, other, largest, matched))


def _explained_at(
    location: Location,
    run: Trajectory,
    other: Trajectory,
    untried: str,
    repeated: Noise,
    matched: Correspondence | None,
) -> Explanation:
    """Explain what parts at a place."""
    found = explain_steps(run, other, location, repeated)
    if found is None:
        of_a_case = run.meta.get("case") or other.meta.get("case")
        why = _why_untried(location, untried if of_a_case else "")
        found = Diagnosis(location=location, pattern=pattern(location), untried=why)
    found = replace(found, location=replace(found.location, unit=unit_of(run, other)))
    layers = find_layers(run, other, location, matched)
    if layers is not None and layers.explains(location) and not found.explanations:
        found = replace(found, named=layers.sentence)
    # Where each update begins anew, nothing grows.
    both = "" if followed_updates(run, other) else shared(run, other)
    grown = "" if isinstance(both, str) else growth(both[0].run, both[1].run, unit_of(run, other))
    return Explanation(found, SENTENCES, grown, layers)


def _why_untried(location: Location, untried: str) -> str:
    """Say why no mistake was tried at a place.

    ``untried`` says why no case was at hand, and is empty if the runs name no case.
    """
    if not location.finite:
        return "what parts is not finite, and nothing that follows from it was replayed"
    if location.phase is Phase.BATCH:
        return "the runs take other rows: give both one order"
    if location.phase is Phase.STATE and location.check is not None and (location.epoch, location.batch) == (1, 0):
        return "the runs do not begin with the same parameters: give both the same"
    if location.phase is Phase.UNRECORDED:
        return (
            f"no mistake could be replayed, because {untried or 'too little is recorded and these runs are of no case'}"
        )
    if location.check is None:
        return "the same parameters are to be trained in both"
    a_case = f"and {untried}" if untried else "which these runs are not of"
    back = ""
    if location.phase is Phase.GRADIENT and Phase.LOSS in location.agreed:
        back = "; the loss agrees, so the way back differs, as where one run stops a gradient (detach, stop_gradient)"
    return f"recordings do not tell mistakes in a model apart: those are replayed on a case, {a_case}{back}"


def _command(run: Trajectory) -> str:
    case, data, seed = named(str(run.meta.get("case", "CASE")))
    what = f"--impl {run.meta.get('implementation', 'NAME')} --dtype {run.meta['dtype']}"
    what += f" --data {data}" if data else ""
    return f"'parity run {case} {what}" if seed is None else f"'parity sweep {case} {what} --seeds 1 --from {seed}"


def _placed(walked: Location | None, run: Trajectory, other: Trajectory, judgement: Judgement, deeper: str) -> Location:
    """Take the place that a walk found, or that of the judgement if there was no walk or nothing was found."""
    if walked is None:
        return _where_judged(run, other, judgement, deeper)
    if walked.phase is Phase.STATE and walked.check is None:
        judged = _where_judged(run, other, judgement, deeper)
        return replace(judged, agreed=walked.agreed, note=walked.note)
    return walked


@np.errstate(all="ignore")  # a recording may hold any numbers
def _where_judged(run: Trajectory, other: Trajectory, judgement: Judgement, deeper: str) -> Location:
    """Make a place of a judgement, which knows an epoch but no phase."""
    name, epoch, difference = judgement.parameter, judgement.epoch, judgement.difference
    assert name is not None
    assert epoch is not None
    assert difference is not None
    assert judgement.tolerance is not None
    batch, params = 0, {}
    if name == "loss":
        got, wanted = run.loss[epoch - 1], other.loss[epoch - 1]
        batch = int(np.argmax(~(np.abs(got.astype(np.float64) - wanted) <= judgement.tolerance)))
    else:
        place = int(np.searchsorted(run.epochs, epoch))
        its = int(np.searchsorted(other.epochs, epoch))
        params = {key: values[its] for key, values in other.params.items()}
        got, wanted = run.params[name][place], params[name]
    floors = FACTOR * difference.absolute / judgement.tolerance if judgement.tolerance else np.inf
    check = Check(tensor=name, share=floors / FACTOR, floors=floors, worst=difference, got=got, wanted=wanted)
    note = f"losses and snapshots alone are recorded: {deeper} would tell prediction, loss, gradient and update apart"
    unit = unit_of(run, other)
    return Location(
        phase=Phase.UNRECORDED, epoch=epoch, batch=batch, parts=(check,), params=params, note=note, unit=unit
    )


def _diagnosed(
    replays: Replays,
    run: Trajectory,
    location: Location,
    *,
    dtype: str,
    floor: Floor,
    params: bool,
    seconds: float,
    on_step: Callable[[], None] = lambda: None,
) -> Explanation:
    diagnosis = diagnose(run, location, replays, floor, dtype, params, seconds, on_step)
    right = replays.right(diagnosis.epochs)
    # Later than the replays reach, rounding may have grown as large as the mistake's own difference.
    grown = growth(run.until(diagnosis.epochs), right.until(diagnosis.epochs))
    return Explanation(diagnosis, {mistake.name: mistake.sentence for mistake in replays.mistakes}, grown)
