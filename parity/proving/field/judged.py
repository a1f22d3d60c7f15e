"""Judge a pair's recordings as ``parity diff`` and ``explain`` do, and hold what they say against what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.explaining.folders import explain_folders
from parity.judging.floors.known import NOTHING
from parity.judging.verdict import Verdict
from parity.proving.field.pair import Pair
from parity.suite import Entry

RIGHT, NARROWED, WRONG, UNEXPLAINED = "right", "narrowed", "wrong", "unexplained"
"""How a fault was named: by its name, as one of several that are listed, by another one's, not at all."""
ONE_OF_SEVERAL = "recordings do not tell which it is"
"""What an explanation says before it lists what it cannot tell apart."""


@dataclass(frozen=True)
class Found:
    """What was found of a pair in one dtype.

    Attributes:
        pair: The pair's name.
        dtype: The runs'.
        right: The verdict of the two right runs.
        ratio: The share of the tolerance that they used; None where nobody knows.
        reason: Why they do not pass; empty if they do.
        wrong: The verdict of the run with the fault.
        phase: The phase in which that was located; empty where it was not.
        place: The place in words.
        located: Whether phase, and layer or tensor, are right.
        named: One of ``right``, ``narrowed``, ``wrong`` and ``unexplained``.
        name: What the explanation names.
        words: The explanation in words.
    """

    pair: str
    dtype: str
    right: Verdict
    ratio: float | None
    reason: str
    wrong: Verdict
    phase: str
    place: str
    located: bool
    named: str
    name: str
    words: str


def judged(pair: Pair, dtype: str, first: Path, second: Path, third: Path) -> Found:
    """Judge a pair.

    Args:
        pair: The pair.
        dtype: Its runs'.
        first: The recording of the first run, which is right.
        second: That of the second run, which is right.
        third: That of the third run, which has the fault.

    Raises:
        TrajectoryError: A recording cannot be read.
    """
    control, _ = _explained(second, first)
    comparison, said = _explained(third, first)
    right, wrong = control.judgement, comparison.judgement
    named, name = how_named(pair, said)
    return Found(
        pair=pair.name,
        dtype=dtype,
        right=right.verdict,
        ratio=right.ratio,
        reason="" if right.verdict is Verdict.PASS else right.reason,
        wrong=wrong.verdict,
        phase=str(said["phase"]) if said else "",
        place=str(said["place"]) if said else "",
        located=said is not None and well_located(pair, said),
        named=named,
        name=name,
        words=f"{said['sentence']}; {said['note']}" if said else wrong.reason,
    )


def _explained(one: Path, other: Path) -> tuple[Any, dict[str, Any] | None]:
    return explain_folders(NOTHING, one, other, (), None, _never)


def _never(entry: Entry, second: bool) -> Mapping[str, Any]:
    raise AssertionError("these runs are of no case, so that none is replayed")


def well_located(pair: Pair, said: Mapping[str, Any]) -> bool:
    """Whether an explanation gives the right phase, and the right layer or tensor.

    A running statistic that a forward pass moves is seen in an update or in the state after it, as it was recorded.

    Args:
        pair: The pair.
        said: The explanation as plain data.
    """
    phases = {str(pair.phase)} | ({"update"} if pair.phase == "state" else set())
    if said["phase"] not in phases:
        return False
    layers = _partings(said)[:1]
    places = [said["place"], *(name for name, _ in said["parts"]), *(layer["sentence"] for layer in layers)]
    # A tensor that is trained in one run alone is no tensor of both, and is named as the cause.
    places += [said["why"]] if "no partner" in said["why"] else []
    places += [said["note"]] if "no gradient of" in said["note"] else []
    if pair.phase == "prediction" and not layers:
        return True  # a run that was recorded by hand has no layers
    return pair.says_where(" ".join(places))


def how_named(pair: Pair, said: Mapping[str, Any] | None) -> tuple[str, str]:
    """Say how an explanation names the fault of a pair, and what it names.

    Args:
        pair: The pair.
        said: The explanation as plain data; None if there is none.

    Returns:
        One of ``right``, ``narrowed``, ``wrong`` and ``unexplained``; and the names, joined.
    """
    if said is None:
        return UNEXPLAINED, ""
    claimed = set(said["named"])
    settings = ""
    for parting in _partings(said)[:1]:
        claimed |= set(parting["mistake"]["names"]) if parting["mistake"] else set()
        settings = "; ".join((*parting["differences"], parting["pattern"], parting["note"]))
    text = f"{said['why']}; {said['note']}; {settings}; {said['pattern']}"
    if claimed & set(pair.names):
        return RIGHT, ", ".join(sorted(claimed & set(pair.names)))
    if claimed:
        return (RIGHT if pair.says_why(text) else WRONG), ", ".join(sorted(claimed))
    if pair.says_why(text):
        return (NARROWED if ONE_OF_SEVERAL in text else RIGHT), ""
    return UNEXPLAINED, ""


def _partings(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(said["layer"]["partings"]) if said["layer"] else []
