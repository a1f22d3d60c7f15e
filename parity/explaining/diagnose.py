"""Why a run parts: the porting mistake whose replay on the reference makes the difference vanish.

Every hypothesis is planted into the float64 reference, which then trains beside the run that failed. What distance
is left between the two, in noise floors, is how well the mistake explains the run: a distance that rounding alone
would leave is an explanation, whatever the mistake is called.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from parity.explaining.location import Location
from parity.explaining.pattern import pattern
from parity.explaining.replay import UNSTEADY, Replay, Replays
from parity.judging.floor import Floor
from parity.judging.verdict import Verdict, incomparable, judge
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Unplanted
from parity.tolerance import FACTOR
from parity.trajectory import Stack, Trajectory
from parity.typing import Array

EPOCHS, STEPS = 3, 20
"""A replay covers so many epochs, and no fewer steps, beyond the place where the run parts."""
PAIRS_OF = 8
"""Where no single mistake explains a run, pairs of this many are tried: those that bring the reference closest."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found: the place, the shape of the difference there, and the replays, the best explanation first.

    ``untouched`` is what the reference without any mistake leaves. ``epochs`` were replayed. ``unplanted`` says of each
    mistake that was not replayed why: it cannot be planted, or would change nothing. ``unfinished`` says that time ran
    out before every hypothesis was tried, ``untried`` why none was.
    """

    location: Location
    pattern: str
    replays: tuple[Replay, ...] = ()
    untouched: float | None = None
    epochs: int = 0
    unplanted: Mapping[str, Unplanted] = field(default_factory=dict)
    unfinished: bool = False
    untried: str = ""

    @property
    def impossible(self) -> list[str]:
        """The names of the mistakes that cannot be planted."""
        return [name for name, why in self.unplanted.items() if isinstance(why, CannotBePlanted)]

    @property
    def without_effect(self) -> list[str]:
        """The names of the mistakes that would change nothing."""
        return [name for name, why in self.unplanted.items() if isinstance(why, ChangesNothing)]

    @property
    def explanations(self) -> tuple[Replay, ...]:
        return tuple(replay for replay in self.replays if replay.explains)

    def sentence(self, sentences: dict[str, str]) -> str:
        """The finding in one line, and how sure it is."""
        return f"first differs at {self.location.place}; {self.why(sentences)}"

    def why(self, sentences: dict[str, str]) -> str:
        """The explanation and how sure it is, or 'unexplained'."""
        found = self.explanations
        if self.untried:
            return f"unexplained: {self.untried}"
        if not found:
            tried = f"none of the {len(self.replays)} mistakes tried brings it into the noise floor"
            return f"unexplained: {tried}" + (" in the time there was" if self.unfinished else "")
        best = found[0]
        names = " and ".join(f"{name} ({sentences[name]})" if name in sentences else name for name in best.names)
        sure = f"replay agrees to {best.floors:.2g} of the noise floor"
        rivals = [replay for replay in found[1:] if len(replay.names) == len(best.names)]
        if rivals:
            sure += f"; cannot be told apart from {', '.join(' and '.join(rival.names) for rival in rivals[:3])}"
        elif len(self.replays) > len(found):
            sure += f"; the next best of {len(self.replays)} leaves {self.replays[len(found)].floors:.2g}"
        return f"explained by {names}: {sure}"


def diagnose(
    run: Trajectory,
    location: Location,
    replays: Replays,
    floor: Floor,
    dtype: str = "float64",
    params: bool = True,
    seconds: float = 45.0,
    on_replay: Callable[[], None] = lambda: None,
) -> Diagnosis:
    """Replay the hypotheses, those of the located phase first, then pairs where none explains the run.

    ``dtype`` is the run's and ``floor`` its noise floor; ``params=False`` compares losses alone. Replays are in
    float64; the closest are made again in the run's dtype where none explains it, because a mistake that rounds
    to less than that is the same only there. Stops after ``seconds``.
    """
    epochs = _window(run, location)
    end = time.monotonic() + seconds
    unfinished = False

    def left(names: tuple[str, ...], dtype: str = "float64") -> float | None:
        path = replays.path(names, epochs, dtype)
        if isinstance(path, Unplanted):
            if len(names) == 1 and dtype == "float64":
                unplanted[names[0]] = path
            return None
        return _left(run, path, floor, epochs, params)

    def on_time(candidates: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
        nonlocal unfinished
        for names in candidates:
            if time.monotonic() > end:
                unfinished = True
                return
            yield names

    phases = {hypothesis.name: hypothesis.phase for hypothesis in replays.hypotheses}
    ordered = sorted(phases, key=lambda name: phases[name] != location.phase)
    unplanted: dict[str, Unplanted] = {}
    if dtype != "float64":
        impossible = {name: replays.unplanted((name,), dtype) for name in ordered}
        unplanted |= {name: why for name, why in impossible.items() if why is not None}
        ordered = [name for name in ordered if name not in unplanted]
    right = replays.right(epochs)
    untouched = _left(run, right, floor, epochs, params)
    found: dict[tuple[str, ...], float] = {}
    for names in on_time((name,) for name in ordered):
        distance = left(names)
        if distance is not None:
            found[names] = distance
        on_replay()
    closest = sorted(found, key=lambda names: found[names])[:PAIRS_OF]
    if dtype != "float64" and not _explained(found):
        # A run that overflows where float64 does not is as far from every replay, and its mistake may need that
        # overflow to be one at all.
        for names in on_time(closest if np.isfinite(untouched) else [(name,) for name in ordered]):
            distance = left(names, dtype)
            if distance is not None:
                found[names] = min(found.get(names, distance), distance)
    if not _explained(found):
        # A path that a mistake has made unsteady is itself known only as far as its own rounding lets it be.
        for names in on_time(closest[:UNSTEADY]):
            own = replays.floor(names, epochs, dtype, floor)
            path = replays.path(names, epochs)
            if not isinstance(path, Unplanted) and _left(run, right, own, epochs, params) > FACTOR:
                found[names] = min(found[names], _left(run, path, own, epochs, params))
    if not _explained(found):
        # A mistake that is half of the truth brings the reference closer, if not close; its other half alone may not.
        best = [name for (name,) in closest if found[(name,)] < untouched]
        others = sorted((name for (name,) in found), key=lambda name: found[(name,)])
        pairs = [(best[0], other) for other in others if other != best[0]] if best else []
        for names in on_time(dict.fromkeys((*pairs, *itertools.combinations(best, 2)))):
            distance = left(names)
            if distance is not None:
                found[names] = distance
    ranked = sorted(found, key=lambda names: found[names])
    made = tuple(Replay(names, phases[names[0]], found[names]) for names in ranked)
    return Diagnosis(
        location=location,
        pattern=pattern(location),
        replays=made,
        untouched=untouched,
        epochs=epochs,
        unplanted=unplanted,
        unfinished=unfinished,
    )


def _explained(found: Mapping[tuple[str, ...], float]) -> bool:
    return any(distance <= FACTOR for distance in found.values())


def _window(run: Trajectory, location: Location) -> int:
    """The epochs that are replayed: past the place where the run parts, to a snapshot, but not all of a long run."""
    batches = max(1, run.loss.shape[1])
    wanted = min(len(run.loss), location.epoch + max(EPOCHS, -(-STEPS // batches)))
    return int(run.epochs[np.searchsorted(run.epochs, wanted)])


def _left(run: Trajectory, other: Trajectory, floor: Floor, epochs: int, params: bool) -> float:
    """The largest distance between the beginnings of two runs, in noise floors; infinite where incomparable.

    A mistake that ends in NaN is explained by one that ends there in the same places.
    """
    run, other = run.until(epochs), other.until(epochs)
    if not incomparable(run, other):
        run, other = _where_finite(run, other), _where_finite(other, run)
    judgement = judge(run, other, floor.until(epochs, len(run.epochs)), params=params)
    if judgement.verdict is Verdict.INCONCLUSIVE or judgement.ratio is None or not np.isfinite(judgement.ratio):
        return float("inf")
    return judgement.ratio * FACTOR


def _where_finite(run: Trajectory, other: Trajectory) -> Trajectory:
    """The run with 0 for what is finite in neither."""

    def kept(a: Stack, b: Stack) -> Array:
        mine = a[:]
        return np.where(np.isfinite(mine) | np.isfinite(b[:]), mine, 0)

    params = {name: kept(values, other.params[name]) for name, values in run.params.items()}
    return replace(run, loss=kept(run.loss, other.loss), params=params)
