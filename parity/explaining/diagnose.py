"""Explain why a run parts: find the porting mistake whose replay on the reference makes the difference vanish.

Every mistake is planted into the float64 reference, which then trains beside the run that failed. The distance left
between the two, in noise floors, says how well the mistake explains the run. A mistake explains the run if it leaves no
more than rounding alone would leave, whatever the mistake is called.
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
from parity.judging.comparable import incomparable
from parity.judging.floors.floor import Floor
from parity.judging.verdict import Verdict, judge
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Unplanted
from parity.tolerance import FACTOR
from parity.trajectory import Stack, Trajectory
from parity.typing import Array

EPOCHS, STEPS = 3, 20
"""A replay goes on for this many epochs, and at least this many steps, after the place where the run parts."""
PAIRS_OF = 8
"""If no single mistake explains a run, pairs are tried of this many mistakes, those that leave the least distance."""
NEARLY = 1000
"""A mistake that is not replayed exactly leaves so many times less than the reference, and than other mistakes."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The place where a run parts, and how well each mistake explains the difference."""

    location: Location
    pattern: str
    """What the difference looks like there."""
    replays: tuple[Replay, ...] = ()
    """The mistakes replayed, the best explanation first."""
    untouched: float | None = None
    """The distance, in noise floors, that the reference without any mistake leaves."""
    epochs: int = 0
    """The number of epochs that were replayed."""
    unplanted: Mapping[str, Unplanted] = field(default_factory=dict)
    """The mistakes that were not replayed: each cannot be planted, or would change nothing."""
    unfinished: bool = False
    """Whether time ran out before every mistake was tried."""
    untried: str = ""
    """Why no mistake was tried; empty where some were."""
    named: str = ""
    """What is wrong, where the place alone says so and no mistake had to be tried."""

    @property
    def impossible(self) -> list[str]:
        """List the mistakes that cannot be planted."""
        return [name for name, why in self.unplanted.items() if isinstance(why, CannotBePlanted)]

    @property
    def without_effect(self) -> list[str]:
        """List the mistakes that would change nothing."""
        return [name for name, why in self.unplanted.items() if isinstance(why, ChangesNothing)]

    @property
    def explanations(self) -> tuple[Replay, ...]:
        """Select the replays that bring the reference into the tolerance."""
        return tuple(replay for replay in self.replays if replay.explains)

    def sentence(self, sentences: dict[str, str]) -> str:
        """Say place and explanation in one line; ``sentences`` gives each mistake's sentence by its name."""
        return f"first differs at {self.location.place}; {self.why(sentences)}"

    def _nearly(self, sentences: dict[str, str]) -> str:
        """Name the mistake that leaves next to nothing beside what every other one leaves; empty if none does."""
        best, untouched = (self.replays[0], self.untouched) if self.replays else (None, None)
        if best is None or untouched is None or not best.floors * NEARLY < untouched:
            return ""
        # What it explains together with another one, it explains alone.
        rivals = [replay.floors for replay in self.replays[1:] if not set(best.names) <= set(replay.names)]
        if len(best.names) > 1 or min(rivals, default=np.inf) < best.floors * NEARLY:
            return ""
        said = f" ({sentences[best.names[0]]})" if best.names[0] in sentences else ""
        return f"; nearly explained by {best.names[0]}{said}: replay leaves {best.floors:.3g} of {untouched:.3g}"

    def why(self, sentences: dict[str, str]) -> str:
        """Say the explanation and how sure it is, or why the run is unexplained."""
        found = self.explanations
        if self.named:
            return self.named
        if self.untried:
            return f"unexplained: {self.untried}"
        if not found and not self.replays and not self.unfinished:
            return "unexplained: no mistake is known that could be made here"
        if not found:
            tried = f"none of the {len(self.replays)} mistakes tried brings it into the noise floor"
            late = " in the time there was" if self.unfinished else ""
            return f"unexplained: {tried}{late}{self._nearly(sentences)}"
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
    singly: bool = False,
) -> Diagnosis:
    """Replay the mistakes, those of the located phase first, and pairs of them if no single one explains the run.

    Replays are in float64. If none explains the run, the closest are made again in the run's dtype, because a mistake
    that rounds to less than that dtype is the same only there.

    Args:
        run: The run that failed.
        location: Where it parts.
        replays: The mistakes, with the paths that other runs of the case have left.
        floor: The run's noise floor.
        dtype: The run's.
        params: Whether parameters are compared, and not the losses alone.
        seconds: No replay begins later than this.
        on_replay: Called after each mistake that was replayed.
        singly: Whether each mistake is tried by itself alone: no pairs, and none of them stirred.
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

    phases = {mistake.name: mistake.phase for mistake in replays.mistakes}
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
        # A run that overflows where float64 does not is equally far from every replay. Its mistake may need the
        # overflow to change anything.
        for names in on_time(closest if np.isfinite(untouched) else [(name,) for name in ordered]):
            distance = left(names, dtype)
            if distance is not None:
                found[names] = min(found.get(names, distance), distance)
    if not _explained(found) and not singly:
        # A mistake may amplify rounding: then its own path is known only within a wider noise floor.
        for names in on_time(closest[:UNSTEADY]):
            own = replays.floor(names, epochs, dtype, floor)
            path = replays.path(names, epochs)
            if not isinstance(path, Unplanted) and _left(run, right, own, epochs, params) > FACTOR:
                found[names] = min(found[names], _left(run, path, own, epochs, params))
    if not _explained(found) and not singly:
        # One of two mistakes brings the reference closer, if not close; the other alone may not.
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
        pattern=pattern(location, replays.case.blocks),
        replays=made,
        untouched=untouched,
        epochs=epochs,
        unplanted={name: why for name, why in unplanted.items() if (name,) not in found},
        unfinished=unfinished,
    )


def _explained(found: Mapping[tuple[str, ...], float]) -> bool:
    return any(distance <= FACTOR for distance in found.values())


def _window(run: Trajectory, location: Location) -> int:
    """Choose the number of epochs to replay: past the place where the run parts, up to a snapshot."""
    batches = max(1, run.loss.shape[1])
    wanted = min(len(run.loss), location.epoch + max(EPOCHS, -(-STEPS // batches)))
    return int(run.epochs[np.searchsorted(run.epochs, wanted)])


def _left(run: Trajectory, other: Trajectory, floor: Floor, epochs: int, params: bool) -> float:
    """Measure the largest distance between the beginnings of two runs in noise floors; infinite if incomparable.

    Where neither run is finite they agree, so that a mistake that ends in NaN is explained by its like.
    """
    run, other = run.until(epochs), other.until(epochs)
    if not incomparable(run, other):
        run, other = _where_finite(run, other), _where_finite(other, run)
    judgement = judge(run, other, floor.until(epochs, len(run.epochs)), params=params)
    if judgement.verdict is Verdict.INCONCLUSIVE or judgement.ratio is None or not np.isfinite(judgement.ratio):
        return float("inf")
    return judgement.ratio * FACTOR


def _where_finite(run: Trajectory, other: Trajectory) -> Trajectory:
    """Put 0 in the place of each value that is finite in neither run."""

    def kept(a: Stack, b: Stack) -> Array:
        mine = a[:]
        return np.where(np.isfinite(mine) | np.isfinite(b[:]), mine, 0)

    params = {name: kept(values, other.params[name]) for name, values in run.params.items()}
    return replace(run, loss=kept(run.loss, other.loss), params=params)
