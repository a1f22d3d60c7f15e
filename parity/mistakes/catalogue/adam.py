"""Mistakes in Adam's update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from parity import nn
from parity.mistakes.mistake import Mistake, Plant, Unplanted, float64_alone, has_adam
from parity.mistakes.planting import on_optimizer
from parity.mistakes.stepwise import on_step
from parity.recording.steps import Phase
from parity.spec import Adam, Case
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
)
