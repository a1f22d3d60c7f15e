"""Running statistics that one loop hands over after its forward pass, which has moved them, and the other before.

The statistics of an update of the one are those of the next update of the other. Both loops train alike, so that the
statistics are held against those of the same moment, and what is to be changed in which loop is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity.judging.tensors.correspondence import first_few
from parity.recording.steps import steps_of
from parity.trajectory import Trajectory
from parity.typing import Array


class Earlier(Mapping[str, Array]):
    """What a deep recording holds, with some tensors of each update as they were in the update before.

    Args:
        steps: The deep recording.
        begun: These tensors as they were before the first update, by name.

    >>> steps = {"0/params/mean": np.array(1.0), "1/params/mean": np.array(2.0), "1/loss": np.array(3.0)}
    >>> earlier = Earlier(steps, {"mean": np.array(0.0)})
    >>> [float(earlier[name]) for name in earlier]
    [0.0, 1.0, 3.0]
    """

    def __init__(self, steps: Mapping[str, Array], begun: Mapping[str, Array]) -> None:
        self._steps, self._begun = steps, begun

    def __getitem__(self, name: str) -> Array:
        number, _, rest = name.partition("/")
        tensor = rest.removeprefix("params/")
        if rest == tensor or tensor not in self._begun:
            return self._steps[name]
        return self._steps[f"{int(number) - 1}/{rest}"] if int(number) else self._begun[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)


def in_step(ours: Trajectory, theirs: Trajectory) -> tuple[Trajectory, Trajectory, list[str]]:
    """Bring statistics that one run alone handed over late to the moment at which the other did.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against.

    Returns:
        Both runs, and a sentence if one of them was changed.
    """
    late = [handed_late(run) for run in (ours, theirs)]
    names = [late[side] - late[1 - side] for side in (0, 1)]
    found, said = [], []
    for run, moved, which, other in zip((ours, theirs), names, ("first", "second"), ("second", "first"), strict=True):
        if not moved:
            found.append(run)
            continue
        begun = {name: np.asarray(run.params[name][0]) for name in moved}
        found.append(replace(run, steps=Earlier(run.steps, begun)))
        said.append(
            f"the {which} run hands {first_few(sorted(moved))} to Recorder.step after the forward pass, which has "
            f"moved {'it' if len(moved) == 1 else 'them'} by one update already, and the {other} run before it: "
            "compared are those of the same moment; copy them before the forward pass to record both runs alike"
        )
    return found[0], found[1], said


@np.errstate(all="ignore")  # a recording may hold any numbers
def handed_late(run: Trajectory) -> set[str]:
    """Name what is not trained and is, before the first update, not what it is in the snapshot before training.

    Args:
        run: A run that was recorded deeply.

    Returns:
        The names of such parameters; none of a run that recorded no update deeply.
    """
    steps = steps_of(run)
    if not steps or not len(run.epochs) or run.epochs[0]:
        return set()
    first = steps[0]
    return {
        name
        for name, values in first.before.params.items()
        if name in run.params
        and name not in first.gradients
        and not np.array_equal(values, np.asarray(run.params[name][0]), equal_nan=values.dtype.kind == "f")
    }
