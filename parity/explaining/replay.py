"""Mistakes replayed on the reference, and how much of a difference each leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.judging.floor import Floor, strays
from parity.judging.noise import in_lockstep, stirring
from parity.mistakes.mistake import Mistake, Unplanted
from parity.recording.steps import Phase
from parity.spec import Case
from parity.tolerance import FACTOR
from parity.trainer import Build, Trainer, record
from parity.trajectory import Trajectory, gather

UNSTEADY, STIRRED = 3, 4
"""Where none explains a run, so many of the closest are stirred so many times: a mistake may amplify rounding."""
INSIDE_OUT = (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT, Phase.UPDATE, Phase.STATE, Phase.BATCH)
"""How mistakes are planted around each other: who makes the update would pass over another's, who chooses the rows
of a step over none."""


@dataclass(frozen=True)
class Replay:
    """One hypothesis, or two at once, replayed: what it left of the difference, in noise floors (16 are tolerated)."""

    names: tuple[str, ...]
    phase: Phase
    floors: float

    @property
    def explains(self) -> bool:
        return self.floors <= FACTOR


class Replays:
    """Mistakes replayed on the reference, each recorded once, however many runs of the case are held against it.

    With ``lockstep`` they are replayed as such a run is made: each stretch of that many epochs begins from the state of
    a reference without any mistake.
    """

    def __init__(
        self, reference: Build, case: Case, hypotheses: Sequence[Mistake], lockstep: int | None = None
    ) -> None:
        self.reference, self.case, self.hypotheses = reference, replace(case, metrics=()), hypotheses
        self.lockstep = lockstep
        self._known = {hypothesis.name: hypothesis for hypothesis in hypotheses}
        self._recorded: dict[tuple[tuple[str, ...], str], Trajectory] = {}
        self._unplanted: dict[tuple[tuple[str, ...], str], Unplanted] = {}

    def right(self, epochs: int) -> Trajectory:
        """The reference's own path over at least ``epochs``, in float64."""
        path = self.path((), epochs)
        assert not isinstance(path, Unplanted)  # nothing is planted
        return path

    def path(self, names: tuple[str, ...], epochs: int, dtype: str = "float64") -> Trajectory | Unplanted:
        """The path with these mistakes, none or more at once, over at least ``epochs``; or why there is none.

        A path that was recorded longer before is given whole.
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
        """The noise floor, and where the path with these mistakes strays further by itself, that."""
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
        """Why a run of that dtype cannot have these mistakes, as float32 layers are none in float32; None if it can."""
        trainer = self._planted(names, dtype)
        return trainer if isinstance(trainer, Unplanted) else None

    def _planted(self, names: tuple[str, ...], dtype: str) -> Trainer | Unplanted:
        build = self.reference
        if not names:
            return build(self.case, dtype, "cpu")
        *inner, outer = sorted((self._known[name] for name in names), key=lambda known: INSIDE_OUT.index(known.phase))
        for hypothesis in inner:
            build = _planted(hypothesis, build)
        return outer.plant(build, self.case, dtype, "cpu")


def _planted(hypothesis: Mistake, reference: Build) -> Build:
    def build(case: Case, dtype: str, device: str) -> Trainer:
        trainer = hypothesis.plant(reference, case, dtype, device)
        return reference(case, dtype, device) if isinstance(trainer, Unplanted) else trainer

    return build
