"""What a case is: one documented training run, as frozen, plain data.

A case names everything that two implementations must share to walk the same path: the data, the initial
parameters, the loss and how it is reduced, the optimizer and its hyper-parameters, the batch order, and the
figures that the run's source published. Nothing here trains and nothing here knows a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parity.dtypes import DTYPES
from parity.rules import Adam as Adam
from parity.rules import AdamW as AdamW
from parity.rules import Clipping as Clipping
from parity.rules import CosineDecay as CosineDecay
from parity.rules import LinearWarmup as LinearWarmup
from parity.rules import Optimizer as Optimizer
from parity.rules import Sgd as Sgd
from parity.rules import StepDecay as StepDecay
from parity.rules import WarmupCosine as WarmupCosine
from parity.rules import decay_of as decay_of
from parity.rules import is_plain as is_plain
from parity.rules import optimizer_from as optimizer_from
from parity.schedules import CyclicRow as CyclicRow
from parity.schedules import FullBatch as FullBatch
from parity.schedules import InOrder as InOrder
from parity.schedules import RandomRow as RandomRow
from parity.schedules import RandomRows as RandomRows
from parity.schedules import Schedule as Schedule
from parity.schedules import Shuffled as Shuffled
from parity.schedules import ShuffledByLoader as ShuffledByLoader
from parity.schedules import altered
from parity.schedules import cut as cut
from parity.schedules import draws as draws
from parity.schedules import randperm as randperm
from parity.typing import Array as Array
from parity.typing import Batches as Batches
from parity.typing import Params as Params

if TYPE_CHECKING:
    from parity.trajectory import Trajectory


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, and rows held out.

    What is measured is float64; classes and characters are int64. An implementation casts floats to the run's dtype
    once, when it is built.

    Attributes:
        x: Training inputs (rows, ...).
        y: Training targets (rows, ...).
        x_test: Inputs (held out, ...), if rows are held out.
        y_test: Their targets (held out, ...).

    Examples:
        >>> import numpy as np
        >>> data = Dataset(np.ones((4, 2)), np.zeros((4, 1)))
        >>> data.split("train")[0].shape
        (4, 2)
    """

    x: Array
    y: Array
    x_test: Array | None = None
    y_test: Array | None = None

    def split(self, name: Literal["train", "test"]) -> tuple[Array, Array]:
        """Give the inputs and targets of one split.

        Args:
            name: ``train`` or ``test``.

        Returns:
            Inputs and targets, not copied.

        Raises:
            ValueError: If the test rows are asked for and there are none.
        """
        if name == "train":
            return self.x, self.y
        if self.x_test is None or self.y_test is None:
            raise ValueError("this case holds no test rows")
        return self.x_test, self.y_test


@dataclass(frozen=True)
class Loss:
    """The training loss, and how the losses of a batch's rows become one number.

    Attributes:
        kind: ``binary_crossentropy`` takes probabilities and is torch's ``BCELoss``: logarithms clamped at -100 and the
            gradient (p - y) / max(p (1 - p), 1e-12). ``crossentropy`` takes logits and integer classes, fused. ``nll``
            takes log-probabilities and integer classes. ``squared_error`` is (prediction - y)², not halved. ``total``
            adds the predictions up and ignores the targets: its gradient is each output's own derivative.
        reduction: ``sum``, or ``mean`` over every element.

    Examples:
        >>> Loss("crossentropy", "mean")
        Loss(kind='crossentropy', reduction='mean')
    """

    kind: Literal["binary_crossentropy", "crossentropy", "nll", "squared_error", "total"]
    reduction: Literal["sum", "mean"]


@dataclass(frozen=True)
class Metric:
    """A figure that is recorded beside the parameters at every snapshot, as the source printed it.

    A run's figure is held against the reference's. The two may differ by what a prediction within its own tolerance
    can change: a count by the share of the rows near a tie, a sum by what all rows add up to.

    Attributes:
        name: What the recording calls it.
        split: The rows that it is taken of.
        score: Takes, in NumPy, what the implementation itself predicts for the split at S snapshots, (S, n, ...), and
            the split's targets, (n, ...). It gives S numbers.
        ways: The scores of the ways whose source counts otherwise, by implementation label: a prediction that ties may
            count for one class in one listing and for the other in the next.

    Examples:
        >>> import numpy as np
        >>> accuracy = Metric("accuracy", "train", lambda p, y: ((p > 0.5) == y).mean((1, 2)))
        >>> accuracy.score(np.array([[[0.2], [0.9]]]), np.array([[0], [1]])).tolist()
        [1.0]
    """

    name: str
    split: Literal["train", "test"]
    score: Callable[[Array, Array], Array]
    ways: Mapping[str, Callable[[Array, Array], Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A quantity that the case's source prints, and where our run has it.

    Attributes:
        quantity: Its name, which the log line may name in braces.
        values: An epoch to the text as it was printed; empty in ``Publication.prints``.
        format: The printf format that prints ours the same way.
        of: Where ours is: ``params/<name>`` or ``metrics/<name>``; ``loss`` for the loss of an epoch's last batch, or
            of the batch ``index``; or a function of the run that gives one value an epoch, from epoch 0 on.
        source: Where it was printed.
        by: Who printed it, which is counted apart. ``document``: the case's source itself. ``public run``: a run of the
            source's listing that somebody else published. ``own run``: a run of the listing that the suite's authors
            made.
        index: The place within the tensor.
        rule: What must hold. ``printed``: both texts are equal. ``floor``: the values differ by no more than two runs
            of one listing part by rounding, a share of the tensor's noise floor (``parity.judging.published.APART``),
            plus half a unit of the last printed digit. ``envelope``: ours lies within ``margin`` of the published
            value, for figures that were one draw of many.
        margin: How far ours may lie from the published value; a pair says how far below it and how far above.
        change: The least and the largest change of ours since the epoch before, where draws of such a run share a
            shape: a run that trains nothing may lie between two draws, and does not fall as they do. None asks for no
            change.
        dtypes: The dtypes of runs that must have it.

    Examples:
        >>> cost = Published("cost", {1: "5.581"}, "%.3f", "loss", "section 1")
        >>> cost.format % 5.58123 == cost.values[1]
        True
    """

    quantity: str
    values: Mapping[int, str]
    format: str
    of: str | Callable[[Trajectory], Array]
    source: str
    index: tuple[int, ...] = ()
    rule: Literal["printed", "floor", "envelope"] = "printed"
    margin: float | tuple[float, float] = 0.0
    change: tuple[float, float] | None = None
    dtypes: tuple[str, ...] = DTYPES
    by: Literal["document", "public run", "own run"] = "document"


@dataclass(frozen=True)
class Publication:
    """Where a case is documented, and what its source printed of the run.

    Examples:
        >>> Publication("a tutorial, section 2", log="Epoch: {epoch} | Cost: {cost}").figures
        ()
    """

    source: str = ""
    """The document and the section that a reader finds the run in."""
    figures: tuple[Published, ...] = ()
    """The figures that the source printed; empty where it printed none, or where nobody published the run."""
    prints: tuple[Published, ...] = ()
    """The quantities that the source's log prints too and nobody shows the output of: without ``values``. They are
    printed from our run alone."""
    log: str = ""
    """The source's own log of one epoch, a line or several: ``{epoch}``, or ``{step}`` where the source counts from 0,
    and the names of published quantities, in braces."""
    logged: range | None = None
    """The epochs that the source logs, as far as a run goes; None for every epoch from 1 on."""
    end: str = ""
    """What the source prints after the last epoch, a line or several, as ``log``."""


@dataclass(frozen=True)
class Policy:
    """What is asserted of a case beyond the rule for all cases, which ``parity.tolerance`` states.

    Examples:
        >>> Policy("lockstep", reason="rounding moves units across ReLU's kink").floor_epochs is None
        True
    """

    float32_parameters: Literal["free", "lockstep"] = "free"
    """Which run holds the parameters in float32 and in narrower dtypes. ``free``: the free run, at every snapshot.
    ``lockstep``: a second run, each stretch of which begins from the reference's state; of the free run the losses
    alone are asserted. In float64 a free run's parameters are always asserted."""
    reason: str = ""
    """Why the parameters are held in lockstep, or why a tolerance of this case is wider than a reader expects."""
    floor_epochs: int | None = None
    """How many epochs the noise floor is measured for; None for the whole run."""


@dataclass(frozen=True)
class Display:
    """How a case is shown to people. Nothing here changes a run or a verdict.

    Examples:
        >>> Display(note="simulated, not market data").alphabet
        ''
    """

    note: str = ""
    """What a reader of the results must know of the data: that they are simulated, for example."""
    plot: Callable[[Mapping[str, Trajectory]], Any] | None = None
    """Draws the source's own figure from trajectories by implementation and returns a matplotlib figure; None draws
    the losses."""
    alphabet: str = ""
    """The characters that the model's classes stand for, in order, where the model writes text; else empty."""
    columns: tuple[str, ...] = ()
    """The names of the inputs' columns and of the targets', where the source shows its data as a table; else empty."""


SEEDS_FROM = 1000
"""A case's seed k draws with ``RandomState(SEEDS_FROM + k)``, which is no seed that a document uses."""


@dataclass(frozen=True)
class Drawn:
    """Initial parameters of another seed, drawn as wide as the case's own: see ``Case.seeded``.

    Attributes:
        of: Returns the case's own initial parameters.
        seed: The seed.
        kept: The names of those that stay as they are.

    Examples:
        >>> import numpy as np
        >>> Drawn(lambda: {"dense/kernel": np.ones((1, 1))}, seed=0)()["dense/kernel"].round(3).tolist()
        [[0.92]]
    """

    of: Callable[[], Params]
    seed: int
    kept: tuple[str, ...] = ()

    def __call__(self) -> Params:
        """Draw them: the same values at every call."""
        draw = np.random.RandomState(SEEDS_FROM + self.seed)
        # Those that are all equal, as zeros and scales are, or stand alone, get the width of a narrow layer's.
        own = self.of()
        drawn = {name: draw.normal(p.mean(), p.std() or 0.1, p.shape) for name, p in own.items()}
        return drawn | {name: own[name] for name in self.kept}


@dataclass(frozen=True, eq=False)
class Case:
    """One documented training run: everything that two implementations must share to walk the same path.

    Examples:
        >>> import numpy as np
        >>> line = Case(
        ...     name="line",
        ...     data=lambda: Dataset(np.ones((4, 1)), np.zeros((4, 1))),
        ...     initial=lambda: {"dense/kernel": np.ones((1, 1))},
        ...     loss=Loss("squared_error", "mean"),
        ...     optimizer=Sgd(0.25),
        ...     schedule=FullBatch(),
        ...     epochs=2,
        ... )
        >>> line.data().x.shape
        (4, 1)
    """

    name: str
    """What the command line calls the case; unique in its suite."""
    data: Callable[[], Dataset]
    """Returns the rows. A function, so that naming a case loads nothing; the same arrays at every call."""
    initial: Callable[[], Params]
    """Returns the initial parameters, float64, by canonical name; the same arrays at every call."""
    loss: Loss
    """The training loss of a batch."""
    optimizer: Optimizer
    """The rule of an update, with its hyper-parameters."""
    schedule: Schedule
    """The order of the batches."""
    epochs: int
    """How many epochs the run takes."""
    every: int = 1
    """The number of epochs between two snapshots of the parameters."""
    metrics: tuple[Metric, ...] = ()
    """The figures that are recorded at every snapshot."""
    publication: Publication = Publication()
    """Where the run is documented, and which figures its source printed."""
    policy: Policy = Policy()
    """What is asserted of the run."""
    display: Display = Display()
    """How the run is shown."""
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of the equal blocks of a tensor's last axis, by canonical name, where it has some: a recurrent layer's
    gates. An explanation names them."""
    buffers: tuple[str, ...] = ()
    """The canonical names of the parameters that are not trained: running statistics. The forward pass of an update
    moves them, which no gradient does, and predictions read them."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """The implementations that this case can never have, by label, each with the reason."""
    variants: Mapping[str, Case] = field(default_factory=dict)
    """The same model on other data, by the name that ``--data`` takes."""
    from_file: Callable[[Path], Dataset] | None = None
    """Reads a user's own data, which ``--data FILE`` names. It raises ValueError or OSError, whose message the user
    sees."""

    def floor_length(self, epochs: int) -> int:
        """Say how many epochs of a run the noise floor is measured for.

        A floor that ended between two snapshots of the run would have a snapshot that the run lacks, so it ends at
        the snapshot before.

        Args:
            epochs: The length of the run.

        Returns:
            ``policy.floor_epochs`` cut to a snapshot, ``epochs`` where the policy gives none or the run is shorter.
        """
        limit = self.policy.floor_epochs
        if limit is None or epochs <= limit:
            return epochs
        return min(epochs, max(limit // self.every, 1) * self.every)

    def trained(self, params: Params) -> Params:
        """Leave out the buffers.

        Args:
            params: Arrays by canonical name.

        Returns:
            Those that have a gradient and an optimizer's slots; the same arrays.
        """
        return {name: value for name, value in params.items() if name not in self.buffers}

    @property
    def splits(self) -> tuple[Literal["train", "test"], ...]:
        """The splits that the metrics are of, each once: of their rows a run is asked for predictions."""
        return tuple(dict.fromkeys(metric.split for metric in self.metrics))

    @property
    def stretch(self) -> int:
        """Epochs between two returns to the reference's state, in lockstep: few, for rounding grows along a stretch."""
        return min(self.every, 10)

    def in_way(self, label: str) -> Case:
        """Give the case with the scores that one implementation's source has.

        Args:
            label: The implementation's label.

        Returns:
            The case, each metric scored as that way scores it.
        """
        return replace(self, metrics=tuple(replace(m, score=m.ways.get(label, m.score)) for m in self.metrics))

    def seeded(self, seed: int) -> Case:
        """Give the same case with another seed: other initial parameters, another order of the batches.

        A parameter is drawn from a normal distribution with the mean and the standard deviation of the case's own
        values; where they are all equal or there is one alone, of 0.1. Buffers stay as they are. A schedule that has a
        ``seed`` gets another; one that has none gives the same order as before. Nothing else of a case is drawn: no
        model of a case drops units by chance. Published figures are of the case's own seed, and are left out.

        Args:
            seed: 0 or more. Every process draws the same from it.

        Returns:
            The case of that seed, to which no noise floor of another seed belongs.

        Raises:
            ValueError: If the seed is negative.

        Examples:
            >>> import numpy as np
            >>> zeros = {"dense/kernel": np.zeros((2, 1))}
            >>> line = Case("line", lambda: Dataset(np.ones((4, 2)), np.ones((4, 1))), lambda: zeros,
            ...             Loss("squared_error", "mean"), Sgd(0.1), Shuffled(batch_size=2, seed=0), epochs=3)
            >>> line.seeded(7).schedule.seed, line.seeded(7).initial()["dense/kernel"].round(2).tolist()
            (1007, [[-0.1], [0.01]])
        """
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, not {seed}")
        schedule = altered(self.schedule, seed=SEEDS_FROM + seed) if hasattr(self.schedule, "seed") else self.schedule
        initial = Drawn(self.initial, seed, self.buffers)
        other = replace(self, initial=initial, schedule=schedule, variants={}, from_file=None)
        note = self.display.note
        return other.on_other_data(f"{note}; seed {seed}" if note else f"seed {seed}")

    def on_other_data(self, note: str) -> Case:
        """Give the case without its published figures, which are of its own data; its log is printed from ours alone.

        Args:
            note: What a reader must know of the other data.

        Returns:
            The case, with that note.
        """
        names = {published.quantity: replace(published, values={}) for published in self.publication.figures}
        publication = replace(self.publication, figures=(), prints=(*self.publication.prints, *names.values()))
        return replace(self, publication=publication, display=replace(self.display, note=note))
