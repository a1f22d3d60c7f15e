"""The field's runs in PyTorch: losses, optimizers and the loop, recorded in either way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from parity.proving.field.setup import (
    CLASS_WEIGHTS,
    DEEP,
    OUTPUTS,
    SHADOWS,
    UPDATES,
    WATCHED_DEEP,
    WATCHED_UPDATES,
    Setup,
    batches,
    data_of,
    weights_of,
)
from parity.proving.field.torch_models import build
from parity.recorder import Recorder
from parity.spec import Optimizer
from parity.watching import watch


def loss_of(setup: Setup, prediction: Any, y: Any) -> Any:
    """The loss of a batch, a number."""
    if setup.loss == "huber":
        value = functional.smooth_l1_loss(prediction, y, beta=setup.delta)
        return value if setup.delta_divides else value * setup.delta
    if setup.loss == "absolute":
        return functional.l1_loss(prediction, y)
    if setup.loss == "divergence":
        sums = functional.kl_div(prediction.log_softmax(-1), y, reduction="sum")
        return sums / (y.numel() if setup.reduction == "elements" else len(y))
    if setup.loss == "classes":
        if setup.shifted:
            prediction, y = prediction[:, :-1], y[:, 1:]
        return crossentropy(setup, prediction.flatten(0, -2), y.flatten())
    return functional.mse_loss(prediction, y, reduction=setup.reduction)


def crossentropy(setup: Setup, logits: Any, labels: Any) -> Any:
    """Of logits (rows, classes) and labels (rows,)."""
    weights = torch.tensor(CLASS_WEIGHTS, dtype=logits.dtype) if setup.class_weights != "no" else None
    if setup.class_weights == "rows":
        return functional.cross_entropy(logits, labels, weights, reduction="sum") / len(labels)
    if setup.smoothing and setup.smoothing_over == "others":
        others = setup.smoothing / (OUTPUTS - 1)
        targets = torch.full_like(logits, others).scatter(1, labels[:, None], 1 - setup.smoothing)
        return functional.cross_entropy(logits, targets)
    ignore = -100 if setup.ignored == "no" else 0
    if setup.ignored == "counted":
        return functional.cross_entropy(logits, labels, ignore_index=ignore, reduction="sum") / len(labels)
    return functional.cross_entropy(logits, labels, weights, ignore_index=ignore, label_smoothing=setup.smoothing)


def optimizer_of(setup: Setup, model: Any) -> Any:
    """The optimizer as PyTorch has it, with the numbers of the setup."""
    optim, kernels = torch.optim, [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    others = [p for p in model.parameters() if p.ndim < 2 and p.requires_grad]
    decay = 0.0 if setup.decay_by == "itself" else setup.decay
    groups = [{"params": [*kernels, *others], "weight_decay": decay}]
    if setup.decay_on == "kernels":
        groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    rate, epsilon = setup.rate_at(0), setup.epsilon
    if setup.optimizer == "adam":
        decoupled = optim.Adam if setup.decay_by == "gradient" else optim.AdamW
        return decoupled(groups, rate, eps=epsilon, amsgrad=setup.variant == "amsgrad")
    if setup.optimizer == "rmsprop":
        return optim.RMSprop(groups, rate, alpha=0.9, eps=epsilon)
    if setup.optimizer == "adagrad":
        return optim.Adagrad(groups, rate, initial_accumulator_value=setup.accumulator, eps=epsilon)
    if setup.optimizer == "nadam":
        return optim.NAdam(groups, rate, eps=epsilon)
    return optim.SGD(groups, rate, setup.momentum, setup.dampening, nesterov=setup.nesterov)


def clipped(setup: Setup, model: Any) -> None:
    """Clip the gradients where they are."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    if setup.clip == "value":
        torch.nn.utils.clip_grad_value_(parameters, setup.clipped_to / 8)
    elif setup.clip:
        parts = [[p] for p in parameters] if setup.clip == "tensor" else [parameters]
        scaled = 1024 if setup.clip == "scaled" else 1
        for part in parts:
            norm = torch.sqrt(sum((p.grad * scaled).square().sum() for p in part))
            factor = torch.clamp(setup.clipped_to / norm, max=1)
            for p in part:
                p.grad.mul_(factor)


def run(
    folder: Path,
    setup: Setup,
    dtype: str,
    by_hand: bool,
    stirred: int | None = None,
    said: Optimizer | None = None,
) -> None:
    """Train and record.

    Args:
        folder: Where the recording goes.
        setup: The run's options.
        dtype: The run's.
        by_hand: Whether ``Recorder`` records it, or else ``watch``.
        stirred: A seed, if the run is a repetition whose initial weights are stirred.
        said: What ``Recorder`` is told of the optimizer.
    """
    torch.set_num_threads(1)
    data, model = data_of(setup, dtype), build(setup, weights_of(setup, dtype, stirred), dtype)
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    optimizer = optimizer_of(setup, model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: setup.rate_at(k) / setup.rate_at(0))

    def backward(rows: Any) -> tuple[Any, Any]:
        """The loss and the prediction, with gradients as the optimizer gets them."""
        if setup.zeroed:
            optimizer.zero_grad()
        losses, predictions = [], []
        for part in rows.chunk(setup.parts):
            prediction = model(x[part])
            loss = loss_of(setup, prediction, y[part])
            (loss / setup.parts if setup.parts_joined == "mean" else loss).backward()
            losses.append(loss.detach())
            predictions.append(prediction.detach())
        clipped(setup, model)
        total = torch.stack(losses).sum() if setup.parts_joined == "loss" else torch.stack(losses).mean()
        return (loss if setup.parts == 1 else total), torch.cat(predictions)

    def update() -> None:
        optimizer.step()
        if setup.decay_by == "itself":
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1 - setup.decay)

    rows = [torch.tensor(batch) for batch in batches(UPDATES if by_hand else WATCHED_UPDATES)]
    if by_hand:
        recorder = Recorder(folder, dtype, implementation="torch", deep=DEEP, optimizer=said)
        _by_hand(recorder, model, rows, backward, update, scheduler.step)
        return
    with watch(folder, model, optimizer, shadows=SHADOWS, deep=WATCHED_DEEP) as recording:
        for batch in rows:

            def closure(batch: Any = batch) -> Any:
                loss, _ = backward(batch)
                update()
                return loss

            recording.step(closure, rows=batch)
            scheduler.step()


def _by_hand(
    recorder: Recorder,
    model: Any,
    rows: list[Any],
    backward: Callable[[Any], tuple[Any, Any]],
    update: Callable[[], None],
    after: Callable[[], None],
) -> None:
    def state() -> dict[str, Any]:
        buffers = {name: b for name, b in model.named_buffers() if name.split(".")[-1].startswith("running")}
        return {name: value.detach().clone() for name, value in (dict(model.named_parameters()) | buffers).items()}

    with recorder as recording:
        recording.snapshot(state())
        for batch in rows:
            begun = state()  # before the forward pass, which moves running statistics
            loss, prediction = backward(batch)
            gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            recording.step(loss, rows=batch, prediction=prediction, gradients=gradients, params=begun)
            update()
            recording.snapshot(state())
            after()
