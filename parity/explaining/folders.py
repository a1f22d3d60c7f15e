"""Explain two recorded runs from their folders alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from parity.explaining.explain import Explanation, explain_doubt, explain_pair, explain_recorded
from parity.explaining.layers.find import configuration_differences
from parity.explaining.location import Location
from parity.explaining.metrics import metric_alone, recorded_metric
from parity.explaining.pairs import in_words
from parity.explaining.updates.optimizers import departures_in_words
from parity.explaining.updates.sides import Side, optimizer_said
from parity.frameworks import known_framework
from parity.judging.diff import Comparison, are_runs, compare_folders, compare_runs, opened
from parity.judging.floors.known import Known
from parity.judging.floors.repetition import Repetition, repetitions
from parity.judging.shared import in_both
from parity.judging.tensors.aligned import InCommon, in_common
from parity.judging.tensors.correspondence import Correspondence
from parity.judging.updates.late import in_step
from parity.judging.verdict import Verdict
from parity.recording.artefacts import open_run
from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.recording.steps import Phase, steps_of, update_at
from parity.suite import Entry, Suite, SuiteError, named
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory, TrajectoryError

UNDECIDED = "the verdict is INCONCLUSIVE, and mistakes are replayed on the case of a run that fails"
SET_OTHERWISE = "layers are set otherwise"
"""What a note on settings begins with."""
TIED = "are they tied in one run alone?"
"""What the correspondence asks of tensors that begin alike."""
NAMED = 2
"""So many pairs of layers that differ in the same settings are named."""
Replay = Callable[[Entry, bool], Mapping[str, Any]]
"""Explains one of two runs on the reference of a case, as ``replayed`` does in its own process: the second one where
the flag is set. SuiteError where that reference cannot be had, TrajectoryError where the run is none of the case."""


def explain_folders(
    known: Known,
    a: Path,
    b: Path,
    noise: Sequence[Path],
    data: str | None,
    replay: Replay,
    accept: Sequence[str] = (),
    matching: Path | None = None,
) -> tuple[Comparison, dict[str, Any] | None]:
    """Judge trajectory ``a`` against ``b``, and explain the difference from the recordings alone.

    If the suite knows the case, and a noise floor lies beside the run, mistakes are replayed on the suite's reference.
    The run explained is ``a``, or ``b`` if ``a`` is the reference's own run.

    Args:
        known: The suite that may know the case.
        a: The folder of a run.
        b: The folder of another run.
        noise: The folders of repetitions, as ``parity.judging.diff.compare`` takes them.
        data: The file of runs on a user's own data.
        replay: Replays mistakes on the suite's reference. This process builds no model.
        accept: Names of known departures that may differ, likewise.
        matching: A file of pairings of tensors, as ``parity.judging.diff.compare`` takes it.

    Returns:
        The comparison, and the explanation as plain data; None instead of one if the runs do not differ. If the verdict
        is INCONCLUSIVE, the explanation says where single updates part by most, as far as both runs recorded some.

    Raises:
        TrajectoryError: A recording cannot be read, or the deep recordings do not fit each other or their case.
    """
    both = opened(a, b, noise, matching)
    run, other, repeated, matched = both.ours, both.theirs, both.noise, both.matched
    comparison = both.compare(known, accept)
    if comparison.judgement.verdict is Verdict.INCONCLUSIVE:
        return _doubtful(with_departures(comparison, run, other), run, other, repeated, matched)
    if comparison.judgement.verdict is not Verdict.FAIL:
        return _with_notes(comparison, run, other), None
    if metric := metric_alone(comparison.judgement):
        named = recorded_metric(metric, comparison.judgement, run, other)
        return comparison, Explanation(named, {}).as_json()
    suite = known.suite
    sides = [(a, run), (b, other)]
    if suite is not None and run.meta.get("implementation") == suite.reference != other.meta.get("implementation"):
        sides.reverse()
    untried = f"neither {a} nor {b} has a noise floor beside it: record them with 'parity run'"
    if held := [folder for folder, mine in sides if mine.meta.get("lockstep")]:
        # The replay of a free run does not explain a run that returns to the reference's states again and again.
        untried = f"{held[0]} is in lockstep and mistakes are replayed in free runs: explain the free run beside it"
        sides = []
    if suite is None:
        untried, sides = "no suite of cases is here", []
    found: dict[str, Any] | None = None
    try:
        for folder, mine in sides:
            floor = known.floor(folder, mine)
            try:
                assert suite is not None
                entry = _entry_of(suite, folder, mine, data)
            except SuiteError as error:
                untried = str(error)
                continue
            if floor is not None:
                try:
                    found = dict(replay(entry, folder == b))
                except SuiteError as error:
                    untried = str(error)
                    continue
                found["note"] = "; ".join(filter(None, (found["note"], f"what is explained is {folder}")))
                # If the reference without a mistake explains this run, the other run is the mistaken one.
                if found["untouched"] > FACTOR:
                    break
        return comparison, found or _explain_matched(a, run, b, other, comparison, untried, repeated, matched)
    except TrajectoryError:
        raise
    except ValueError as error:
        raise _unfit(a, b, error) from error


def _explain_matched(
    a: Path,
    run: Trajectory,
    b: Path,
    other: Trajectory,
    comparison: Comparison,
    untried: str,
    noise: Sequence[Repetition],
    matched: Correspondence | None,
) -> dict[str, Any]:
    """Explain two recorded runs without a reference, in the layouts in which their tensors are matched."""
    held = in_common(run, other, noise, matched, comparison.left_out)
    pairs = [(one.run, one.base) for one in held.noise]
    explained = explain_pair(*_in_step(held), comparison.judgement, untried, pairs, matched)
    if matched is not None and (lonely := _lonely(a, run, b, other, matched, explained)):
        diagnosis = explained.diagnosis
        told = diagnosis.explanations or diagnosis.named
        also = diagnosis.why(dict(explained.sentences)) if told else ""
        diagnosis = replace(diagnosis, named="; ".join(filter(None, (lonely, also))))
        if _later(diagnosis.location, run):
            there = _where_trained(diagnosis.location)
            diagnosis = replace(diagnosis, location=there, pattern="")
        explained = replace(explained, diagnosis=diagnosis)
    found = explained.as_json()
    found["matched"] = matched.as_json() if matched is not None else None
    if matched is not None and (pairing := matched.pairing_of(str(found["parameter"]))):
        names = " and ".join(f"{' + '.join(of)} of {folder}" for of, folder in zip(pairing.names, (a, b), strict=True))
        found["note"] = "; ".join(filter(None, (found["note"], f"it is {names}")))
    return found


def _in_step(held: InCommon) -> tuple[Trajectory, Trajectory]:
    """Cut two runs to what both hold, each of it at the same moment."""
    one, other, _ = in_step(*in_both(held.ours, held.theirs))
    return one, other


def _doubtful(
    comparison: Comparison,
    run: Trajectory,
    other: Trajectory,
    noise: Sequence[Repetition],
    matched: Correspondence | None,
) -> tuple[Comparison, dict[str, Any] | None]:
    """Say where single updates of two runs part by most, of which no verdict could be given."""
    held = in_common(run, other, noise, matched, comparison.left_out)
    try:
        pairs = [(one.run, one.base) for one in held.noise]
        found = explain_doubt(*_in_step(held), UNDECIDED, pairs, matched)
    except ValueError as error:
        said = f"no single updates were looked at, because the deep recordings do not fit each other: {error}"
        return replace(comparison, notes=(*comparison.notes, said)), None
    if found is None:
        return comparison, None
    return comparison, found.as_json() | {"matched": matched.as_json() if matched is not None else None}


def _lonely(
    a: Path, run: Trajectory, b: Path, other: Trajectory, matched: Correspondence, explained: Explanation
) -> str:
    """Say which tensor is trained in one run alone, if gradients or updates part, or a prediction after an update.

    What explains a gradient explains it without that tensor; an update may be the first that differs by a little more
    than rounding, where the tensor that is trained in one run alone shows in the next prediction.
    """
    diagnosis, said = explained.diagnosis, list[str]()
    location = diagnosis.location
    if not _later(location, run) and (diagnosis.named or location.phase not in (Phase.GRADIENT, Phase.UPDATE)):
        return ""
    if diagnosis.explanations and diagnosis.location.phase is Phase.GRADIENT:
        return ""
    check = diagnosis.location.check
    pairing = matched.pairing_of(check.tensor) if check is not None else None
    for side, (folder, mine, beside) in enumerate(((a, run, b), (b, other, a))):
        for name in matched.alone[side]:
            if name in matched.untrained[side]:
                continue
            begun = np.sort(np.asarray(mine.params[name][0]), None)
            partners = pairing.names[side] if pairing is not None else ()
            twin = next(
                (p for p in partners if np.array_equal(np.sort(np.asarray(mine.params[p][0]), None), begun)), ""
            )
            said.append(
                f"{name} of {folder} is trained, and has no partner in {beside}"
                + (f": it begins as {twin} does, which the other run may have tied to it" if twin else "")
            )
    tied = [line for line in matched.lines if TIED in line] if said and _later(location, run) else []
    return "; ".join((*tied, *said[:2]))


def _later(location: Location, run: Trajectory) -> bool:
    """Tell whether the prediction after the first update is what parts: all that both runs have agrees before it."""
    later = location.phase in (Phase.PREDICTION, Phase.LOSS)
    return later and update_at(run, location.epoch, location.batch) == 1


def _where_trained(location: Location) -> Location:
    """Give the first update, in which a tensor has a gradient in one run alone, as the place of what follows of it."""
    early = (Phase.STATE, Phase.BATCH, Phase.PREDICTION, Phase.LOSS)
    agreed = {phase: floors for phase, floors in location.agreed.items() if phase in early}
    others = (in_words(location), *location.others)
    return Location(
        phase=Phase.GRADIENT, epoch=1, batch=0, agreed=agreed, note=location.note, others=others, unit=location.unit
    )


def with_departures(comparison: Comparison, run: Trajectory, other: Trajectory) -> Comparison:
    """Add to a comparison which run does not follow the optimizer that it says itself, if the two agree all the same.

    Two runs that make one mistake agree, and so do runs whose loop has a schedule that nobody told.

    Args:
        comparison: The comparison.
        run: The first run.
        other: The second run.

    Returns:
        The comparison, with a note for each such run; as it is if it failed.
    """
    if comparison.judgement.verdict is Verdict.FAIL:
        return comparison
    said = []
    for which, folder, one in (("first", comparison.a, run), ("second", comparison.b, other)):
        optimizer = optimizer_said(one) if isinstance(one.meta.get("hyper_parameters"), dict) else None
        if optimizer is not None and one.steps:
            side = Side(which, one, steps_of(one), optimizer)
            said += [f"{folder}: {words}" for words in departures_in_words([side])]
    return replace(comparison, notes=(*comparison.notes, *said))


def with_settings(comparison: Comparison, run: Trajectory, other: Trajectory) -> Comparison:
    """Add to a comparison in which settings the layers of two runs differ, whatever the verdict.

    A small epsilon may differ within every tolerance. What the settings before any number say already is left out.
    """
    names = [{layer.name for layer in layers_of(one)} for one in (run, other)]
    frameworks = [known_framework(str(one.meta.get("implementation", ""))) for one in (run, other)]
    if frameworks[0] == frameworks[1] and names[0] == names[1]:
        return comparison
    try:
        said = _together(configuration_differences(run, other))
    except ValueError as error:
        said = [f"the layers were not held against each other, because their recordings do not fit: {error}"]
    return replace(comparison, notes=(*comparison.notes, *said))


def _together(differences: Sequence[str]) -> list[str]:
    """Say once of several pairs of layers that they differ in the same settings."""
    pairs: dict[str, list[str]] = {}
    for said in differences:
        pair, _, settings = said.rpartition(": ")
        pairs.setdefault(settings, []).append(pair)
    return [
        f"{SET_OTHERWISE}: {', '.join(of[:NAMED])}{f' and {len(of) - NAMED} more' if len(of) > NAMED else ''}: {how}"
        for how, of in pairs.items()
    ]


def diff_folders(
    a: Path,
    b: Path,
    noise: Sequence[Path],
    known: Known,
    accept: Sequence[str] = (),
    matching: Path | None = None,
) -> list[Comparison]:
    """Compare as ``parity.judging.diff.compare_folders`` does, and say of two runs which departs from its optimizer."""
    if are_runs(a, b):
        both = opened(a, b, noise, matching)
        return [_with_notes(both.compare(known, accept), both.ours, both.theirs)]
    pairs = compare_folders(a, b, noise, known, accept, matching)
    if len(pairs) > 1:
        return pairs
    return [_with_notes(one, open_run(one.a), open_run(one.b)) for one in pairs]


def _with_notes(comparison: Comparison, run: Trajectory, other: Trajectory) -> Comparison:
    """Add to a comparison what optimizers and layers say beside numbers that agree."""
    return with_settings(with_departures(comparison, run, other), run, other)


def replayed(
    known: Known, entry: Entry, a: Path, b: Path, noise: Sequence[Path] = (), second: bool = False
) -> dict[str, Any]:
    """Explain ``a``, or the ``second`` one, by the mistakes whose replay on the case's reference makes what it holds.

    ``noise`` as in ``explain_folders``. This process builds the reference. TrajectoryError where the run is none of the
    case.
    """
    run, other = read(a), read(b)
    judgement = compare_runs(a, run, b, other, repetitions(run, other, noise), known).judgement
    folder, mine, theirs = (b, other, run) if second else (a, run, other)
    floor = known.floor(folder, mine)
    assert known.suite is not None
    assert floor is not None
    reference = known.suite.implementation(entry, known.suite.reference)
    try:
        return explain_recorded(entry, reference, mine, theirs, judgement, floor).as_json()
    except TrajectoryError:
        raise
    except ValueError as error:
        raise _unfit(a, b, error) from error


def _unfit(a: Path, b: Path, error: ValueError) -> TrajectoryError:
    return TrajectoryError(f"{a} and {b}: the deep recordings do not fit each other or their case: {error}")


def _entry_of(suite: Suite, folder: Path, run: Trajectory, data: str | None) -> Entry:
    """Find the case that a run names, on the run's data; SuiteError says why the suite lacks it."""
    name, variant, seed = named(str(run.meta.get("case", "")))
    if not name:
        raise SuiteError(f"{folder} does not say which case of the suite {suite.package} it is")
    if name not in suite.entries:
        raise SuiteError(f"the suite {suite.package} has no case {name!r}")
    if variant and data is not None and Path(data).stem == variant:
        return suite.entry(name, data, seed)
    if variant and variant not in suite.entries[name].case.variants:
        raise SuiteError(f"the data {variant!r} of {folder} are not the suite's: name their file with --data")
    return suite.entry(name, variant, seed)
