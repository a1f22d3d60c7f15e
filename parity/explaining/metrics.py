"""Name a failure by a metric alone: every loss and every parameter agrees, and what is counted of them does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.explaining.diagnose import Diagnosis
from parity.explaining.location import Location
from parity.judging.floors.floor import Floor
from parity.judging.moments import unit_of
from parity.judging.verdict import METRICS, Judgement, judge
from parity.judging.witness import HELD_OUT, Check, Witness, held
from parity.recording.steps import Phase
from parity.suite import Entry, Implementation
from parity.tolerance import FACTOR
from parity.trainer import Trainer
from parity.trajectory import Trajectory


def metric_alone(judgement: Judgement) -> str:
    """The metric by which alone a run failed; "" if a loss or a parameter left its tolerance too, at any epoch."""
    name = judgement.parameter or ""
    if not name.startswith(METRICS):
        return ""
    others = (
        evidence.share(other)
        for evidence in judgement.evidence
        for other in evidence.asserted
        if not other.startswith(METRICS)
    )
    return "" if any((share > 1).any() for share in others) else name.removeprefix(METRICS)


def recorded_metric(name: str, judgement: Judgement, run: Trajectory, other: Trajectory) -> Diagnosis:
    """Say what two recordings tell of the metric by which alone they differ."""
    why = (
        f"metric {name} alone differs: losses and parameters agree, so the rows that it is taken of are predicted "
        "otherwise, or it is counted otherwise"
    )
    return Diagnosis(location=_where(judgement, run, other), pattern="", named=why)


def explain_metric(
    entry: Entry,
    implementation: Trainer,
    reference: Implementation,
    run: Trajectory,
    other: Trajectory,
    *,
    name: str,
    dtype: str,
    floor: Floor,
) -> Diagnosis:
    """Say whether the rows of a metric are predicted otherwise than the reference predicts them, or counted otherwise.

    Args:
        entry: The case.
        implementation: The trainer that made the run, newly built.
        reference: The implementation that the run is held against.
        run: The run that failed by the metric alone.
        other: The reference's run.
        name: The metric.
        dtype: The run's.
        floor: The run's noise floor.

    Returns:
        The place and what was found there.
    """
    judgement = judge(run, other, floor, metrics=True)
    location = _where(judgement, run, other)
    (metric,) = (one for one in entry.case.metrics if one.name == name)
    place = int(np.searchsorted(run.epochs, location.epoch))
    params = {key: np.asarray(values[place]) for key, values in run.params.items()}
    implementation.load(replace(implementation.export(), params=params))
    witness = Witness(reference.build, entry.case, dtype)
    wide = {key: value.astype(np.float64) for key, value in params.items()}
    state = replace(witness.exact.export(), params=wide)
    x, _ = entry.case.data().split(metric.split)
    if metric.split == "train":
        (check,) = held({"prediction": implementation.predict(x)}, witness.prediction(state, np.arange(len(x))))
    else:
        (check,) = held({HELD_OUT: implementation.predict(x)}, witness.held_out_prediction(state))
    why = f"metric {name} alone differs: "
    if check.agrees:
        why += "the predictions agree, so how it is counted does not"
    else:
        row = "" if check.worst is None else f", row {check.worst.index[0]} by {check.worst.absolute:.3g}"
        why += f"losses and parameters agree, and the {metric.split} rows are predicted otherwise{row}"
    return Diagnosis(location=location, pattern="", named=why)


def _where(judgement: Judgement, run: Trajectory, other: Trajectory) -> Location:
    """The place of a metric: an epoch, and no phase of a step."""
    assert judgement.parameter is not None
    assert judgement.epoch is not None
    assert judgement.difference is not None
    assert judgement.tolerance is not None
    place = int(np.searchsorted(run.epochs, judgement.epoch))
    name = judgement.parameter.removeprefix(METRICS)
    got, wanted = (np.asarray(of.metrics[name][place]) for of in (run, other))
    allowed, far = judgement.tolerance, judgement.difference.absolute
    floors = FACTOR * far / allowed if allowed else np.inf
    check = Check(
        tensor=judgement.parameter,
        share=floors / FACTOR,
        floors=floors,
        worst=judgement.difference,
        got=got,
        wanted=wanted,
    )
    unit = unit_of(run, other)
    return Location(phase=Phase.UNRECORDED, epoch=judgement.epoch, batch=0, parts=(check,), unit=unit)
