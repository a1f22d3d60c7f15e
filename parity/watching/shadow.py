"""A run with stirred roundings beside a watched run: how far rounding alone carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.judging.compare import distance
from parity.judging.updates.followed import by_gradients, of_gradients
from parity.recording.tensors import as_array
from parity.tolerance import least_floor
from parity.typing import Array, Params
from parity.watching.seen import Adapter, Condition, Update

Canonical = Callable[[Mapping[str, Any], str], Params]
"""Brings a framework's tensors to NumPy and to the layout of the recording: ``Recorder.canonical``."""


class Shadow:
    """Makes every update of a watched run once more, from a state of its own whose last places were moved.

    Beside what the state holds, the inputs are moved in every update, and where the adapter can, what each layer gives
    and the gradients that come back through it: another framework rounds there too.
    """

    def __init__(self, adapter: Adapter, number: int, canonical: Canonical) -> None:
        self._adapter, self._number, self._canonical = adapter, number, canonical
        self._saved: Any = None
        self._updates = 0
        self._losses: list[float] = []
        self._params: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Begin where the run stands, one unit away in the last place of every number."""
        with self._adapter.aside(lambda update: None, self._seed()):
            self._adapter.stir()
            self._saved = self._adapter.saved()

    def follow(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        drawn: Any,
        update: Update,
        after: Condition | None = None,
    ) -> dict[str, float]:
        """Make an update that the run has just made.

        Args:
            function: Makes the update.
            arguments: What it is called with by position.
            named: What it is called with by name.
            drawn: Where the run's random numbers of this update came from.
            update: The run's own.
            after: The run's state after it, if the next update does not begin there.

        Returns:
            How far each tensor of the update is from the run's own, by its name in a recorded step. Of an update that
            is not seen deeply the loss alone.
        """
        found: list[Update] = []
        with self._adapter.aside(found.append, self._seed()):
            self._adapter.go_to(self._saved)
            self._adapter.draw_from(drawn)
            self._adapter.update(function, *arguments, **named)
            self._adapter.stir()
            self._saved = self._adapter.saved()
            mine = self._adapter.condition() if after is not None else None
        self._updates += 1
        apart = self._apart(found[-1], update)
        if after is not None and mine is not None and update.before is not None:
            apart |= self._apart_after(found[-1], update, mine, after)
        self._losses.append(apart["loss"])
        return apart

    def snapshot(self, run: Condition) -> None:
        """Keep how far the parameters are from the run's, where the run takes a snapshot of them."""
        with self._adapter.aside(lambda update: None):
            self._adapter.go_to(self._saved)
            mine = self._canonical(self._adapter.condition().params, "parameters")
        theirs = self._canonical(run.params, "parameters")
        for name, value in mine.items():
            self._params.setdefault(name, []).append(apart(value, theirs[name]))

    def strays(self) -> Params:
        """Give the distances of every loss (T,) and of each parameter at every snapshot (S,), float64."""
        return {"loss": np.array(self._losses)} | {name: np.array(far) for name, far in self._params.items()}

    def _seed(self) -> int:
        return self._number + 1_000_003 * self._updates

    def _apart(self, ours: Update, theirs: Update) -> dict[str, float]:
        found = {"loss": apart(as_array(ours.loss).reshape(()), as_array(theirs.loss).reshape(()))}
        if ours.before is None or theirs.before is None:
            return found
        slots = theirs.before.slots
        pairs = {
            "params/": (ours.before.params, theirs.before.params),
            "gradients/": (ours.gradients, theirs.gradients),
            **{f"slots/{slot}/": (ours.before.slots[slot], tensors) for slot, tensors in slots.items()},
        }
        for kind, both in pairs.items():
            mine, run = (self._canonical(tensors, kind) for tensors in both)
            found |= {f"{kind}{name}": apart(mine[name], run[name]) for name in mine if name in run}
        # Layers keep their own names, and shapes are the framework's.
        own = {
            "activations/": (ours.activations, theirs.activations),
            "activation_gradients/": (ours.activation_gradients, theirs.activation_gradients),
        }
        for kind, (layers, others) in own.items():
            both_have = [name for name in layers if name in others]
            found |= {f"{kind}{name}": apart(as_array(layers[name]), as_array(others[name])) for name in both_have}
        if ours.prediction is not None and theirs.prediction is not None:
            found["prediction"] = apart(as_array(ours.prediction), as_array(theirs.prediction))
        return found

    def _apart_after(self, ours: Update, theirs: Update, mine: Condition, run: Condition) -> dict[str, float]:
        """Measure how far the state after an update strays, beyond what the gradients' straying makes of it."""
        assert theirs.before is not None
        one, other = (self._canonical(update.gradients, "gradients") for update in (ours, theirs))
        largest = max((float(np.max(np.abs(value), initial=0.0)) for value in other.values()), default=0.0)
        least = float(least_floor(largest, self._adapter.dtype))
        groups = {"params/": (mine.params, run.params, theirs.before.params)}
        for slot, tensors in run.slots.items():
            groups[f"slots/{slot}/"] = (mine.slots.get(slot, {}), tensors, theirs.before.slots.get(slot, {}))
        found = {}
        for kind, group in groups.items():
            stirred, kept, begun = (self._canonical(tensors, kind) for tensors in group)
            for name in stirred.keys() & kept.keys():
                moved = np.abs(kept[name].astype(np.float64) - begun.get(name, 0.0))
                pair = of_gradients(one, other, name) or of_gradients(other, other, name)
                slack = by_gradients(moved, pair, least, self._updates - 1, self._adapter.dtype)
                far = np.abs(stirred[name].astype(np.float64) - kept[name]) - slack
                found[f"after/{kind}{name}"] = float(np.max(far, initial=0.0))
        return found


def apart(ours: Array, theirs: Array) -> float:
    """Measure the largest distance between two tensors; infinite where one alone is not finite, or shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(distance(ours.reshape(1, -1), theirs.reshape(1, -1))[0])
