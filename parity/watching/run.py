"""Record a run that an adapter watches, with its noise floor measured beside it."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from parity.judging.floors.floor import CALMEST, FLOOR, calmest_of, floor_of, mark_of_run, save
from parity.judging.moments import UPDATE
from parity.layout import Layout
from parity.recorder import Recorder
from parity.recording.reader import read
from parity.recording.sketch import digest, sketch
from parity.recording.tensors import as_array
from parity.typing import Params
from parity.watching.follow import Lead
from parity.watching.seen import Adapter, Condition, Skips, Tensors, Update
from parity.watching.shadow import Shadow

DEEP = 20
"""Of so many first updates everything is recorded, unless it is said otherwise."""
WAITING = 256
"""So many losses may wait on their device until they are recorded."""
KEEP = ("values", "sketch", "hash")


class Watched:
    """A run that is watched, as a context manager. ``parity.watch`` makes one, and says what its arguments are."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        adapter: Adapter,
        *,
        deep: int | None,
        shadows: int,
        every: int | None = None,
        keep: str = "values",
        layout: Layout | None = None,
        follow: str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value, least in (("every", 1 if every is None else every, 1), ("shadows", shadows, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} is an integer from {least} on, not {value!r:.80}")
        if keep not in KEEP:
            raise ValueError(f"what is kept of layers is 'values', 'sketch' or 'hash', not {keep!r:.80}")
        self.folder, self._adapter, self._every, self._keep = Path(folder), adapter, every, keep
        self._lead = None if follow is None else Lead(follow, adapter, layout)
        deep = (DEEP if self._lead is None else len(self._lead)) if deep is None else deep
        self._followed = 0 if self._lead is None else min(deep, len(self._lead))
        # What an adapter gives is its own: nobody changes it later.
        self._recorder = Recorder(
            folder, adapter.dtype, implementation=adapter.framework, layout=layout, deep=deep, copied=False
        )
        self._shadows = [Shadow(adapter, number, self._canonical) for number in range(shadows)]
        self._named = None if layout is None else {slot.framework for slot in layout}
        self._left_out: set[str] = set()
        self._deep, self._updates, self._last = deep, 0, 0
        self._closed_over: list[Update] | None = None
        self._waiting: list[tuple[Any, Any]] = []
        self._random: dict[str, str] = {}

    def __enter__(self) -> Watched:
        self._adapter.attach(self._told, lambda: self._updates < self._deep)
        try:
            drawn = self._adapter.drawing()
            self._random = {} if drawn is None else {"random": hashlib.sha256(drawn).hexdigest()}
            self._follow()
            for shadow in self._shadows:
                shadow.begin()
            self._snapshot()
        except BaseException:
            self._adapter.detach()
            self._recorder.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                self._catch_up()
                if kind is None and self._last != self._updates:
                    self._snapshot()
            finally:
                self._adapter.detach()
            if kind is None:
                self._describe()
        except BaseException:
            self._recorder.__exit__(*sys.exc_info())
            raise
        self._recorder.__exit__(kind, error, trace)
        if kind is None and not self._updates:
            said = f"no update was seen, so {self.folder} holds the initial state alone"
            warnings.warn(f"{said}: {self._adapter.usage}", stacklevel=2)
        if kind is None and self._shadows and self._updates:
            run = read(self.folder)
            strayed, dtype = [shadow.strays() for shadow in self._shadows], self._adapter.dtype
            floors = {dtype: floor_of(strayed, run, dtype), CALMEST: calmest_of(strayed, run, dtype)}
            measured = {name: floor for name, floor in floors.items() if floor is not None}
            save(measured, self.folder / FLOOR, mark_of_run(run))

    def _describe(self) -> None:
        """Say in the recording what the adapter has seen beside numbers."""
        layers = [asdict(layer) for layer in self._adapter.layers()]
        said, buffers = self._adapter.describe(), self._adapter.buffers()
        if self._lead is not None:
            said |= self._lead.said(min(self._updates, self._followed))
            said["notes"] = [*said.get("notes", []), *self._lead.notes]
        if self._left_out:
            note = f"no slot of the layout names {', '.join(sorted(self._left_out))}: not recorded"
            said["notes"] = [*said.get("notes", []), note]
        self._recorder.describe(**said, **self._random, unit=UPDATE, keep=self._keep, buffers=buffers, layers=layers)

    def step(self, function: Callable[..., Any], /, *arguments: Any, rows: Any = None, **named: Any) -> Any:
        """Make one update, and the same in every shadow.

        Args:
            function: Of torch, a closure that computes the loss of the batch and returns it, alone, first in a tuple or
                as a mapping's ``loss``. It may also do what comes after, such as the backward pass, clipping, or the
                update itself; what it leaves undone is done here. It is called once more for each shadow: it must
                change nothing but the model, the optimizer and its gradient scaler, and draw random numbers from the
                framework, NumPy or Python alone. The batch comes from outside of it; schedulers, other optimizers and
                averages of the weights step outside. Of JAX, the pure function of an update, which
                takes the state and a batch and returns the new state and the loss.
            arguments: What the function is called with.
            rows: Integers (batch,), the indices of the batch's rows in the data, if they are known. The function is not
                called with them.
            named: What the function is called with by name, as ``sample_weight=weights``.

        Returns:
            What the function returned. An update that a gradient scaler skips is not recorded.

        Raises:
            ValueError: If the function did not make one update of what is watched, or if it changes more, as far as
                that is seen, when it is called again.
        """
        drawn = self._adapter.random() if self._shadows else None
        if 0 < self._updates < self._followed:
            for shadow in self._shadows:
                shadow.begin()
        made: list[Update] = []
        self._closed_over = made
        try:
            result = self._adapter.update(function, *arguments, **named)
        finally:
            self._closed_over = None
        if not made and isinstance(self._adapter, Skips) and self._adapter.skipped:
            return result
        if len(made) != 1:
            raise ValueError(
                f"step takes a function that makes one update of what is watched, and this one made {len(made)}"
            )
        after = self._after()
        apart = [shadow.follow(function, arguments, named, drawn, made[0], after) for shadow in self._shadows]
        self._record(made[0], rows, apart, after)
        return result

    def _follow(self) -> None:
        """Bring the run to where the followed run began the update that comes, if it is to follow it there."""
        if self._lead is not None and self._updates < self._followed:
            self._lead.go_to(self._updates)

    def _after(self) -> Condition | None:
        """The state after an update, if the run will not go on from there."""
        return self._adapter.condition() if self._updates < self._followed else None

    def _canonical(self, tensors: Tensors, what: str) -> Params:
        kept = {name: value for name, value in tensors.items() if name not in self._left_out}
        return self._recorder.canonical(kept, what)

    def _told(self, update: Update) -> None:
        """Take an update that was made by ``step``, which goes on with it, or by the loop itself."""
        if self._closed_over is not None:
            self._closed_over.append(update)
            return
        # Nobody can call it again, so no shadow can follow; and a floor of a part of the run would be none.
        self._shadows = []
        self._record(update, None, [], self._after())

    def _due(self, updates: int) -> bool:
        """Say whether a snapshot is taken after so many updates."""
        power = updates & (updates - 1) == 0
        return power or updates == self._deep or (self._every is not None and updates % self._every == 0)

    def _record(self, update: Update, rows: Any, apart: list[dict[str, float]], after: Condition | None) -> None:
        if update.before is None and self._updates > self._deep:
            # To ask a device for a number would wait for it, in every update.
            self._waiting.append((update.loss, rows))
            self._done()
            return
        self._catch_up()
        before = update.before
        names = dict.fromkeys(name for one in apart for name in one) if before else {}
        strays = {name: np.array([one[name] for one in apart if name in one]) for name in names}
        self._recorder.step(
            update.loss,
            rows=rows,
            inputs=update.inputs,
            prediction=update.prediction,
            gradients=update.gradients or None,
            unclipped=update.unclipped or None,
            params=self._recorded(before) if before else None,
            slots=before.slots if before else None,
            activations=self._kept(update.activations),
            activation_gradients=self._kept(update.activation_gradients),
            learning_rate=update.learning_rate,
            strays=strays,
            after=self._recorded(after) if after else None,
            after_slots=after.slots if after else None,
        )
        self._done()
        self._follow()

    def _done(self) -> None:
        """Count an update, and take the snapshot that is due."""
        self._updates += 1
        if self._due(self._updates) or len(self._waiting) >= WAITING:
            self._catch_up()
        if self._due(self._updates):
            self._snapshot()

    def _catch_up(self) -> None:
        """Record the updates that wait."""
        waiting, self._waiting = self._waiting, []
        for loss, rows in waiting:
            self._recorder.step(loss, rows=rows)

    def _snapshot(self) -> None:
        now = self._adapter.condition()
        self._recorder.snapshot(self._recorded(now), self._updates, slots=now.slots)
        self._last = self._updates
        for shadow in self._shadows:
            shadow.snapshot(now)

    def _recorded(self, condition: Condition) -> Tensors:
        """Leave out the buffers that no slot of the layout names. A parameter that none names is refused later."""
        if self._named is None:
            return condition.params
        self._left_out = set(self._adapter.buffers()) - self._named
        return {name: value for name, value in condition.params.items() if name not in self._left_out}

    def _kept(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._keep == "values":
            return tensors
        summed = sketch if self._keep == "sketch" else digest
        return {name: summed(as_array(value, copied=False)) for name, value in tensors.items()}
