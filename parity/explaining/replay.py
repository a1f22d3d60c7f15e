"""Mistakes replayed on the reference, and how much of a difference each leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.judging.floors.floor import Floor, strays
from parity.judging.floors.noise import in_lockstep, stirring
from parity.mistakes.mistake import Mistake, Unplanted
from parity.recording.steps import Phase
from parity.spec import Case
from parity.tolerance import FACTOR
from parity.trainer import Build, Trainer, record
from parity.trajectory import Trajectory, gather

UNSTEADY, STIRRED = 3, 4
"""If no mistake explains a run, this many of the closest are stirred, this many times each: a mistake may amplify
rounding."""
INSIDE_OUT = (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT, Phase.UPDATE, Phase.STATE, Phase.BATCH)
"""The order in which two mistakes are planted around each other: a mistaken update would replace another one inside
it, while mistaken rows leave everything inside as it is."""


@dataclass(frozen=True)
class Replay:
    """One mistake, or two at once, replayed on the reference."""

    names: tuple[str, ...]
    phase: Phase
    """The phase of the first of them."""
    floors: float
    """The distance that is left between run and replay, in noise floors."""

    @property
    def explains(self) -> bool:
        """Tell whether the distance left is within the tolerance."""
        return self.floors <= FACTOR


class Replays:
    """Paths of the reference with mistakes, each recorded once, however many runs of the case are held against it.

    With ``lockstep`` each stretch of that many epochs begins from the state of a reference without any mistake, as in a
    run in lockstep.
    """

    def __init__(self, reference: Build, case: Case, mistakes: Sequence[Mistake], lockstep: int | None = None) -> None:
        self.reference, self.case, self.mistakes = reference, replace(case, metrics=()), mistakes
        self.lockstep = lockstep
        self._known = {mistake.name: mistake for mistake in mistakes}
        self._recorded: dict[tuple[tuple[str, ...], str], Trajectory] = {}
        self._unplanted: dict[tuple[tuple[str, ...], str], Unplanted] = {}

    def right(self, epochs: int) -> Trajectory:
        """Record the reference's own path over at least ``epochs``, in float64."""
        path = self.path((), epochs)
        assert not isinstance(path, Unplanted)  # nothing is planted
        return path

    def path(self, names: tuple[str, ...], epochs: int, dtype: str = "float64") -> Trajectory | Unplanted:
        """Record the path with these mistakes over at least ``epochs``, or say why there is none.

        ``names`` may be empty, or name several mistakes at once. A path that was recorded before and is longer is
        returned whole.
        """
        key = names, dtype
        if key in self._unplanted:
            return self._unplanted[key]
        if key not in self._recorded or len(self._recorded[key].loss) < epochs:
            trainer = self._planted(names, dtype)
            if isinstance(trainer, Unplanted):
                self._unplanted[key] = trainer
                return trainer
            with np.errstate(all="ignore"):
                self._recorded[key] = self._run(trainer, epochs)
        return self._recorded[key]

    def floor(self, names: tuple[str, ...], epochs: int, dtype: str, floor: Floor) -> Floor:
        """Widen a noise floor to what the path with these mistakes strays by rounding alone."""
        path = self.path(names, epochs)
        assert not isinstance(path, Unplanted)  # or nobody asks how steady it is
        path = path.until(epochs)
        floor = floor.until(epochs, len(path.epochs))
        loss, params = floor.loss.ravel(), dict(floor.params)
        for seed in range(STIRRED):
            trainer = self._planted(names, dtype)
            if isinstance(trainer, Unplanted):  # there is no such mistake in a dtype as coarse as this
                break
            unsteady = stirring(trainer, np.random.default_rng(seed), self.case.schedule.ordered, dtype)
            with np.errstate(all="ignore"):
                found = strays(self._run(unsteady, epochs), path)
            loss = np.fmax(loss, np.maximum.accumulate(found.pop("loss")))
            params = {name: np.fmax(params[name], np.maximum.accumulate(values)) for name, values in found.items()}
        return Floor(loss.reshape(floor.loss.shape), params)

    def _run(self, trainer: Trainer, epochs: int) -> Trajectory:
        if self.lockstep is not None:
            beside = self.reference(self.case, "float64", "cpu")
            trainer = in_lockstep(trainer, beside, self.case, self.lockstep).trainer
        return gather(record(trainer, self.case, epochs))

    def unplanted(self, names: tuple[str, ...], dtype: str) -> Unplanted | None:
        """Say why a run of a dtype cannot have these mistakes; None if it can. Float32 layers are none in float32."""
        trainer = self._planted(names, dtype)
        return trainer if isinstance(trainer, Unplanted) else None

    def _planted(self, names: tuple[str, ...], dtype: str) -> Trainer | Unplanted:
        build = self.reference
        if not names:
            return build(self.case, dtype, "cpu")
        *inner, outer = sorted((self._known[name] for name in names), key=lambda known: INSIDE_OUT.index(known.phase))
        for mistake in inner:
            build = _planted(mistake, build)
        return outer.plant(build, self.case, dtype, "cpu")


def _planted(mistake: Mistake, reference: Build) -> Build:
    """Make a build of one, which leaves the reference as it is where the mistake cannot be planted."""

    def build(case: Case, dtype: str, device: str) -> Trainer:
        trainer = mistake.plant(reference, case, dtype, device)
        return reference(case, dtype, device) if isinstance(trainer, Unplanted) else trainer

    return build
