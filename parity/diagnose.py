"""Why a run parts: the porting mistake whose replay on the reference makes the difference vanish.

Every hypothesis is planted into the float64 reference, which then trains beside the run that failed. What distance
is left between the two, in noise floors, is how well the mistake explains the run: a distance that rounding alone
would leave is an explanation, whatever the mistake is called.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.hypotheses import Hypothesis
from parity.locate import Location, pattern
from parity.spec import Case
from parity.tolerance import FACTOR, Build, Floor
from parity.trainer import Trainer, record
from parity.trajectory import Trajectory, gather
from parity.verdict import Verdict, judge

EPOCHS, STEPS = 3, 20
"""A replay covers so many epochs, and no fewer steps, beyond the place where the run parts."""
PAIRS_OF = 8
"""Where no single mistake explains a run, pairs of this many are tried: those that bring the reference closest."""


@dataclass(frozen=True)
class Replay:
    """One hypothesis, or two at once, replayed: what it left of the difference, in noise floors (16 are tolerated)."""

    names: tuple[str, ...]
    phase: str
    floors: float

    @property
    def explains(self) -> bool:
        return self.floors <= FACTOR


@dataclass(frozen=True)
class Diagnosis:
    """What was found: the place, the shape of the difference there, and the replays, the best explanation first.

    ``untouched`` is what the reference without any mistake leaves. ``epochs`` were replayed. ``unfinished`` says that
    time ran out before every hypothesis was tried.
    """

    location: Location
    pattern: str
    replays: tuple[Replay, ...]
    untouched: float
    epochs: int
    unfinished: bool

    @property
    def explanations(self) -> tuple[Replay, ...]:
        return tuple(replay for replay in self.replays if replay.explains)

    def sentence(self, sentences: dict[str, str]) -> str:
        """The finding in one line, and how sure it is."""
        where = f"first differs at epoch {self.location.epoch}, batch {self.location.batch}, {self.location.phase}"
        if self.location.check is not None and self.location.check.tensor != self.location.phase:
            where += f" of {self.location.check.tensor}"
        return f"{where}; {self.why(sentences)}"

    def why(self, sentences: dict[str, str]) -> str:
        """The explanation and how sure it is, or 'unexplained'."""
        found = self.explanations
        if not found:
            tried = f"none of the {len(self.replays)} mistakes tried brings it into the noise floor"
            return f"unexplained: {tried}" + (" in the time there was" if self.unfinished else "")
        best = found[0]
        names = " and ".join(f"{name} ({sentences[name]})" if name in sentences else name for name in best.names)
        sure = f"replay agrees to {best.floors:.1g} of the noise floor"
        rivals = [replay for replay in found[1:] if len(replay.names) == len(best.names)]
        if rivals:
            sure += f"; cannot be told apart from {', '.join(' and '.join(rival.names) for rival in rivals[:3])}"
        elif len(self.replays) > len(found):
            sure += f"; the next best of {len(self.replays)} leaves {self.replays[len(found)].floors:.2g}"
        return f"explained by {names}: {sure}"


def diagnose(
    run: Trajectory,
    location: Location,
    reference: Build,
    case: Case,
    floor: Floor,
    hypotheses: Sequence[Hypothesis],
    params: bool = True,
    seconds: float = 45.0,
    on_replay: Callable[[], None] = lambda: None,
) -> Diagnosis:
    """Replay the hypotheses, those of the located phase first, then pairs where none explains the run.

    ``floor`` is the noise floor of the run's dtype; ``params=False`` compares losses alone. Stops after ``seconds``.
    """
    case = replace(case, metrics=())
    epochs = _window(run, location)
    end = time.monotonic() + seconds
    ordered = sorted(hypotheses, key=lambda hypothesis: hypothesis.phase != location.phase)
    untouched = _left(run, reference(case, "float64", "cpu"), case, floor, epochs, params)
    replays: list[Replay] = []
    unfinished = False
    for hypothesis in ordered:
        if time.monotonic() > end:
            unfinished = True
            break
        trainer = hypothesis.plant(reference, case, "float64", "cpu")
        if trainer is not None:
            left = _left(run, trainer, case, floor, epochs, params)
            replays.append(Replay((hypothesis.name,), hypothesis.phase, left))
        on_replay()
    replays.sort(key=lambda replay: replay.floors)
    if not any(replay.explains for replay in replays):
        known = {hypothesis.name: hypothesis for hypothesis in hypotheses}
        # A mistake that is half of the truth brings the reference closer, if not close.
        closest = [known[replay.names[0]] for replay in replays[:PAIRS_OF] if replay.floors < untouched]
        for first, second in itertools.combinations(closest, 2):
            if time.monotonic() > end:
                unfinished = True
                break
            trainer = second.plant(_planted(first, reference), case, "float64", "cpu")
            if trainer is not None:
                left = _left(run, trainer, case, floor, epochs, params)
                replays.append(Replay((first.name, second.name), first.phase, left))
        replays.sort(key=lambda replay: replay.floors)
    return Diagnosis(location, pattern(location), tuple(replays), untouched, epochs, unfinished)


def _planted(hypothesis: Hypothesis, reference: Build) -> Build:
    def build(case: Case, dtype: str, device: str) -> Trainer:
        return hypothesis.plant(reference, case, dtype, device) or reference(case, dtype, device)

    return build


def _window(run: Trajectory, location: Location) -> int:
    """The epochs that are replayed: past the place where the run parts, to a snapshot, but not all of a long run."""
    batches = max(1, run.loss.shape[1])
    wanted = min(len(run.loss), location.epoch + max(EPOCHS, -(-STEPS // batches)))
    return int(run.epochs[np.searchsorted(run.epochs, wanted)])


def _left(run: Trajectory, trainer: Trainer, case: Case, floor: Floor, epochs: int, params: bool) -> float:
    """The largest distance between the run's beginning and a trainer's, in noise floors; infinite where incomparable."""
    with np.errstate(all="ignore"):
        other = gather(record(trainer, case, epochs))
    snapshots = len(other.epochs)
    beginning = Trajectory(
        run.meta,
        run.epochs[:snapshots],
        run.loss[:epochs],
        {name: values[:snapshots] for name, values in run.params.items()},
        {},
    )
    judgement = judge(beginning, other, floor.until(epochs, snapshots), params=params)
    if judgement.verdict is Verdict.INCONCLUSIVE or judgement.ratio is None or not np.isfinite(judgement.ratio):
        return float("inf")
    return judgement.ratio * FACTOR
