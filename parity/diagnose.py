"""Why a run parts: the porting mistake whose replay on the reference makes the difference vanish.

Every hypothesis is planted into the float64 reference, which then trains beside the run that failed. What distance
is left between the two, in noise floors, is how well the mistake explains the run: a distance that rounding alone
would leave is an explanation, whatever the mistake is called.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.hypotheses import Hypothesis
from parity.locate import Location, pattern
from parity.spec import Array, Case
from parity.tolerance import FACTOR, Build, Floor, Stirred, strays
from parity.trainer import Trainer, record
from parity.trajectory import Stack, Trajectory, gather
from parity.verdict import Verdict, incomparable, judge

EPOCHS, STEPS = 3, 20
"""A replay covers so many epochs, and no fewer steps, beyond the place where the run parts."""
PAIRS_OF = 8
"""Where no single mistake explains a run, pairs of this many are tried: those that bring the reference closest."""
UNSTEADY, STIRRED = 3, 4
"""Where none explains a run, so many of the closest are stirred so many times: a mistake may amplify rounding."""
INSIDE_OUT = ("prediction", "loss", "gradient", "update", "state", "batch")
"""How mistakes are planted around each other: who makes the update would pass over another's, who chooses the rows
of a step over none."""


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
    time ran out before every hypothesis was tried, ``untried`` why none was.
    """

    location: Location
    pattern: str
    replays: tuple[Replay, ...]
    untouched: float | None
    epochs: int
    unfinished: bool
    untried: str = ""

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


class Replays:
    """Mistakes replayed on the reference, each recorded once, however many runs of the case are held against it."""

    def __init__(self, reference: Build, case: Case, hypotheses: Sequence[Hypothesis]) -> None:
        self.reference, self.case, self.hypotheses = reference, replace(case, metrics=()), hypotheses
        self._known = {hypothesis.name: hypothesis for hypothesis in hypotheses}
        self._recorded: dict[tuple[tuple[str, ...], str], Trajectory | None] = {}

    def path(self, names: tuple[str, ...], epochs: int, dtype: str = "float64") -> Trajectory | None:
        """The path with these mistakes, none or more at once, over at least ``epochs``; None where one has no effect.

        A path that was recorded longer before is given whole.
        """
        key = names, dtype
        known = self._recorded.get(key)
        if key not in self._recorded or (known is not None and len(known.loss) < epochs):
            trainer = self._planted(names, dtype)
            with np.errstate(all="ignore"):
                self._recorded[key] = None if trainer is None else gather(record(trainer, self.case, epochs))
        return self._recorded[key]

    def floor(self, names: tuple[str, ...], epochs: int, dtype: str, floor: Floor) -> Floor:
        """The noise floor, and where the path with these mistakes strays further by itself, that."""
        path = self.path(names, epochs)
        assert path is not None
        path = path.until(epochs)

        floor = floor.until(epochs, len(path.epochs))
        loss, params = floor.loss.ravel(), dict(floor.params)
        for seed in range(STIRRED):
            trainer = self._planted(names, dtype)
            if trainer is None:  # there is no such mistake in a dtype as coarse as this
                break
            unsteady = Stirred(trainer, np.random.default_rng(seed), self.case.schedule.ordered, dtype)
            with np.errstate(all="ignore"):
                found = strays(gather(record(unsteady, self.case, epochs)), path)
            loss = np.fmax(loss, np.maximum.accumulate(found.pop("loss")))
            params = {name: np.fmax(params[name], np.maximum.accumulate(values)) for name, values in found.items()}
        return Floor(loss.reshape(floor.loss.shape), params)

    def possible(self, names: tuple[str, ...], dtype: str) -> bool:
        """Whether a run of that dtype can have these mistakes: float32 layers are none in float32."""
        return self._planted(names, dtype) is not None

    def _planted(self, names: tuple[str, ...], dtype: str) -> Trainer | None:
        build = self.reference
        if not names:
            return build(self.case, dtype, "cpu")
        *inner, outer = sorted((self._known[name] for name in names), key=lambda known: INSIDE_OUT.index(known.phase))
        for hypothesis in inner:
            build = _planted(hypothesis, build)
        return outer.plant(build, self.case, dtype, "cpu")


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

    def left(*names: str, dtype: str = "float64") -> float | None:
        path = replays.path(names, epochs, dtype)
        return None if path is None else _left(run, path, floor, epochs, params)

    def on_time(candidates: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
        nonlocal unfinished
        for names in candidates:
            if time.monotonic() > end:
                unfinished = True
                return
            yield names

    phases = {hypothesis.name: hypothesis.phase for hypothesis in replays.hypotheses}
    ordered = sorted(phases, key=lambda name: phases[name] != location.phase)
    if dtype != "float64":
        ordered = [name for name in ordered if replays.possible((name,), dtype)]
    untouched = left()
    assert untouched is not None
    found: dict[tuple[str, ...], float] = {}
    for names in on_time((name,) for name in ordered):
        distance = left(*names)
        if distance is not None:
            found[names] = distance
        on_replay()
    closest = sorted(found, key=lambda names: found[names])[:PAIRS_OF]
    if dtype != "float64" and not _explained(found):
        # A run that overflows where float64 does not is as far from every replay, and its mistake may need that
        # overflow to be one at all.
        for names in on_time(closest if np.isfinite(untouched) else [(name,) for name in ordered]):
            distance = left(*names, dtype=dtype)
            if distance is not None:
                found[names] = min(found.get(names, distance), distance)
    if not _explained(found):
        # A path that a mistake has made unsteady is itself known only as far as its own rounding lets it be.
        for names in on_time(closest[:UNSTEADY]):
            own = replays.floor(names, epochs, dtype, floor)
            right, path = replays.path((), epochs), replays.path(names, epochs)
            assert right is not None
            assert path is not None
            if _left(run, right, own, epochs, params) > FACTOR:
                found[names] = min(found[names], _left(run, path, own, epochs, params))
    if not _explained(found):
        # A mistake that is half of the truth brings the reference closer, if not close; its other half alone may not.
        best = [name for (name,) in closest if found[(name,)] < untouched]
        others = sorted((name for (name,) in found), key=lambda name: found[(name,)])
        pairs = [(best[0], other) for other in others if other != best[0]] if best else []
        for names in on_time(dict.fromkeys((*pairs, *itertools.combinations(best, 2)))):
            distance = left(*names)
            if distance is not None:
                found[names] = distance
    ranked = sorted(found, key=lambda names: found[names])
    made = tuple(Replay(names, phases[names[0]], found[names]) for names in ranked)
    return Diagnosis(location, pattern(location), made, untouched, epochs, unfinished)


def _explained(found: Mapping[tuple[str, ...], float]) -> bool:
    return any(distance <= FACTOR for distance in found.values())


def _planted(hypothesis: Hypothesis, reference: Build) -> Build:
    def build(case: Case, dtype: str, device: str) -> Trainer:
        return hypothesis.plant(reference, case, dtype, device) or reference(case, dtype, device)

    return build


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
