"""Mistakes in the optimizer's update."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from parity import nn
from parity.mistakes.mistake import (
    ChangesNothing,
    Local,
    Mistake,
    Unplanted,
    float64_alone,
    has_decay,
    has_momentum,
)
from parity.mistakes.planting import batches, on_optimizer, one_by_one
from parity.mistakes.stepwise import Stepwise, honest, on_step
from parity.recording.steps import Phase, Step
from parity.spec import AdamW, Case, Optimizer, Sgd, decay_of
from parity.trainer import Build, State, Trainer
from parity.typing import Array


def velocity(rule: Sgd, name: str, d: Array, state: State, share: float = 1.0) -> Array:
    """Add ``share`` of a step direction to the momentum buffer; without momentum return the direction itself."""
    if not rule.momentum:
        return d
    slot = f"momentum/{name}"
    b = state.slots[slot] = rule.momentum * state.slots[slot] + share * d
    return b


def decoupled_decay(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    shrunk = p - rule.learning_rate * rule.weight_decay * p
    return shrunk - rule.learning_rate * velocity(rule, name, g, state)


def through_the_gradient(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
    """Let the decay go through the gradient, unless the slots of a first update show that it does already.

    AdamW's decay never does.
    """
    if has_decay(case, AdamW):
        return Stepwise(build(case, dtype, device), case, dtype, rule=decay_in_the_moments)
    if not has_momentum(case):
        return ChangesNothing("without a velocity both decays are the same")
    trainer, rows = build(case, dtype, device), next(one_by_one(case.schedule, len(case.data().x)))
    start = trainer.export()
    trainer.train([(rows,)])
    own = trainer.export().slots_at(1.0)
    trainer.load(start)
    mistaken = Stepwise(trainer, case, dtype)
    mistaken.train([(rows,)])
    other = mistaken.export().slots
    mistaken.load(start)
    # A decay that the velocity lacks is far more than rounding.
    near = (np.allclose(own[name], value, 1e-3, 1e-3 * np.abs(value).max()) for name, value in other.items())
    return ChangesNothing("the decay goes through the gradient already") if all(near) else mistaken


def decay_in_the_moments(rule: AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    return nn.adam(replace(rule, weight_decay=0.0), name, p, g + rule.weight_decay * p, state)


def decay_without_the_rate(rule: Sgd | AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    if isinstance(rule, AdamW):
        return nn.adam(replace(rule, weight_decay=0.0), name, p - rule.weight_decay * p, g, state)
    return p - rule.weight_decay * p - rule.learning_rate * velocity(rule, name, g, state)


def has_decayed_biases(case: Case) -> bool:
    return any(decay_of(case.optimizer, name) for name in case.initial() if name.endswith("bias"))


def decay_of_weights_alone(rule: Sgd | AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    return honest(replace(rule, weight_decay=0.0) if name.endswith("bias") else rule, name, p, g, state)


def dampened(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    d = g + rule.weight_decay * p
    return p - rule.learning_rate * velocity(rule, name, d, state, share=1 - rule.momentum)


def dampened_but_the_first(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    """As torch dampens: the first gradient enters the velocity whole."""
    d, share = g + rule.weight_decay * p, 1.0 if state.step == 1 else 1 - rule.momentum
    return p - rule.learning_rate * velocity(rule, name, d, state, share=share)


def nesterov(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    d = g + rule.weight_decay * p
    return p - rule.learning_rate * (d + rule.momentum * velocity(rule, name, d, state))


def no_momentum(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    return p - rule.learning_rate * (g + rule.weight_decay * p)


def has_several_updates(case: Case) -> bool:
    return case.epochs * batches(case) > 1


def not_zeroed(rule: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
    slot = f"accumulated_gradient/{name}"
    total = state.slots[slot] = g + state.slots.get(slot, 0)
    return honest(rule, name, p, total, state)


def added_up(step: Step, before: Step | None, optimizer: Optimizer | None) -> list[Step]:
    """Add the gradients to those of the step before."""
    if before is None:
        return []
    found = {name: g + before.gradients[name] for name, g in step.gradients.items() if name in before.gradients}
    return [replace(step, gradients=found)]


FALL = 0.1
"""The factor by which a learning rate falls at a step of its schedule, the default of torch and of most listings."""


def falls_early(build: Build, case: Case, dtype: str, device: str, folded: bool) -> Trainer:
    """Let a rate fall before the last epoch instead of after it; ``folded`` keeps the old rate in the velocity."""
    constant = (case.epochs - 1) * batches(case)

    def rule(optimizer: Any, name: str, p: Array, g: Array, state: State) -> Array:
        if state.step <= constant:
            return honest(optimizer, name, p, g, state)
        if folded:
            d = g + optimizer.weight_decay * p
            return p - optimizer.learning_rate * velocity(optimizer, name, d, state, share=FALL)
        return honest(replace(optimizer, learning_rate=FALL * optimizer.learning_rate), name, p, g, state)

    return Stepwise(build(case, dtype, device), case, dtype, rule=rule)


def float32_rate(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
    if dtype != "float64":
        return float64_alone(dtype)
    rate = float(np.float32(case.optimizer.learning_rate))
    if rate == case.optimizer.learning_rate:
        return ChangesNothing(f"float32 has the learning rate {rate} as it is")
    return build(replace(case, optimizer=replace(case.optimizer, learning_rate=rate)), dtype, device)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="decoupled-weight-decay",
        phase=Phase.UPDATE,
        sentence="The weight decay shrinks the parameters beside the momentum instead of going through the gradient.",
        reference="pytorch/pytorch#13801: C++ SGD decayed beside the momentum, Python SGD through the gradient",
        applies=lambda case: has_decay(case) and has_momentum(case),
        how=on_step(rule=decoupled_decay),
    ),
    Mistake(
        name="weight-decay-through-the-gradient",
        phase=Phase.UPDATE,
        sentence=(
            "The weight decay goes through the gradient, as an L2 penalty's does, instead of shrinking the parameters."
        ),
        reference="keras-team/keras#19051; pytorch/pytorch#38767",
        applies=has_decay,
        how=through_the_gradient,
    ),
    Mistake(
        name="weight-decay-without-learning-rate",
        phase=Phase.UPDATE,
        sentence="The weight decay shrinks the parameters by itself, not multiplied by the learning rate.",
        reference="pytorch/pytorch#3740; egg-west/AdamW-pytorch#1",
        applies=has_decay,
        how=on_step(rule=decay_without_the_rate),
    ),
    Mistake(
        name="weight-decay-not-on-biases",
        phase=Phase.UPDATE,
        sentence="The weight decay leaves the biases out.",
        reference="d2l-ai/d2l-en#2284; ultralytics/yolov5#4104",
        applies=has_decayed_biases,
        how=on_step(rule=decay_of_weights_alone),
    ),
    Mistake(
        name="weight-decay-missing",
        phase=Phase.UPDATE,
        sentence="There is no weight decay.",
        reference="ml-explore/mlx#473: a decay that had no effect without momentum",
        applies=has_decay,
        how=on_optimizer(lambda rule: replace(rule, weight_decay=0.0)),
    ),
    Mistake(
        name="weight-decay-doubled",
        phase=Phase.UPDATE,
        sentence=(
            "The weight decay counts twice, because a penalty without the factor one half has twice the derivative."
        ),
        reference="tensorpack/tensorpack#1381; titu1994/DenseNet#57; mlcommons/hpc#22",
        applies=partial(has_decay, kind=Sgd),
        how=on_optimizer(lambda rule: replace(rule, weight_decay=2 * rule.weight_decay)),
    ),
    Mistake(
        name="momentum-dampened",
        phase=Phase.UPDATE,
        sentence="A gradient enters the velocity times one minus the momentum.",
        reference="torch/optim#163; HIPS/autograd#289",
        applies=has_momentum,
        how=on_step(rule=dampened),
    ),
    Mistake(
        name="momentum-dampened-but-for-the-first-gradient",
        phase=Phase.UPDATE,
        sentence="Every gradient but the first enters the velocity times one minus the momentum, as torch dampens.",
        reference="pytorch/pytorch#152833; ml-explore/mlx#473: the first gradient enters the velocity whole",
        applies=lambda case: has_momentum(case) and has_several_updates(case),
        how=on_step(rule=dampened_but_the_first),
    ),
    Mistake(
        name="nesterov-momentum",
        phase=Phase.UPDATE,
        sentence="The momentum is Nesterov's.",
        reference="PyTorch documentation, SGD(nesterov)",
        applies=has_momentum,
        how=on_step(rule=nesterov),
    ),
    Mistake(
        name="momentum-missing",
        phase=Phase.UPDATE,
        sentence="There is no momentum.",
        reference="PyTorch documentation, SGD(momentum=0): none by default",
        applies=has_momentum,
        how=on_step(rule=no_momentum),
    ),
    Mistake(
        name="learning-rate-folded-into-the-velocity",
        phase=Phase.UPDATE,
        sentence="The velocity keeps gradients times the learning rates of their time, which has changed since.",
        reference="PyTorch documentation, SGD, note on Sutskever's form; apache/mxnet#15533; paiml/aprender#2190",
        applies=has_momentum,
        at_the_end=True,
        how=partial(falls_early, folded=True),
    ),
    Mistake(
        name="learning-rate-a-decay-step-off",
        phase=Phase.UPDATE,
        sentence="The learning rate falls to a tenth an epoch early.",
        reference="huggingface/pytorch-image-models#2753; huggingface/pytorch-image-models#2745",
        at_the_end=True,
        how=partial(falls_early, folded=False),
    ),
    Mistake(
        name="float32-learning-rate",
        phase=Phase.UPDATE,
        sentence="In a float64 run the learning rate passes through float32.",
        reference="tinygrad/tinygrad#4297; LBANN/lbann#1979: a rate kept in less precision than it is used in",
        how=float32_rate,
    ),
    # Mistakes in the state that one step leaves the next.
    Mistake(
        name="gradient-not-zeroed",
        phase=Phase.STATE,
        sentence="Gradients are not zeroed between updates and add up.",
        reference="pytorch/pytorch#47175; meta-pytorch/torchforge#71",
        applies=has_several_updates,
        how=on_step(rule=not_zeroed),
        local=Local(Phase.GRADIENT, added_up),
    ),
)
