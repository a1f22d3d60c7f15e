"""Begin each update of a watched run where another run's did, from what that run recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.dtypes import rounded
from parity.judging.compare import distance
from parity.judging.floors.floor import mark_of_run
from parity.layout import Layout, to_framework
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.recording.tensors import as_array
from parity.typing import Params
from parity.watching.seen import Adapter, Follows


class Lead:
    """The recorded states of the run that is followed.

    Args:
        folder: That run's recording.
        adapter: Looks into the run that follows.
        layout: Which of the following run's tensors is which canonical one; None if both runs name them alike.

    Raises:
        ValueError: If nothing is recorded deeply there, or if that run followed another itself.
        TrajectoryError: If it cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], adapter: Adapter, layout: Layout | None) -> None:
        if not isinstance(adapter, Follows):
            raise ValueError(f"nothing here can bring a run of {adapter.framework} to another run's state")
        self._folder, self._adapter, self._layout = Path(folder), adapter, layout
        run = read(folder)
        if "followed" in run.meta:
            raise ValueError(f"{folder} has followed another run itself: follow that one")
        self._steps = steps_of(run)
        if not self._steps:
            raise ValueError(f"{folder} has no update that was recorded deeply: record it with deep=20")
        self._run, self._notes = run, list[str]()

    def __len__(self) -> int:
        return len(self._steps)

    def said(self, updates: int) -> dict[str, Any]:
        """What the recording is to keep of the run that was followed in its first ``updates``."""
        return {"followed": {"steps": updates, "of": mark_of_run(self._run)}}

    @property
    def notes(self) -> list[str]:
        """What could not be followed, in sentences."""
        return self._notes

    def go_to(self, number: int) -> None:
        """Bring the run to the state in which the followed run began an update.

        Raises:
            ValueError: If a trained tensor is not in that run, or has another shape.
        """
        state, own = self._steps[number].before, self._adapter.condition()
        params = self._own(state.params)
        lacking = sorted(own.params.keys() - params.keys() - set(self._adapter.buffers()))
        if lacking:
            raise ValueError(f"{self._folder} has no {lacking[0]}: say with layout= which of its tensors that is")
        params = {name: value for name, value in params.items() if name in own.params}
        self._check("parameter", params, own.params)
        slots: dict[str, Params] = {}
        for slot in sorted({name.partition("/")[0] for name in state.slots}):
            of = {k.removeprefix(f"{slot}/"): v for k, v in state.slots.items() if k.startswith(f"{slot}/")}
            held = own.slots.get(slot, {})
            slots[slot] = {name: value for name, value in self._own(of).items() if name in held}
            self._check(f"slot {slot}", slots[slot], held)
        if number:
            self._note_slots(slots, own.slots)
        else:
            self._note_beginning(params, own.params)
            for slot, values in slots.items():
                self._note_beginning(values, own.slots.get(slot, {}), f"{slot} of ")
        self._adapter.load(params, slots)

    def _own(self, canonical: Params) -> Params:
        """Bring canonical tensors to the framework's names and axes, as far as the layout has them."""
        if self._layout is None:
            return canonical
        missing = {slot.framework for slot in self._layout if slot.canonical not in canonical}
        return to_framework([slot for slot in self._layout if slot.framework not in missing], canonical)

    def _check(self, what: str, values: Params, own: Mapping[str, Any]) -> None:
        for name, value in values.items():
            shape = tuple(own[name].shape)
            if value.shape != shape:
                raise ValueError(
                    f"{what} {name} is {shape} here and {value.shape} in {self._folder}: say with layout= "
                    "how it is turned"
                )

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _note_slots(self, slots: Mapping[str, Params], own: Mapping[str, Any]) -> None:
        for slot in sorted(own):
            if own[slot] and not slots.get(slot):
                self._note(f"{slot} was not followed, because {self._folder} has no slot of this name: it kept its own")
        for slot in sorted(slots):
            if not slots[slot]:
                self._note(f"{slot} was not followed, because this run has no slot of this name")

    def _note_beginning(self, values: Params, own: Mapping[str, Any], of: str = "") -> None:
        for name, value in values.items():
            theirs, mine = rounded(np.asarray(value), self._adapter.dtype), as_array(own[name])
            if not np.array_equal(theirs, mine, equal_nan=True):
                far = float(distance(np.asarray(mine)[None], np.asarray(theirs)[None])[0])
                self._note(f"initial {of}{name} differed from that of {self._folder}, by up to {far:.3g}")
