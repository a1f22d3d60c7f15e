"""Losses as every framework defines them, and how a batch's losses become one number.

What is divided by the wrong number of rows trains with another learning rate, so the denominator of a mean is an
argument here: ``rows`` counts them all, ``counted`` those that are not ignored, ``nonzero`` those whose weight is not
0, and ``weights`` adds the weights up.

Each loss is that of an element or of a row; ``cross_entropy`` and ``negative_log_likelihood`` may reduce them, for in
torch the denominator follows from the labels. All compute in the dtype of their first argument.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from parity.nn.activations import log_softmax, softplus
from parity.typing import Array

Reduction = Literal["none", "sum", "mean"]
"""What is made of the losses of rows or elements."""


def reduced(
    losses: Array,
    weights: Array | None = None,
    *,
    reduction: Reduction,
    denominator: Literal["rows", "nonzero", "weights"] = "rows",
) -> Array:
    """Weigh losses and make one number of them.

    Keras divides by all rows unless told otherwise, TF1 by those whose weight is not 0. JAX has no reduction at all:
    whoever calls it takes the mean, which is that of rows.

    Args:
        losses: Any shape and dtype.
        weights: A weight for each, of the same shape; none weigh 1.
        reduction: ``none`` gives the weighted losses, ``sum`` adds them up, ``mean`` divides the sum.
        denominator: What the sum is divided by.

    Returns:
        The losses of the same shape, or their sum or mean, of shape ``()``.

    Source:
        The documentation of ``keras.losses.Loss`` and ``tf.compat.v1.losses.Reduction``.

    Examples:
        >>> losses, weights = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, 0.5])
        >>> counts = "rows", "nonzero", "weights"
        >>> [float(reduced(losses, weights, reduction="mean", denominator=count).round(3)) for count in counts]
        [0.667, 1.0, 2.0]
    """
    weights = np.ones_like(losses) if weights is None else weights
    weighted = losses * weights
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    count = {"rows": weights.size, "nonzero": int(np.count_nonzero(weights)), "weights": weights.sum()}[denominator]
    return weighted.sum() / count


def binary_cross_entropy(
    probabilities: Array,
    targets: Array,
    *,
    least_log: float = -np.inf,
    clip: float = 0.0,
    epsilon: float = 0.0,
) -> Array:
    """Give -y log p - (1 - y) log (1 - p) of each element.

    Each framework keeps the logarithm from infinity in a way of its own: torch cuts it at -100, Keras keeps p within
    1e-7 of 0 and 1, and TF1's ``log_loss`` adds 1e-7 to what it takes the logarithm of.

    Args:
        probabilities: p, between 0 and 1, of any shape and dtype.
        targets: y, between 0 and 1, of the same shape.
        least_log: The least value that a logarithm has.
        clip: How far p is kept from 0 and 1.
        epsilon: Added to what a logarithm is taken of.

    Returns:
        The loss of each element, of the same shape.

    Source:
        The documentation of ``torch.nn.BCELoss``.

    Examples:
        >>> binary_cross_entropy(np.array([0.0, 0.5]), np.array([1.0, 1.0]), least_log=-100.0).round(3)
        array([100.   ,   0.693])
    """
    p = np.clip(probabilities, clip, 1 - clip)
    with np.errstate(divide="ignore"):
        yes, no = (np.maximum(np.log(one + epsilon), least_log) for one in (p, 1 - p))
    return -targets * yes - (1 - targets) * no


def binary_cross_entropy_with_logits(
    logits: Array, targets: Array, *, positive_weight: float = 1.0, smoothing: float = 0.0
) -> Array:
    """Give -w y log σ(z) - (1 - y) log (1 - σ(z)) of each element, which no logit makes infinite.

    Args:
        logits: z, of any shape and dtype.
        targets: y, between 0 and 1, of the same shape.
        positive_weight: w, the weight of what is there against what is not.
        smoothing: How far targets are drawn towards 1/2: y (1 - smoothing) + smoothing / 2.

    Returns:
        The loss of each element, of the same shape.

    Source:
        The documentation of ``tf.nn.weighted_cross_entropy_with_logits``.

    Examples:
        >>> binary_cross_entropy_with_logits(np.array([0.0, 1000.0]), np.array([1.0, 0.0])).round(3)
        array([6.93e-01, 1.00e+03])
    """
    y = targets * (1 - smoothing) + smoothing / 2
    return positive_weight * y * softplus(-logits) + (1 - y) * softplus(logits)


def cross_entropy(
    logits: Array,
    labels: Array,
    class_weights: Array | None = None,
    *,
    smoothing: float = 0.0,
    ignored: int | None = None,
    reduction: Reduction = "mean",
    denominator: Literal["weights", "counted", "rows"] = "weights",
    rows_weighted: bool = False,
) -> Array:
    """Give -log of the probability that a softmax gives to each row's class, weighted and smoothed.

    torch divides a mean by the weights of the rows' classes. Keras and TF1 know no weights of classes but those of
    rows, by which a smoothed row is weighted as a whole (``rows_weighted``); they divide by the rows that are not
    ignored, and so does whoever takes the mean of optax's losses, if nothing is ignored.

    Args:
        logits: ``(rows, classes)``, of any dtype.
        labels: ``(rows,)``, integers: each row's class.
        class_weights: ``(classes,)``; none weigh 1.
        smoothing: The share of each row's probability that is spread evenly over all classes.
        ignored: The label of rows that add nothing.
        reduction: ``none`` gives each row's loss, 0 where it is ignored; ``sum`` adds them up, ``mean`` divides the
            sum.
        denominator: What the sum is divided by: the weights of the classes of the rows that count, their number, or
            that of all rows.
        rows_weighted: Whether a row's smoothed loss has the weight of its class; else each class that the smoothing
            gives a share to has its own.

    Returns:
        ``(rows,)``, or a number of shape ``()``.

    Source:
        Szegedy et al. 2016, "Rethinking the Inception architecture", section 7, for smoothing; the documentation of
        ``torch.nn.CrossEntropyLoss`` for the rest.

    Examples:
        >>> logits, labels = np.zeros((2, 4)), np.array([0, 1])
        >>> float(cross_entropy(logits, labels).round(6))
        1.386294
    """
    share, weights = _shares(logits, labels, class_weights, smoothing, ignored, rows_weighted)
    losses = -(share * log_softmax(logits)).sum(-1)  # (rows,)
    return losses if reduction == "none" else losses.sum() / _count(weights, labels, ignored, reduction, denominator)


def cross_entropy_backward(
    d_output: Array,
    logits: Array,
    labels: Array,
    class_weights: Array | None = None,
    *,
    smoothing: float = 0.0,
    ignored: int | None = None,
    reduction: Reduction = "mean",
    denominator: Literal["weights", "counted", "rows"] = "weights",
    rows_weighted: bool = False,
) -> Array:
    """Give the gradient of the logits.

    Args:
        d_output: The gradient of what ``cross_entropy`` gave, ``(rows,)`` or ``()``.
        logits: As in ``cross_entropy``, like all that follows.
        labels: Each row's class.
        class_weights: The weights of classes.
        smoothing: The share that is spread evenly.
        ignored: The label of rows that add nothing.
        reduction: What was made of the rows' losses.
        denominator: What the sum was divided by.
        rows_weighted: Whether a row has the weight of its class.

    Returns:
        ``(rows, classes)``.

    Source:
        The derivative of ``cross_entropy``: softmax less the target, in its simplest case.

    Examples:
        >>> cross_entropy_backward(np.array(1.0), np.zeros((1, 2)), np.array([0]))
        array([[-0.5,  0.5]])
    """
    share, weights = _shares(logits, labels, class_weights, smoothing, ignored, rows_weighted)
    gradient = np.exp(log_softmax(logits)) * share.sum(-1, keepdims=True) - share  # (rows, classes)
    if reduction == "none":
        return d_output[:, None] * gradient
    return d_output / _count(weights, labels, ignored, reduction, denominator) * gradient


def negative_log_likelihood(
    log_probabilities: Array,
    labels: Array,
    class_weights: Array | None = None,
    *,
    ignored: int | None = None,
    reduction: Reduction = "mean",
    denominator: Literal["weights", "counted", "rows"] = "weights",
) -> Array:
    """Give the negative of each row's entry at its class: what ``cross_entropy`` does after its logarithm.

    Args:
        log_probabilities: ``(rows, classes)``, of any dtype. Nothing here makes their exponentials add up to 1.
        labels: ``(rows,)``, integers: each row's class.
        class_weights: ``(classes,)``; none weigh 1.
        ignored: The label of rows that add nothing.
        reduction: What is made of the rows' losses.
        denominator: What the sum is divided by, as in ``cross_entropy``.

    Returns:
        ``(rows,)``, or a number of shape ``()``.

    Source:
        The documentation of ``torch.nn.NLLLoss``.

    Examples:
        >>> float(negative_log_likelihood(np.array([[-0.5, -1.0]]), np.array([1])))
        1.0
    """
    share, weights = _shares(log_probabilities, labels, class_weights, 0.0, ignored, False)
    losses = -(share * log_probabilities).sum(-1)  # (rows,)
    return losses if reduction == "none" else losses.sum() / _count(weights, labels, ignored, reduction, denominator)


def soft_cross_entropy(logits: Array, targets: Array, *, smoothing: float = 0.0) -> Array:
    """Give the cross-entropy of a distribution over classes and a softmax, of each row.

    Args:
        logits: ``(rows, classes)``, of any dtype.
        targets: ``(rows, classes)``, a distribution in each row.
        smoothing: The share of it that is spread evenly over all classes.

    Returns:
        ``(rows,)``.

    Source:
        The documentation of ``tf.nn.softmax_cross_entropy_with_logits``.

    Examples:
        >>> soft_cross_entropy(np.zeros((1, 2)), np.array([[0.25, 0.75]])).round(6)
        array([0.693147])
    """
    spread = targets * (1 - smoothing) + smoothing / logits.shape[-1]
    return -(spread * log_softmax(logits)).sum(-1)


def squared_error(prediction: Array, target: Array, *, halved: bool = False) -> Array:
    """Give the squared error of each element.

    Args:
        prediction: Any shape and dtype.
        target: The same shape.
        halved: Whether it is multiplied by 1/2, as optax's ``l2_loss`` is.

    Returns:
        The loss of each element, of the same shape.

    Source:
        The documentation of ``torch.nn.MSELoss`` and ``optax.l2_loss``.

    Examples:
        >>> squared_error(np.array([3.0]), np.array([1.0]), halved=True)
        array([2.])
    """
    return (0.5 if halved else 1) * (prediction - target) ** 2


def absolute_error(prediction: Array, target: Array) -> Array:
    """Give the absolute error of each element.

    Args:
        prediction: Any shape and dtype.
        target: The same shape.

    Returns:
        The loss of each element, of the same shape.

    Source:
        The documentation of ``torch.nn.L1Loss``.

    Examples:
        >>> absolute_error(np.array([3.0]), np.array([5.0]))
        array([2.])
    """
    return np.abs(prediction - target)


def huber(prediction: Array, target: Array, *, delta: float) -> Array:
    """Give an error's half square where it is small, and a straight line that goes on from it where it is large.

    Args:
        prediction: Any shape and dtype.
        target: The same shape.
        delta: Where the line begins, and its slope.

    Returns:
        The loss of each element, of the same shape.

    Source:
        Huber 1964, "Robust estimation of a location parameter".

    Examples:
        >>> huber(np.array([0.5, 3.0]), np.zeros(2), delta=1.0)
        array([0.125, 2.5  ])
    """
    size = np.abs(prediction - target)
    near = np.minimum(size, delta)
    return 0.5 * near**2 + delta * (size - near)


def smooth_l1(prediction: Array, target: Array, *, beta: float) -> Array:
    """Give the Huber loss over its delta: a line of slope 1, however wide the square is.

    Args:
        prediction: Any shape and dtype.
        target: The same shape.
        beta: Where the line begins.

    Returns:
        The loss of each element, of the same shape.

    Source:
        Girshick 2015, "Fast R-CNN", equation 3; the documentation of ``torch.nn.SmoothL1Loss``.

    Examples:
        >>> smooth_l1(np.array([0.5, 3.0]), np.zeros(2), beta=0.5)
        array([0.25, 2.75])
    """
    return huber(prediction, target, delta=beta) / beta


def log_cosh(prediction: Array, target: Array) -> Array:
    """Give the logarithm of the hyperbolic cosine of each error, which no error makes overflow.

    Args:
        prediction: Any shape and dtype.
        target: The same shape.

    Returns:
        The loss of each element, of the same shape.

    Source:
        The documentation of ``keras.losses.LogCosh``.

    Examples:
        >>> log_cosh(np.array([0.0, 1000.0]), np.zeros(2)).round(3)
        array([  0.   , 999.307])
    """
    size = np.abs(prediction - target)
    return size + np.log1p(np.exp(-2 * size)) - np.log(np.asarray(2, size.dtype))


def kl_divergence(predictions: Array, targets: Array, *, clip: float = 0.0) -> Array:
    """Give the divergence of each row's targets from its predictions, Σ p log (p / q).

    The order of the arguments differs, the order in the formula does not: torch and optax take the predictions'
    logarithm first, then the targets; Keras takes the targets first. torch's mean is over elements, and so is a number
    of classes smaller than the divergence, unless it is called ``batchmean``.

    Args:
        predictions: q, ``(rows, classes)``, of any dtype.
        targets: p, ``(rows, classes)``. Where it is 0, a class adds nothing.
        clip: The least value that either has, which is 1e-7 in Keras.

    Returns:
        ``(rows,)``.

    Source:
        Kullback & Leibler 1951, "On information and sufficiency", equation 2.4.

    Examples:
        >>> kl_divergence(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]])).round(6)
        array([0.693147])
    """
    q, p = (np.clip(one, clip, 1) if clip else one for one in (predictions, targets))
    return (p * (np.log(np.where(p == 0, 1, p)) - np.log(q))).sum(-1)


def hinge(prediction: Array, target: Array, *, squared: bool = False) -> Array:
    """Give how far each prediction is short of a margin of 1 on its target's side.

    Args:
        prediction: Any shape and dtype.
        target: -1 or 1, of the same shape. Keras and TF1 take 0 for -1.
        squared: Whether the loss is squared.

    Returns:
        The loss of each element, of the same shape.

    Source:
        Cortes & Vapnik 1995, "Support-vector networks"; the documentation of ``keras.losses.Hinge``.

    Examples:
        >>> hinge(np.array([0.5, -2.0]), np.array([1.0, -1.0]))
        array([0.5, 0. ])
    """
    short = np.maximum(1 - prediction * target, 0)
    return short**2 if squared else short


def multiclass_hinge(scores: Array, labels: Array, *, zero_competes: bool = False) -> Array:
    """Give how far each row's class is short of being 1 above every other.

    Args:
        scores: ``(rows, classes)``, of any dtype.
        labels: ``(rows,)``, integers: each row's class.
        zero_competes: Whether a score of 0 stands beside the others, as in Keras, which sets the score of the row's own
            class to 0 where it looks for the largest of the others.

    Returns:
        ``(rows,)``.

    Source:
        Crammer & Singer 2001, "On the algorithmic implementation of multiclass kernel-based vector machines".

    Examples:
        >>> multiclass_hinge(np.array([[-1.0, -2.0]]), np.array([0]))
        array([0.])
        >>> multiclass_hinge(np.array([[-1.0, -2.0]]), np.array([0]), zero_competes=True)
        array([2.])
    """
    own = np.arange(scores.shape[-1]) == labels[:, None]  # (rows, classes)
    others = np.where(own, 0 if zero_competes else -np.inf, scores).max(-1)
    return np.maximum(1 + others - scores[own], 0)


def cosine_similarity(x: Array, y: Array, *, epsilon: float) -> Array:
    """Give the cosine of the angle between the vectors along the last axis. Keras's loss is its negative.

    Args:
        x: ``(..., features)``, of any dtype.
        y: The same shape.
        epsilon: The least length that a vector is divided by. optax gives its square.

    Returns:
        ``(...)``.

    Source:
        The documentation of ``torch.nn.CosineSimilarity``.

    Examples:
        >>> cosine_similarity(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0]]), epsilon=0.0)
        array([0.6])
    """
    units = (one / np.maximum(np.sqrt((one**2).sum(-1, keepdims=True)), epsilon) for one in (x, y))
    return np.multiply(*units).sum(-1)


def ctc(logits: Array, labels: Array, logit_lengths: Array, label_lengths: Array, *, blank: int = 0) -> Array:
    """Give -log of the probability of all alignments of each row's labels with its steps.

    An alignment has a class or the blank at each step; equal neighbours are one, then blanks are left out. torch
    divides each row by its number of labels before it takes the mean, which no other framework does.

    Args:
        logits: ``(rows, steps, classes)``, of any dtype. torch takes logarithms of a softmax, steps first.
        labels: ``(rows, most labels)``, integers that are not the blank.
        logit_lengths: ``(rows,)``, integers: how many steps of each row count.
        label_lengths: ``(rows,)``, integers: how many labels of each row count.
        blank: The class of the blank.

    Returns:
        ``(rows,)``; infinite where the labels do not fit into the steps.

    Source:
        Graves et al. 2006, "Connectionist temporal classification", section 4.1.

    Examples:
        >>> logits = np.log(np.array([[[0.5, 0.5], [0.5, 0.5]]]))
        >>> ctc(logits, np.array([[1]]), np.array([2]), np.array([1])).round(6)  # 1 and blank, blank and 1, 1 and 1
        array([0.287682])
    """
    log_probabilities = log_softmax(logits)
    rows = zip(log_probabilities, labels, logit_lengths, label_lengths, strict=True)
    return np.array([_ctc(steps[:length], own[:count], blank) for steps, own, length, count in rows])


def _ctc(steps: Array, labels: Array, blank: int) -> Array:
    """The loss of one row, from (steps, classes) and its labels."""
    places = np.full(2 * len(labels) + 1, blank)  # a blank before, between and after the labels
    places[1::2] = labels
    # From the last label but one the alignment may leap over a blank, if the two labels are not the same.
    leaps = np.append([False, False], (places[2:] != blank) & (places[2:] != places[:-2]))
    never = np.full(2, -np.inf, steps.dtype)
    forward = np.full(places.shape, -np.inf, steps.dtype)
    forward[:2] = steps[0, places[:2]]
    for step in steps[1:]:
        before = np.concatenate([never[:1], forward[:-1]])
        leapt = np.where(leaps, np.concatenate([never, forward])[: len(places)], -np.inf)
        forward = np.logaddexp(np.logaddexp(forward, before), leapt) + step[places]
    return -np.logaddexp.reduce(forward[-2:])


def _shares(
    logits: Array,
    labels: Array,
    class_weights: Array | None,
    smoothing: float,
    ignored: int | None,
    rows_weighted: bool,
) -> tuple[Array, Array]:
    """What each class's log-probability is multiplied by, (rows, classes), and the weight of each row, (rows,)."""
    classes = logits.shape[-1]
    weights = np.ones(classes, logits.dtype) if class_weights is None else class_weights.astype(logits.dtype)
    counts = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    own = np.where(counts, labels, 0)
    target = (1 - smoothing) * np.eye(classes, dtype=logits.dtype)[own] + smoothing / classes  # (rows, classes)
    of_rows = weights[own] * counts
    return target * (of_rows[:, None] if rows_weighted else weights * counts[:, None]), of_rows


def _count(weights: Array, labels: Array, ignored: int | None, reduction: Reduction, denominator: str) -> Array:
    if reduction == "sum":
        return np.ones((), weights.dtype)
    if denominator == "weights":
        return weights.sum()
    return np.asarray(np.sum(labels != ignored) if denominator == "counted" else labels.size, weights.dtype)
