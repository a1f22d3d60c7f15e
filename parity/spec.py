"""What a case is: one documented training run, as frozen, plain data.

A case names everything that two implementations must share to walk the same path: the data, the initial
parameters, the loss and how it is reduced, the optimizer and its hyper-parameters, the batch order, and the
figures that the run's source published. Nothing here trains and nothing here knows a framework.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from parity.dtypes import DTYPES

if TYPE_CHECKING:
    from parity.trajectory import Trajectory
from parity.typing import Array as Array
from parity.typing import Batches as Batches
from parity.typing import Params as Params


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
class Sgd:
    """Stochastic gradient descent in torch's form: d = g + weight_decay·p; b = momentum·b + d; p -= learning_rate·b.

    The first b is the first d, undampened. Without momentum there is no buffer b.

    Attributes:
        learning_rate: The step size.
        momentum: What is kept of b.
        weight_decay: The factor of the L2 penalty's gradient. It touches every parameter that has a gradient, biases
            too.

    Examples:
        >>> Sgd(0.1, momentum=0.9)
        Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Adam in torch's form: p -= learning_rate·m̂ / (√v̂ + epsilon), both moments bias-corrected (Kingma & Ba 2015).

    Attributes:
        learning_rate: The step size.
        beta1: What is kept of the first moment.
        beta2: What is kept of the second moment.
        epsilon: Added after the correction. TF1 and Keras add theirs before it (the paper's "epsilon hat").

    Examples:
        >>> Adam(0.001).epsilon
        1e-08
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, in torch's form (Loshchilov & Hutter 2019): first p -= learning_rate·decay·p.

    Attributes:
        weight_decay: The decay. It touches every parameter that has a gradient, biases too, and is in no moment. The
            other hyper-parameters are Adam's.

    Examples:
        >>> AdamW(0.001, weight_decay=0.1).weight_decay
        0.1
    """

    weight_decay: float = 0.01


Optimizer = Sgd | Adam
"""What a case or a recording may name as its optimizer."""
_KINDS: Mapping[str, type[Sgd] | type[Adam]] = {kind.__name__: kind for kind in (Sgd, Adam, AdamW)}
_SAID = re.compile(rf"({'|'.join(_KINDS)})\((\w+=[-+.\de]+(?:, \w+=[-+.\de]+)*)\)")


def optimizer_from(text: str) -> Optimizer | None:
    """Read an optimizer from its ``repr``.

    Args:
        text: What ``repr`` gave.

    Returns:
        The optimizer; None if the text is none's.

    Examples:
        >>> optimizer_from("Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)").momentum
        0.9
    """
    found = _SAID.fullmatch(text)
    if found is None:
        return None
    pairs = (pair.split("=") for pair in found[2].split(", "))
    try:
        return _KINDS[found[1]](**{name: float(value) for name, value in pairs})
    except (TypeError, ValueError):  # a hyper-parameter that there is not, or no number
        return None


class Schedule(Protocol):
    """The batch order, made once in NumPy and handed to every implementation: none shuffles for itself.

    Examples:
        >>> schedule: Schedule = Shuffled(batch_size=2, seed=0)
        >>> [rows.tolist() for rows in next(schedule.epochs(4))]
        [[2, 3], [1, 0]]
    """

    @property
    def ordered(self) -> bool:
        """Whether the order of the rows within a batch means something, as it does in a text."""
        ...

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of epoch 1, 2, 3, … without end.

        Args:
            rows: The number of rows in the training data.

        Yields:
            As many batches in every epoch, each of row indices (batch,) int64.
        """
        ...


@dataclass(frozen=True)
class FullBatch:
    """Every row, in the order of the data, once an epoch.

    Examples:
        >>> [rows.tolist() for rows in next(FullBatch().epochs(4))]
        [[0, 1, 2, 3]]
    """

    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        every_row = (np.arange(rows),)
        while True:
            yield every_row


@dataclass(frozen=True)
class Shuffled:
    """Rows permuted by ``RandomState(seed).shuffle`` and cut into batches.

    Attributes:
        batch_size: Rows in a batch.
        seed: The generator's seed.
        reseed: Whether the generator is made anew each epoch, so that every epoch has the same order.
        keep_last: Whether a last batch that is shorter than the others is kept.

    Examples:
        >>> [rows.tolist() for rows in next(Shuffled(batch_size=2, seed=0).epochs(5))]
        [[2, 0], [1, 3], [4]]
    """

    batch_size: int
    seed: int
    reseed: bool = False
    keep_last: bool = True
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        end = rows if self.keep_last else rows - rows % self.batch_size
        while True:
            if self.reseed:
                generator = np.random.RandomState(self.seed)
            order = np.arange(rows)
            generator.shuffle(order)
            yield tuple(order[start : start + self.batch_size] for start in range(0, end, self.batch_size))


@dataclass(frozen=True)
class CyclicRow:
    """One row an update, in the order of the data, again and again: SGD's cyclic rule. An epoch is one pass.

    Examples:
        >>> [rows.tolist() for rows in next(CyclicRow().epochs(3))]
        [[0], [1], [2]]
    """

    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        one_pass = tuple(np.arange(rows)[:, None])
        while True:
            yield one_pass


@dataclass(frozen=True)
class RandomRow:
    """One row an update, drawn uniformly from all rows by ``RandomState(seed)``: SGD's randomized rule.

    A row may come twice before another comes once. An epoch is as many updates as there are rows.

    Attributes:
        seed: The generator's seed.

    Examples:
        >>> [rows.tolist() for rows in next(RandomRow(seed=0).epochs(3))]
        [[0], [1], [0]]
    """

    seed: int
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        while True:
            yield tuple(generator.randint(rows, size=(rows, 1), dtype=np.int64))


@dataclass(frozen=True)
class RandomRows:
    """``batch_size`` different rows an update, each set drawn from all rows by ``RandomState(seed)``: mini-batch SGD.

    The sets of an epoch may overlap, unlike ``Shuffled``'s. An epoch is ``rows // batch_size`` updates.

    Attributes:
        batch_size: Rows in a batch.
        seed: The generator's seed.

    Examples:
        >>> [rows.tolist() for rows in next(RandomRows(batch_size=2, seed=0).epochs(4))]
        [[2, 3], [0, 2]]
    """

    batch_size: int
    seed: int
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        """Yield the batches of each epoch, as ``Schedule.epochs`` says."""
        generator = np.random.RandomState(self.seed)
        while True:
            yield tuple(generator.permutation(rows)[: self.batch_size] for _ in range(rows // self.batch_size))


@dataclass(frozen=True)
class Metric:
    """A figure that is recorded beside the parameters at every snapshot, as the source printed it.

    ``score(predictions, y)`` runs in NumPy on what the implementation itself predicts for the split at S snapshots,
    ``(S, n, ...)``, and on the split's targets, ``(n, ...)``; it gives S numbers.
    """

    name: str
    split: Literal["train", "test"]
    score: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Published:
    """Figures that the case's source printed, and where our run has them.

    ``values`` maps an epoch to the text as printed, ``format`` is the printf format that prints ours the same
    way. ``of`` says where ours are: ``params/<name>`` or ``metrics/<name>`` (with ``index`` into the tensor),
    ``loss`` for the loss of an epoch's last batch, or of batch ``index``, or a function of the trajectory that
    returns one value an epoch, from epoch 0 on.

    ``rule`` says what must hold. ``printed``: both texts are equal. ``floor``: the values differ by no more than
    the tolerance of that tensor plus half a unit of the last printed digit. ``envelope``: ours lies within
    ``margin`` of the published value, for figures that were one draw of many.
    """

    quantity: str
    values: Mapping[int, str]
    format: str
    of: str | Callable[[Trajectory], Array]
    source: str
    index: tuple[int, ...] = ()
    rule: Literal["printed", "floor", "envelope"] = "printed"
    margin: float = 0.0
    dtypes: tuple[str, ...] = DTYPES


@dataclass(frozen=True, eq=False)
class Case:
    """One documented training run. See the module's docstring.

    ``data`` and ``initial`` are functions so that naming a case loads nothing; both must return the same
    arrays at every call. ``initial`` gives float64 parameters by canonical name.

    ``every`` is the number of epochs between two snapshots. ``log`` is the source's own log line, with
    ``{epoch}``, or ``{step}`` where the source counts from 0, and the names of published quantities in braces.
    ``float32_parameters`` says what is asserted of parameters in float32 and narrower dtypes: ``free``, compared
    at every snapshot of a free run; ``lockstep``, compared where each stretch starts from the reference's state;
    ``why`` gives the reason where it is not ``free``.
    ``absent`` maps an implementation that this case can never have to the reason.
    ``variants`` are the same model on other data, chosen by ``--data NAME``. ``from_file`` reads a user's own data,
    chosen by ``--data FILE``; it raises ValueError or OSError, whose message is what the user sees. ``note`` is what
    a reader of the results must know of the data. ``plot`` draws the source's own figure from trajectories, by
    implementation, and returns a matplotlib figure; without it the losses are drawn.
    """

    name: str
    source: str
    data: Callable[[], Dataset]
    initial: Callable[[], Params]
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    epochs: int
    every: int = 1
    metrics: tuple[Metric, ...] = ()
    published: tuple[Published, ...] = ()
    log: str = ""
    float32_parameters: Literal["free", "lockstep"] = "free"
    why: str = ""
    floor_epochs: int | None = None
    alphabet: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Case] = field(default_factory=dict)
    from_file: Callable[[Path], Dataset] | None = None
    note: str = ""
    plot: Callable[[Mapping[str, Trajectory]], Any] | None = None

    def floor_length(self, epochs: int) -> int:
        """How far into a run of so many epochs its noise floor is measured: ``floor_epochs``, or the snapshot before.

        A floor that ended between two snapshots of the run would have one that the run has not.
        """
        if self.floor_epochs is None or epochs <= self.floor_epochs:
            return epochs
        return min(epochs, max(self.floor_epochs // self.every, 1) * self.every)

    @property
    def stretch(self) -> int:
        """Epochs between two returns to the reference's state, in lockstep: few, for rounding grows along a stretch."""
        return min(self.every, 10)
