"""What every side of a pair shares, whatever its framework: options, data, batches, initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.tolerance import stir
from parity.typing import Array, Params

ROWS, BATCH = 64, 8
UPDATES, DEEP = 24, 10
"""Of a run that is recorded by hand: how long it is, and of how many updates everything is recorded."""
WATCHED_UPDATES, WATCHED_DEEP, SHADOWS = 10, 4, 2
"""Likewise of a run that is watched, and how many shadows walk beside it: JAX and Keras make a deep update op by op."""
INPUTS, HIDDEN, OUTPUTS = 6, 8, 3
SIDE, CHANNELS, MAPS = 8, 2, 3
WORDS, LENGTH, WIDTH, HEADS = 12, 7, 8, 2
RATE = 2**-5
"""Exact in float32, so that no framework rounds it."""


@dataclass(frozen=True)
class Setup:
    """The options of a run. The defaults are a perceptron with tanh, squared errors and plain gradient descent.

    Attributes:
        model: ``perceptron``, ``normalized``, ``convolutional``, ``bottleneck``, ``resized``, ``transformer`` or
            ``recurrent``.
        loss: ``squared``, ``absolute``, ``huber``, ``classes`` or ``divergence``.
        optimizer: A function of the side's module of optimizers.
        rate: The learning rate.
        rates: The learning rate of each update; none where it is constant.
        momentum: The optimizer's.
        nesterov: Whether the momentum is Nesterov's.
        dampening: The share of a gradient that does not enter the velocity.
        epsilon: The optimizer's.
        epsilon_at: ``outside`` the root, ``inside`` it or ``before`` the bias is corrected.
        decay: The weight decay.
        decay_on: ``all`` parameters, or ``kernels``.
        decay_by: ``rate`` where it is decoupled, ``itself`` where not times the rate; ``gradient``: an L2 penalty.
        accumulator: What the sum of squares begins with.
        variant: Another form of the optimizer; each side says which it knows.
        clip: How gradients are clipped: not at all, by the ``norm`` of all, by ``tensor``, by ``value``, ``scaled``.
        parts: Into how many micro-batches or workers a batch is cut.
        parts_joined: ``mean``, ``sum``, or ``loss``, where the losses are added up too.
        zeroed: Whether gradients are cleared before each update.
        reduction: ``mean``, ``sum``, or of a divergence ``elements``.
        delta: Huber's.
        delta_divides: Whether Huber's loss is divided by it.
        smoothing: Of labels.
        smoothing_over: ``all`` classes, or the ``others``.
        ignored: Whether rows whose label is 0 are left out: ``no``, ``left-out``, or ``counted`` in the mean.
        class_weights: Whether classes have weights, and what the sum is divided by: ``no``, ``weights``, ``rows``.
        frozen: Whether the hidden layer of a perceptron is not trained.
        activation: ``tanh``, ``relu``, ``gelu``, ``gelu-tanh`` or ``leaky``.
        slope: Of leaky ReLU.
        norm: ``layer``, ``batch``, ``group``, ``rms``, or ``hand``, which is a layer's written by hand.
        norm_order: Whether a transformer normalizes ``before`` attention, or ``after`` it and its residual.
        norm_frozen: Whether a batch norm uses its running statistics, and leaves them as they are.
        norm_groups: The groups of a group norm.
        norm_offset: Whether the scale of an RMS norm is kept less one.
        norm_epsilon: The norm's.
        norm_momentum: The share of the new in running statistics.
        norm_correction: What is taken off the number of values in a variance.
        padding: ``symmetric`` or ``same``.
        strided: Which of a bottleneck's convolutions has the stride, the ``first`` or the ``second``.
        dilation: Of a bottleneck's second convolution.
        flatten: The order in which maps become features: ``hwc`` or ``chw``.
        pooling: ``none``, ``average``, where borders are ``counted`` or not.
        counted: Whether borders are counted in a mean.
        resize: ``none``, ``plain``, ``antialias`` or ``corners``.
        attention: ``hand``, or the framework's ``layer``, for which ``batch_first`` holds.
        batch_first: Whether that layer is told that the batch comes first.
        shifted: Whether the loss shifts the labels once more.
        scale: Attention's: ``head``, ``width`` or ``none``.
        mask: ``causal``, ``missing`` or ``inverted``.
        positions: ``none``, ``interleaved``, ``halves``, ``rotary-halves`` or ``rotary-interleaved``.
        embedding_scaled: Whether embeddings are multiplied by the root of their width.
        padding_trained: Whether the row of the padding word is trained.
        tied: Whether the head is the embedding's table.
        cell: ``lstm`` or ``gru``.
        two_biases: Whether both biases of a cell are trained.
        gates: The order in which a cell's gates lie in the weights.
        reset_after: Whether a GRU resets after the product.
        taken: What the head takes of a cell's states: the ``last`` or the ``mean``.
    """

    model: str = "perceptron"
    loss: str = "squared"
    optimizer: str = "sgd"
    rate: float = RATE
    rates: tuple[float, ...] = ()
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    epsilon: float = 1e-8
    epsilon_at: str = "outside"
    decay: float = 0.0
    decay_on: str = "all"
    decay_by: str = "rate"
    accumulator: float = 0.0
    variant: str = ""
    clip: str = ""
    parts: int = 1
    parts_joined: str = "mean"
    zeroed: bool = True
    reduction: str = "mean"
    delta: float = 1.0
    delta_divides: bool = True
    smoothing: float = 0.0
    smoothing_over: str = "all"
    ignored: str = "no"
    class_weights: str = "no"
    softmax: bool = False
    frozen: bool = False
    activation: str = "tanh"
    slope: float = 0.25
    norm: str = ""
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.125
    norm_correction: int = 0
    norm_order: str = "before"
    norm_frozen: bool = False
    norm_groups: int = 4
    norm_offset: bool = True
    padding: str = "symmetric"
    strided: str = "second"
    dilation: int = 1
    flatten: str = "hwc"
    pooling: str = "none"
    counted: bool = False
    resize: str = "none"
    attention: str = "hand"
    batch_first: bool = True
    shifted: bool = False
    scale: str = "head"
    mask: str = "causal"
    positions: str = "none"
    embedding_scaled: bool = False
    padding_trained: bool = True
    tied: bool = False
    cell: str = "lstm"
    two_biases: bool = False
    gates: str = "ifgo"
    reset_after: bool = True
    taken: str = "last"

    @property
    def clipped_to(self) -> float:
        """The threshold of clipping, below what these models' gradients reach."""
        return 0.125

    def rate_at(self, update: int) -> float:
        """The learning rate of an update, which counts from 0."""
        return self.rates[min(update, len(self.rates) - 1)] if self.rates else self.rate

    @property
    def said(self) -> Optimizer | None:
        """What a loop that is recorded by hand says of its optimizer, where the spec has words for it."""
        if (
            self.rates
            or self.nesterov
            or self.variant
            or self.decay_on != "all"
            or self.optimizer not in ("sgd", "adam")
        ):
            return None
        if self.optimizer == "sgd":
            return Sgd(self.rate, self.momentum)
        if self.optimizer != "adam" or self.decay_by == "gradient":
            return None
        adam = Adam(self.rate, epsilon=self.epsilon)
        return adam if not self.decay else AdamW(self.rate, epsilon=self.epsilon, weight_decay=self.decay)

    @property
    def labelled(self) -> bool:
        """Whether the loss takes classes."""
        return self.loss == "classes"


@dataclass(frozen=True)
class Data:
    """What a model is trained on.

    Attributes:
        x: Inputs (rows, …): features, images with channels last, sequences, or words.
        y: Numbers (rows, outputs) or classes (rows, …), as the loss has it.
    """

    x: Array
    y: Array


def data_of(setup: Setup, dtype: str) -> Data:
    """Draw the data of a model, the same in every framework.

    Args:
        setup: The run's options.
        dtype: The run's.

    Examples:
        >>> data_of(Setup(), "float32").x.shape
        (64, 6)
    """
    generator = np.random.default_rng(5)
    if setup.model == "transformer":
        words = generator.integers(1, WORDS, (ROWS, LENGTH + 1))
        ends = generator.integers(3, LENGTH + 2, ROWS)
        words[np.arange(LENGTH + 1)[None] >= ends[:, None]] = 0
        return Data(words[:, :-1], words[:, 1:])
    shape = {
        "convolutional": (SIDE, SIDE, CHANNELS),
        "resized": (SIDE, SIDE, CHANNELS),
        "bottleneck": (SIDE, SIDE, CHANNELS),
        "recurrent": (LENGTH, INPUTS),
    }.get(setup.model, (INPUTS,))
    # Small inputs, so that a layer norm's epsilon matters.
    small = setup.model == "normalized" and setup.norm not in ("batch", "group", "rms")
    x = (generator.normal(size=(ROWS, *shape)) / (16 if small else 1)).astype(dtype)
    targets = 1.5 * generator.normal(size=(ROWS, OUTPUTS))
    if setup.loss == "divergence":
        targets = np.exp(targets) / np.exp(targets).sum(-1, keepdims=True)
    if setup.labelled:
        return Data(x, targets.argmax(-1))
    return Data(x, targets.astype(dtype))


def batches(updates: int = UPDATES) -> Iterator[Array]:
    """Give the rows of each batch.

    Args:
        updates: How many batches are wanted.

    Yields:
        Integers (batch,).

    Examples:
        >>> [len(rows) for rows in batches(2)]
        [8, 8]
    """
    generator, order = np.random.default_rng(11), np.zeros(0, int)
    for _ in range(updates):
        if len(order) < BATCH:
            order = generator.permutation(ROWS)
        yield order[:BATCH]
        order = order[BATCH:]


def turns(features: int) -> tuple[Array, Array]:
    """Compute sines and cosines of positions in float64, which frameworks round otherwise in float32.

    Args:
        features: How many features positions have, or are turned by them.

    Returns:
        Two arrays (length, features / 2).

    Examples:
        >>> [part.shape for part in turns(4)]
        [(7, 2), (7, 2)]
    """
    angles = np.arange(LENGTH)[:, None] / 100 ** (np.arange(0, features, 2) / features)
    return np.sin(angles), np.cos(angles)


CLASS_WEIGHTS = (0.5, 1.0, 2.0)
"""Of the classes, where they have some."""
_DENSE = {"hidden/kernel": (INPUTS, HIDDEN), "hidden/bias": (HIDDEN,)}
_HEAD = {"head/kernel": (HIDDEN, OUTPUTS), "head/bias": (OUTPUTS,)}
_LSTM = {"cell/input": (INPUTS, 4 * HIDDEN), "cell/recurrent": (HIDDEN, 4 * HIDDEN), "cell/bias": (4 * HIDDEN,)}
SHAPES = {
    "perceptron": _DENSE | _HEAD,
    "normalized": _DENSE | {"norm/scale": (HIDDEN,), "norm/bias": (HIDDEN,)} | _HEAD,
    "convolutional": {"conv/kernel": (3, 3, CHANNELS, MAPS), "conv/bias": (MAPS,)}
    | {"head/kernel": (SIDE * SIDE // 4 * MAPS, OUTPUTS), "head/bias": (OUTPUTS,)},
    "bottleneck": {"first/kernel": (1, 1, CHANNELS, MAPS), "second/kernel": (3, 3, MAPS, MAPS)}
    | {"head/kernel": (MAPS, OUTPUTS), "head/bias": (OUTPUTS,)},
    "resized": {"conv/kernel": (3, 3, CHANNELS, MAPS), "conv/bias": (MAPS,)}
    | {"head/kernel": (MAPS, OUTPUTS), "head/bias": (OUTPUTS,)},
    "transformer": {"embedding/table": (WORDS, WIDTH)}
    | {f"{name}/kernel": (WIDTH, WIDTH) for name in ("query", "key", "value", "joined")}
    | {"norm/scale": (WIDTH,), "norm/bias": (WIDTH,), "hidden/kernel": (WIDTH, WIDTH), "hidden/bias": (WIDTH,)},
    "recurrent": {
        "cell/input": (INPUTS, 4 * HIDDEN),
        "cell/recurrent": (HIDDEN, 4 * HIDDEN),
        "cell/bias": (4 * HIDDEN,),
    }
    | _HEAD,
}
"""The canonical tensors of each model; a head that is not tied begins as the table."""
_GRU = {"cell/input": (INPUTS, 3 * HIDDEN), "cell/recurrent": (HIDDEN, 3 * HIDDEN), "cell/bias": (3 * HIDDEN,)} | {
    "cell/recurrent_bias": (3 * HIDDEN,)
}


def weights_of(setup: Setup, dtype: str, stirred: int | None = None) -> Params:
    """Draw initial weights, the same in every framework.

    Args:
        setup: The run's options.
        dtype: The run's.
        stirred: A seed, by which each value is moved by one unit in the last place.

    Returns:
        Tensors by their canonical names.

    Examples:
        >>> sorted(weights_of(Setup(), "float64"))
        ['head/bias', 'head/kernel', 'hidden/bias', 'hidden/kernel']
    """
    shapes = SHAPES[setup.model]
    if setup.model == "recurrent" and setup.cell == "gru":
        shapes = _GRU | _HEAD
    generator, found = np.random.default_rng(7), {}
    for name, shape in shapes.items():
        value = generator.normal(size=shape)
        fan = int(np.prod(shape[:-1])) if len(shape) > 1 else 0
        if name.endswith("scale"):
            value = 1 + 0.25 * value
        elif fan and not name.endswith("table"):
            value /= np.sqrt(fan)
        elif not fan:
            value *= 0.25
        found[name] = value.astype(dtype)
    if stirred is not None:
        noise = np.random.default_rng(stirred)
        found = {name: stir(value, noise, dtype) for name, value in found.items()}
    return found
