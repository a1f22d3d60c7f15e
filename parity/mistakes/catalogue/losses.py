"""Mistakes in the loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from parity import nn
from parity.mistakes.in_torch import torch_loss
from parity.mistakes.mistake import (
    CannotBePlanted,
    ChangesNothing,
    Gradients,
    Local,
    Mistake,
    Unplanted,
    has_classes,
    has_decay,
    of_loss,
)
from parity.mistakes.pieces import with_loss
from parity.mistakes.planting import batches, either, on_case, one_by_one
from parity.mistakes.stepwise import Stepwise, on_step
from parity.recording.steps import Phase, Step
from parity.spec import Case, Optimizer, Sgd, decay_of
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trainer import Build, Trainer
from parity.trainers.numpy_trainer import NumpyTrainer
from parity.typing import Array, Params


def reduces_by(case: Case, reduction: str) -> bool:
    return case.loss.reduction == reduction


def other_reduction(case: Case, wanted: Literal["sum", "mean"]) -> Case | Unplanted:
    data = case.data()
    rows = max(len(rows) for rows in itertools.islice(one_by_one(case.schedule, len(data.x)), batches(case)))
    if rows == 1 and data.y[:1].size == 1 and case.loss.kind != "total":
        return ChangesNothing("the mean over one value is its sum")
    return replace(case, loss=replace(case.loss, reduction=wanted))


def scaled(factor: float) -> Callable[..., tuple[float, Params]]:
    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        return loss * factor, {name: g * factor for name, g in found.items()}

    return evaluate


def means_over_classes(case: Case) -> bool:
    return has_classes(case) and case.loss.reduction == "mean"


def over_classes(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    trainer = build(case, dtype, device)
    classes = trainer.predict(case.data().x[:1]).shape[-1]
    return Stepwise(trainer, case, dtype, evaluate=scaled(1 / classes))


def has_single_targets(case: Case) -> bool:
    return case.loss.kind == "squared_error" and case.data().y.shape[1:] == (1,)


def broadcast(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
    """Hold every prediction against every target: (ŷᵢ - yⱼ)² over all j is n ((ŷᵢ - ȳ)² + variance of y)."""
    if len(next(one_by_one(case.schedule, len(case.data().x)))) == 1:
        return ChangesNothing("one prediction meets one target")

    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, np.full_like(y, y.mean()))
        if case.loss.reduction == "mean":
            return loss + y.var(), found
        n = len(y)
        return n * (loss + n * y.var()), {name: n * g for name, g in found.items()}

    return Stepwise(build(case, dtype, device), case, dtype, evaluate=evaluate)


def penalty_in_the_loss(gradients: Gradients, params: Params, x: Array, y: Array, case: Case) -> tuple[float, Params]:
    loss, found = gradients(x, y)
    decays = {name: decay_of(case.optimizer, name) if isinstance(case.optimizer, Sgd) else 0.0 for name in params}
    return loss + sum(decays[name] / 2 * float((p * p).sum()) for name, p in params.items()), found


def with_penalty(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    return Stepwise(build(case, dtype, device), case, dtype, evaluate=partial(penalty_in_the_loss, case=case))


SMOOTHING = 0.1


def smoothed(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        return gradients(x, y * (1 - SMOOTHING) + SMOOTHING / 2)

    how = with_loss(smoothed_classes) if has_classes(case) else on_step(evaluate=evaluate)
    return how(build, case, dtype, device)


def smoothed_classes(loss: nn.Loss) -> nn.Loss:
    """Spread a share of each target over all classes: that share of the loss becomes the mean over all targets."""

    def mistaken(prediction: Array, y: Array) -> tuple[Array, Array]:
        classes = prediction.shape[-1]
        losses, derivative = loss(prediction, y)
        losses, derivative = (1 - SMOOTHING) * losses, (1 - SMOOTHING) * derivative
        for other in range(classes):
            more, d_more = loss(prediction, np.full_like(y, other))
            losses, derivative = losses + SMOOTHING / classes * more, derivative + SMOOTHING / classes * d_more
        return losses, derivative

    return mistaken


def log_with_epsilon(loss: nn.Loss) -> nn.Loss:
    def mistaken(p: Array, y: Array) -> tuple[Array, Array]:
        inside, outside = p + 1e-7, 1 - p + 1e-7
        return -y * np.log(inside) - (1 - y) * np.log(outside), (1 - y) / outside - y / inside

    return mistaken


def unclamped(p: Array, y: Array) -> tuple[Array, Array]:
    """Compute the binary cross-entropy as it is written down, which is NaN at a probability of 0 or 1."""
    return -y * np.log(p) - (1 - y) * np.log(1 - p), (1 - y) / (1 - p) - y / p


CLAMPED_STEPS = 200
"""This many updates are searched for a probability that the clamps of the loss touch."""


def unclamped_value(p: Array, y: Array) -> tuple[Array, Array]:
    """The same loss, with the derivative that a sigmoid's derivative turns into p - y, which needs no clamp."""
    return unclamped(p, y)[0], nn.binary_crossentropy(p, y)[1]


def without_clamp(build: Build, case: Case, dtype: str, device: str, loss: nn.Loss = unclamped) -> Trainer | Unplanted:
    """Drop the clamps, if training meets a probability that they touch: else the formula is the same."""
    trainer = build(case, dtype, device)
    if not isinstance(trainer, NumpyTrainer):
        return CannotBePlanted("it is made in the pieces of a NumPy model")
    data, start = case.data(), trainer.export()
    steps = min(CLAMPED_STEPS, case.epochs * batches(case))
    for rows in itertools.islice(one_by_one(case.schedule, len(data.x)), steps):
        p = trainer.predict(data.x[rows]).astype(np.float64)  # a float16 would make 0 of the bound
        if np.any(p * (1 - p) < 1e-12):
            trainer.load(start)
            trainer.loss = np.errstate(all="ignore")(loss)
            return trainer
        trainer.train([(rows,)])
    return ChangesNothing(f"no probability of the first {steps} updates is as near to 0 or 1 as the clamps")


def softmax_over_rows(loss: nn.Loss) -> nn.Loss:
    def mistaken(logits: Array, y: Array) -> tuple[Array, Array]:
        log_p, targets = nn.log_softmax(logits, 0), (*np.indices(y.shape), y)
        chosen = np.zeros_like(log_p)
        chosen[targets] = 1
        return -log_p[targets], np.exp(log_p) * chosen.sum(0) - chosen

    return mistaken


def of_a_sigmoid(loss: nn.Loss) -> nn.Loss:
    def mistaken(p: Array, y: Array) -> tuple[Array, Array]:
        losses, _ = loss(nn.sigmoid(p), y)
        return losses, nn.sigmoid(p) - y

    return mistaken


# The same mistakes as functions of a recorded update.


def times(step: Step, factor: float) -> Step:
    """Multiply the loss and the gradients of a step."""
    gradients = {name: factor * g for name, g in step.gradients.items()}
    return replace(step, loss=np.asarray(factor * float(step.loss)), gradients=gradients)


def sizes(step: Step) -> tuple[int, int]:
    """Count the rows of a step, and the outputs of each."""
    rows = max(1, len(step.rows) or (len(step.prediction) if step.prediction.ndim else 1))
    return rows, max(1, step.prediction.size // rows)


FEW = 8
"""A recording that multiplies a loss by no more than this may as well have added up workers or micro-batches, so that
its number is said and no mistake is named."""


def counts(step: Step) -> list[int]:
    """Count what a loss may be added up over: the rows, the places of all rows, and every output."""
    rows, each = sizes(step)
    last = max(1, step.prediction.shape[-1]) if step.prediction.ndim > 1 else 1
    return [count for count in dict.fromkeys((rows, rows * each // last, rows * each)) if count > FEW]


def added(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    """Add up over the rows, over the places of each or over every output."""
    return [times(step, count) for count in counts(step)]


def averaged(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    """Average over the rows, over the places of each or over every output."""
    return [times(step, 1 / count) for count in counts(step)]


def averaged_over_outputs(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    """Average over the outputs of each row, or over those of each place of it."""
    _, each = sizes(step)
    last = step.prediction.shape[-1] if step.prediction.ndim > 2 else each
    return [times(step, 1 / count) for count in dict.fromkeys((each, last)) if count > FEW]


def halved(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    return [times(step, 1 / 2)] if is_squared_error(step) else []


def is_squared_error(step: Step) -> bool:
    """Tell whether a recorded step proves that its loss is a squared error, which is not halved.

    The targets are not recorded, but the loss's gradient for the prediction may be. Of a squared error that is
    2 (prediction - target), over the number that the mean is taken of. So its square adds up to four times the loss,
    over that number again. Another loss does that by chance alone.
    """
    given = (
        gradient
        for layer, gradient in step.activation_gradients.items()
        if gradient.shape == step.prediction.shape and np.array_equal(step.activations.get(layer, ()), step.prediction)
    )
    gradient = next(given, None)
    if gradient is None or not gradient.size or not float(step.loss) > 0:
        return False
    rows, each = sizes(step)
    square = float(np.sum(np.square(gradient, dtype=np.float64))) / (4 * float(step.loss))
    allowed = FACTOR * ROUNDINGS * float(np.finfo(step.prediction.dtype).eps)
    return any(abs(count * square - 1) <= allowed for count in (1, rows, rows * each))


def penalized(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    """Add the penalty of all parameters, or of all but biases, to the loss alone or to the gradients as well."""
    decay = optimizer.weight_decay if isinstance(optimizer, Sgd) else 0.0
    params = {name: p for name, p in step.before.params.items() if name in step.gradients}
    squares = {name: float(np.sum(np.square(p, dtype=np.float64))) for name, p in params.items()}
    found = []
    for names in (list(params), [name for name in params if not name.endswith("bias")]) if decay else ():
        loss = np.asarray(float(step.loss) + decay / 2 * sum(squares[name] for name in names))
        through = {name: step.gradients[name] + decay * params[name] for name in names}
        found += [replace(step, loss=loss), replace(step, loss=loss, gradients=step.gradients | through)]
    return found


def torch_log_with_epsilon(torch: Any, p: Any, y: Any) -> Any:
    return -y * torch.log(p + 1e-7) - (1 - y) * torch.log(1 - p + 1e-7)


def torch_softmax_over_rows(torch: Any, logits: Any, y: Any) -> Any:
    return -torch.log_softmax(logits, 0).gather(-1, y[..., None])


def torch_of_a_sigmoid(torch: Any, p: Any, y: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(p, y, reduction="none")


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="mean-for-sum",
        phase=Phase.LOSS,
        sentence="The losses of a batch are averaged instead of added up.",
        reference="aymericdamien/TensorFlow-Examples#76; Open-Deep-ML/DML-OpenProblem#358",
        applies=partial(reduces_by, reduction="sum"),
        how=on_case(partial(other_reduction, wanted="mean")),
        local=Local(Phase.LOSS, averaged),
    ),
    Mistake(
        name="sum-for-mean",
        phase=Phase.LOSS,
        sentence="The losses of a batch are added up instead of averaged.",
        reference="pytorch/pytorch#10148; pytorch/pytorch#12933",
        applies=partial(reduces_by, reduction="mean"),
        how=on_case(partial(other_reduction, wanted="sum")),
        local=Local(Phase.LOSS, added),
    ),
    Mistake(
        name="mean-over-classes",
        phase=Phase.LOSS,
        sentence="The loss is averaged over a row's outputs, too, as over the classes, instead of over the rows alone.",
        reference="PyTorch documentation, KLDivLoss: 'mean' divides by all elements, 'batchmean' by the rows",
        applies=means_over_classes,
        how=over_classes,
        local=Local(Phase.LOSS, averaged_over_outputs),
    ),
    Mistake(
        name="half-squared-error",
        phase=Phase.LOSS,
        sentence="The squared error is halved.",
        reference="BVLC/caffe#2176; davisking/dlib#1169",
        applies=of_loss("squared_error"),
        how=on_step(evaluate=scaled(0.5)),
        local=Local(Phase.LOSS, halved),
    ),
    Mistake(
        name="broadcast-targets",
        phase=Phase.LOSS,
        sentence="Predictions (n, 1) meet targets (n,), and every prediction is held against every target.",
        reference="pytorch/pytorch#16045; pytorch/pytorch#19699",
        applies=has_single_targets,
        how=broadcast,
    ),
    Mistake(
        name="log-without-clamp",
        phase=Phase.LOSS,
        sentence="The binary cross-entropy takes its logarithms as they are, of 0, too, and becomes NaN.",
        reference="ml-explore/mlx#1280; zylo117/Yet-Another-EfficientDet-Pytorch#717",
        applies=of_loss("binary_crossentropy"),
        how=without_clamp,
    ),
    Mistake(
        name="log-without-clamp-beside-its-gradient",
        phase=Phase.LOSS,
        sentence=(
            "The binary cross-entropy takes its logarithms as they are and becomes NaN; its gradient, by hand, "
            "does not."
        ),
        reference="rasbt/python-machine-learning-book-2nd-edition#49; jdwittenauer/ipython-notebooks#8",
        applies=of_loss("binary_crossentropy"),
        how=partial(without_clamp, loss=unclamped_value),
    ),
    Mistake(
        name="log-with-epsilon",
        phase=Phase.LOSS,
        sentence="The binary cross-entropy adds 1e-7 inside its logarithms instead of clamping them.",
        reference="TensorFlow documentation, tf.compat.v1.losses.log_loss(epsilon=1e-7); pytorch/pytorch#4867",
        applies=of_loss("binary_crossentropy"),
        how=either(with_loss(log_with_epsilon), torch_loss(torch_log_with_epsilon)),
        pieces_of=("torch",),
    ),
    Mistake(
        name="label-smoothing",
        phase=Phase.LOSS,
        sentence="A tenth of every target is spread over all classes.",
        reference="scikit-adaptation/skada#279",
        applies=of_loss("crossentropy", "nll", "binary_crossentropy"),
        how=smoothed,
    ),
    Mistake(
        name="softmax-over-the-batch",
        phase=Phase.LOSS,
        sentence="The loss's softmax runs over the rows of a batch instead of the classes.",
        reference="perone/euclidesdb#2; DeepReinforcementLearning/DeepReinforcementLearningInAction#32",
        applies=of_loss("crossentropy"),
        how=either(with_loss(softmax_over_rows), torch_loss(torch_softmax_over_rows)),
        pieces_of=("torch",),
    ),
    Mistake(
        name="sigmoid-before-a-with-logits-loss",
        phase=Phase.LOSS,
        sentence="A probability goes into a loss that takes a logit and applies a sigmoid of its own.",
        reference="yudi-mars/daisyRec#15; itakurah/focal-loss-pytorch#5",
        applies=of_loss("binary_crossentropy"),
        how=either(with_loss(of_a_sigmoid), torch_loss(torch_of_a_sigmoid)),
        pieces_of=("torch",),
    ),
    Mistake(
        name="weight-decay-in-the-reported-loss",
        phase=Phase.LOSS,
        sentence="The reported loss has the penalty of the weight decay added.",
        reference="Keras documentation, Layer weight regularizers: penalties are summed into the loss",
        applies=partial(has_decay, kind=Sgd),
        how=with_penalty,
        local=Local(Phase.LOSS, penalized),
    ),
)
