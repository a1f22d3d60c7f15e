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
    Plant,
    Unplanted,
    float64_alone,
    has_adam,
    has_decay,
    has_momentum,
)
from parity.mistakes.planting import batches, on_optimizer, one_by_one
from parity.mistakes.stepwise import Stepwise, honest, on_step
from parity.recording.steps import Phase, Step
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.trainer import Build, State, Trainer
from parity.typing import Array


def moments(rule: Adam, name: str, g: Array, state: State) -> tuple[Array, Array]:
    """Update Adam's two moments, which the state's slots hold."""
    first, second = f"first_moment/{name}", f"second_moment/{name}"
    m = state.slots[first] = rule.beta1 * state.slots[first] + (1 - rule.beta1) * g
    v = state.slots[second] = rule.beta2 * state.slots[second] + (1 - rule.beta2) * (g * g)
    return m, v


def epsilon_inside_the_root(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    m_hat, v_hat = m / (1 - rule.beta1**state.step), v / (1 - rule.beta2**state.step)
    return nn.decayed(rule, p) - rule.learning_rate * m_hat / np.sqrt(v_hat + rule.epsilon)


def _in_float32_powers(rule: Adam, state: State) -> tuple[np.float32, np.float32]:
    """Compute 1 - beta1ᵗ and 1 - beta2ᵗ in float32."""
    first, second = (np.float32(1) - np.float32(b) ** np.float32(state.step) for b in (rule.beta1, rule.beta2))
    return first, second


KERAS_EPSILON = 1e-7
"""The default epsilon of Keras's Adam."""


def _before(rule: Adam, name: str, p: Array, g: Array, state: State, first: Any, second: Any, epsilon: float) -> Array:
    """Add Adam's epsilon before the bias is corrected; ``first`` is 1 - beta1ᵗ and ``second`` 1 - beta2ᵗ."""
    m, v = moments(rule, name, g, state)
    rate = rule.learning_rate * second**0.5 / first
    return nn.decayed(rule, p) - rate * m / (np.sqrt(v) + epsilon)


def epsilon_before_the_correction(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    first, second = (1 - b**state.step for b in (rule.beta1, rule.beta2))
    return _before(rule, name, p, g, state, first, second, rule.epsilon)


def as_keras_has_it(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """Update as Keras's Adam does in a float32 run: with its epsilon, added early, and its correction in float32."""
    return _before(rule, name, p, g, state, *_in_float32_powers(rule, state), KERAS_EPSILON)


def as_keras_has_it_in_float64(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """Update as Keras's Adam does in a float64 run, but with the case's epsilon: Python's numbers become float32."""
    first, second = (1 - float(np.float32(b)) ** state.step for b in (rule.beta1, rule.beta2))
    return _before(rule, name, p, g, state, first, second, rule.epsilon)


def all_of_keras_in_float64(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    return as_keras_has_it_in_float64(replace(rule, epsilon=KERAS_EPSILON), name, p, g, state)


def in_float64_alone(how: Plant) -> Plant:
    """Plant a mistake that only a float64 run can have."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        return how(build, case, dtype, device) if dtype == "float64" else float64_alone(dtype)

    return plant


def without_correction(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    return nn.decayed(rule, p) - rule.learning_rate * m / (np.sqrt(v) + rule.epsilon)


def correction_one_step_off(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    ahead = State(state.params, state.slots, state.step + 1)
    return nn.adam(rule, name, p, g, ahead)


def correction_in_float32(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    m_scale, v_scale = _in_float32_powers(rule, state)
    return nn.decayed(rule, p) - rule.learning_rate * (m / m_scale) / (np.sqrt(v / v_scale) + rule.epsilon)


def amsgrad(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    slot = f"largest_second_moment/{name}"
    largest = state.slots.get(slot, state.slots[f"second_moment/{name}"])
    m, v = moments(rule, name, g, state)
    largest = state.slots[slot] = np.maximum(largest, v)
    m_hat, v_hat = m / (1 - rule.beta1**state.step), largest / (1 - rule.beta2**state.step)
    return nn.decayed(rule, p) - rule.learning_rate * m_hat / (np.sqrt(v_hat) + rule.epsilon)


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
    return has_decay(case) and any(name.endswith("bias") for name in case.initial())


def decay_of_weights_alone(rule: Sgd | AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    return honest(replace(rule, weight_decay=0.0) if name.endswith("bias") else rule, name, p, g, state)


def dampened(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    d = g + rule.weight_decay * p
    return p - rule.learning_rate * velocity(rule, name, d, state, share=1 - rule.momentum)


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
        name="adam-epsilon-inside-the-root",
        phase=Phase.UPDATE,
        sentence="Adam adds epsilon to the second moment instead of to its root.",
        reference="CyberZHG/keras-radam#29; FluxML/Flux.jl#448",
        applies=has_adam,
        how=on_step(rule=epsilon_inside_the_root),
    ),
    Mistake(
        name="adam-epsilon-before-bias-correction",
        phase=Phase.UPDATE,
        sentence="Adam adds epsilon to the root before the bias is corrected, as TF1 and Keras do.",
        reference="tensorflow/tensorflow#35102; tensorflow/tensorflow#9047",
        applies=has_adam,
        how=on_step(rule=epsilon_before_the_correction),
    ),
    Mistake(
        name="adam-epsilon-1e-7",
        phase=Phase.UPDATE,
        sentence="Adam's epsilon is 1e-7, Keras's default, instead of the case's.",
        reference="juntang-zhuang/Adabelief-Optimizer#12; Keras documentation, Adam(epsilon=1e-07)",
        applies=has_adam,
        how=on_optimizer(lambda rule: replace(rule, epsilon=KERAS_EPSILON)),
    ),
    Mistake(
        name="adam-of-keras",
        phase=Phase.UPDATE,
        sentence="Adam is Keras's own: epsilon 1e-7, added before the bias is corrected, and a correction in float32.",
        reference="keras-team/keras#17391; Keras documentation, Adam(epsilon=1e-07), the epsilon hat of Kingma and Ba",
        applies=has_adam,
        how=on_step(rule=as_keras_has_it),
    ),
    Mistake(
        name="adam-of-keras-in-float64",
        phase=Phase.UPDATE,
        sentence=(
            "Adam is Keras's own in a float64 run: epsilon 1e-7, added before the correction, whose betas were float32."
        ),
        reference=(
            "keras-team/keras#17391; Keras 3.15, Adam.update_step: ops.cast makes a float32 of a Python number first"
        ),
        applies=has_adam,
        how=in_float64_alone(on_step(rule=all_of_keras_in_float64)),
    ),
    Mistake(
        name="adam-of-keras-in-float64-but-epsilon",
        phase=Phase.UPDATE,
        sentence=(
            "Adam is Keras's own in a float64 run save its epsilon: added before the correction, whose betas "
            "were float32."
        ),
        reference=(
            "keras-team/keras#17391; Keras 3.15, Adam.update_step: ops.cast makes a float32 of a Python number first"
        ),
        applies=has_adam,
        how=in_float64_alone(on_step(rule=as_keras_has_it_in_float64)),
    ),
    Mistake(
        name="adam-without-bias-correction",
        phase=Phase.UPDATE,
        sentence="Adam's moments are not corrected for their bias towards zero.",
        reference="google-research/bert#153; ml-explore/mlx#1640",
        applies=has_adam,
        how=on_step(rule=without_correction),
    ),
    Mistake(
        name="adam-bias-correction-one-step-off",
        phase=Phase.UPDATE,
        sentence="Adam corrects its bias as if one more update had been made.",
        reference="cs231n/cs231n.github.io#179; tensorflow/tensorflow#35444",
        applies=has_adam,
        how=on_step(rule=correction_one_step_off),
    ),
    Mistake(
        name="adam-bias-correction-in-float32",
        phase=Phase.UPDATE,
        sentence="Adam's bias correction is worked out in float32, where 1 - beta2ᵗ has lost its last digits.",
        reference="ekzhang/jax-js#149; optax, tree_bias_correction: decay**count is float32 unless x64 is on",
        applies=has_adam,
        how=on_step(rule=correction_in_float32),
    ),
    Mistake(
        name="adam-beta2-0.99",
        phase=Phase.UPDATE,
        sentence="Adam's second moment forgets at .99 instead of the case's beta2.",
        reference="Keras documentation, Adam(beta_2=0.999); fast.ai documentation, Optimizers: Adam(sqr_mom=0.99)",
        applies=has_adam,
        how=on_optimizer(lambda rule: replace(rule, beta2=0.99)),
    ),
    Mistake(
        name="amsgrad",
        phase=Phase.UPDATE,
        sentence="Adam divides by the largest second moment so far instead of the present one.",
        reference="mir-group/nequip#322; ooples/AiDotNet#1469: the variant as a default",
        applies=has_adam,
        how=on_step(rule=amsgrad),
    ),
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
        sentence=(
            "The velocity keeps gradients times the learning rate of their time, and the rate falls an epoch early."
        ),
        reference="PyTorch documentation, SGD, note on Sutskever's form; pytorch/pytorch#1099",
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
