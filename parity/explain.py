"""A failed run explained: where it parts from the reference, what that looks like, and which mistake replays it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parity.compare import Difference
from parity.diagnose import Diagnosis, Replays, diagnose
from parity.hypotheses import hypotheses_for
from parity.locate import Location, Witness, locate
from parity.suite import Entry, Implementation
from parity.tolerance import Floor
from parity.trainer import Trainer
from parity.trajectory import Trajectory
from parity.verdict import Judgement, Verdict


@dataclass(frozen=True)
class Explanation:
    """A diagnosis, and the sentences of the mistakes that it names."""

    diagnosis: Diagnosis
    sentences: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain data: what travels from a worker, and what ``--json`` writes."""
        location, check = self.diagnosis.location, self.diagnosis.location.check
        sentences = dict(self.sentences)
        return {
            "sentence": self.diagnosis.sentence(sentences),
            "why": self.diagnosis.why(sentences),
            "phase": location.phase,
            "epoch": location.epoch,
            "batch": location.batch,
            "parameter": check.tensor if check else None,
            "floors": check.floors if check else None,
            "difference": _plain(check.worst) if check and check.worst else None,
            "parts": [[part.tensor, part.floors] for part in location.parts],
            "agreed": location.agreed,
            "note": location.note,
            "pattern": self.diagnosis.pattern,
            "untouched": self.diagnosis.untouched,
            "epochs": self.diagnosis.epochs,
            "unfinished": self.diagnosis.unfinished,
            "replays": [
                {"names": list(replay.names), "phase": replay.phase, "floors": replay.floors}
                for replay in self.diagnosis.replays
            ],
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
    judgement: Judgement,
    dtype: str,
    floor: Floor,
    on_step: Callable[[], None] = lambda: None,
    replays: Replays | None = None,
    seconds: float = 45.0,
) -> Explanation:
    """Explain a run of ``implementation`` that ``judgement`` found to differ; framework and reference are at hand.

    ``replays`` are those that other runs of the same case have left. No replay begins after ``seconds``.
    """
    case = replace(entry.case, metrics=())
    witness = Witness(reference.build, case, dtype)

    def walk(start: int, until: int) -> Location:
        return locate(implementation, witness, reference.build(case, "float64", "cpu"), start, until)

    # A mistake in every step shows in the first, long before it has grown beyond the tolerance of a run.
    location = walk(0, 1)
    last_agreed = _last_agreed(run, judgement)
    if location.phase == "state" and location.check is None and (judgement.epoch or 0) > 1:
        location = walk(max(1, last_agreed), last_agreed + case.every)
    return _diagnosed(entry, reference, run, location, dtype, floor, on_step, replays, seconds)


def explain_recorded(
    entry: Entry, reference: Implementation, run: Trajectory, judgement: Judgement, dtype: str, floor: Floor
) -> Explanation:
    """Explain a recorded run alone, as far as its recording reaches: the place is an epoch, the phase is not known."""
    note = "the recording holds losses and parameters alone: gradients recorded beside them would decide the phase"
    location = Location("epoch", judgement.epoch or 0, 0, None, {}, (), {}, {}, note)
    return _diagnosed(entry, reference, run, location, dtype, floor, lambda: None)


def _diagnosed(
    entry: Entry,
    reference: Implementation,
    run: Trajectory,
    location: Location,
    dtype: str,
    floor: Floor,
    on_step: Callable[[], None],
    replays: Replays | None = None,
    seconds: float = 45.0,
) -> Explanation:
    replays = replays or Replays(reference.build, entry.case, hypotheses_for(entry))
    params = dtype == "float64" or entry.case.float32_parameters == "free"
    diagnosis = diagnose(run, location, replays, floor, dtype, params, seconds, on_step)
    return Explanation(diagnosis, {hypothesis.name: hypothesis.sentence for hypothesis in replays.hypotheses})


def _last_agreed(run: Trajectory, judgement: Judgement) -> int:
    """The epoch of the last snapshot before the one where the run left its tolerance."""
    if judgement.verdict is not Verdict.FAIL or not judgement.epoch:
        return 0
    before = [int(epoch) for epoch in run.epochs if epoch < judgement.epoch]
    return before[-1] if before else 0
