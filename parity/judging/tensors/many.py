"""Many runs of two sides in one layout: what a user's map says of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from parity.judging.tensors.aligned import Common, aligned, layouts
from parity.judging.tensors.correspondence import Correspondence, Pairing, first_few, used
from parity.layout import Slot
from parity.trajectory import Trajectory, TrajectoryError

Runs = Sequence[Trajectory]


def in_one_layout(ours: Runs, theirs: Runs, given: Sequence[Pairing]) -> tuple[Runs, Runs, tuple[str, ...]]:
    """Bring the runs of two sides to the layout that a map gives them. Tensors are not read.

    Args:
        ours: The first side's runs, at least one.
        theirs: The second side's, likewise.
        given: The map's pairings, of which ``ours`` are the first side's; without any the runs stay as they are.

    Returns:
        Both sides' runs with the tensors that they have in common: those of the map, and others that both sides call
        the same; and a sentence for what was left out.

    Raises:
        TrajectoryError: If a run lacks a tensor that the map names, or the map does not fit its shapes.

    Examples:
        >>> import numpy as np
        >>> from parity.judging.tensors.correspondence import How
        >>> def run(**params):
        ...     return Trajectory({}, np.arange(1), np.zeros((1, 1)), params, {})
        >>> given = [Pairing((Slot("kernel", "w"),), (Slot("kernel", "weight", axes=(1, 0)),), How.MAP)]
        >>> (one,), (other,), notes = in_one_layout(
        ...     [run(w=np.zeros((1, 2, 3)))], [run(weight=np.zeros((1, 3, 2)), mask=np.zeros((1, 4)))], given)
        >>> one.params["kernel"].shape == other.params["kernel"].shape, notes
        (True, ('1 tensors were left out, as mask: the map does not name them',))
    """
    if not given:
        return ours, theirs, ()
    named = used(given)
    _check(ours, theirs, named)
    layout = layouts(Correspondence(tuple(given)))
    taken = {common.name for common in layout[0]}
    own = [
        set.intersection(*(set(run.params) for run in side)) - names
        for side, names in zip((ours, theirs), named, strict=True)
    ]
    same = sorted((own[0] & own[1]) - taken)
    alike = [Common(name, (Slot(name, name),)) for name in same]
    sides = [[aligned(run, [*side, *alike]) for run in runs] for runs, side in zip((ours, theirs), layout, strict=True)]
    left = sorted(
        {
            name
            for runs, names in zip((ours, theirs), named, strict=True)
            for run in runs
            for name in run.params.keys() - names
        }
        - set(same)
    )
    note = f"{len(left)} tensors were left out, as {first_few(left)}: the map does not name them"
    return sides[0], sides[1], (note,) if left else ()


def _check(ours: Runs, theirs: Runs, named: tuple[set[str], set[str]]) -> None:
    """Refuse a map that names what a run does not have: TrajectoryError."""
    there = [set.intersection(*(set(run.params) for run in side)) for side in (ours, theirs)]
    missing = [names - has for names, has in zip(named, there, strict=True)]
    if not any(missing):
        return
    if named[0] <= there[1] and named[1] <= there[0]:
        raise TrajectoryError(
            "the map has the sides the other way round: write it with 'parity match A B --json FILE', A one of --seeds"
        )
    which, names = next((which, names) for which, names in zip(("--seeds", "--against"), missing, strict=True) if names)
    raise TrajectoryError(
        f"a run of {which} lacks {first_few(sorted(names))}, which the map names: is it a map of these runs?"
    )
