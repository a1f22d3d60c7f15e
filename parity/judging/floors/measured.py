"""The noise floors that two runs are held to: measured beside them, or by repetitions, or else the least one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from parity.judging.floors.floor import Floor, Source, calmest_of, floor_of, least_floor, strays
from parity.judging.floors.known import Known
from parity.judging.floors.repetition import Repetition
from parity.judging.shared import Part
from parity.judging.updates.zeros import without
from parity.recording.limits import Budget
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trajectory import Trajectory
from parity.typing import Array


def floors_of(
    sides: Sequence[tuple[Path, Trajectory]],
    parts: Sequence[Part],
    noise: Sequence[Repetition],
    recorded: Sequence[tuple[Floor | None, list[str]]],
    zeros: Mapping[str, Array],
) -> tuple[list[Floor], list[str]]:
    """Find the noise floor of each run's part, and say where it comes from.

    ``recorded`` is what ``recorded_floor_of`` gives of each. Of the values that rounding alone moves repetitions stray
    as they like: they are left out.
    """
    floors, said = [], []
    for (folder, run), part, (floor, notes) in zip(sides, parts, recorded, strict=True):
        own = [
            parts[one.base is sides[1][1]].strayed(
                strays(without(one.run, one.base, zeros), one.base) if zeros else one.distances, one.base
            )
            for one in noise
            if one.run.meta["dtype"] == run.meta["dtype"]
        ]
        if floor is not None:
            floor = part.floor(floor.carried(run) if run.meta.get("lockstep") else floor)
        elif own:
            notes = [f"the noise floor of {folder} is as far as repetitions strayed, {len(own)} of them"]
            calmest = calmest_of(own, part.run, run.meta["dtype"])
            floor = floor_of(own, part.run, run.meta["dtype"])
            floor = replace(floor, source=Source.REPETITIONS, calmest=calmest)
        floors.append(floor or least_floor(part.run))
        said += notes
    return floors, said


def recorded_floor_of(
    folder: Path, run: Trajectory, known: Known, budget: Budget | None = None
) -> tuple[Floor | None, list[str]]:
    """Find the noise floor that was recorded of a run, and say where it comes from."""
    floor = known.floor(folder, run, budget)
    if floor is None:
        return None, [
            f"{folder} has no noise floor beside it: only {FACTOR * ROUNDINGS} roundings of each tensor's largest "
            "value are allowed"
        ]
    where = {Source.SUITE: "is the suite's own", Source.SHADOWS: "was measured while the run was watched"}
    what = where.get(floor.source or Source.BESIDE, "lies beside it and came with it")
    return floor, [f"the noise floor of {folder} {what}"]
