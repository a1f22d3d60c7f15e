"""Optimizers that nothing declares are inferred from updates alone, and what two of them differ in is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity.explaining.updates.candidates import CANDIDATES
from parity.explaining.updates.fits import Sample
from parity.explaining.updates.inferred import Inferred, inferred
from parity.explaining.updates.kinds import UNTOLD, Apart, kinds_apart
from parity.nn import optimizers
from parity.nn.optimizers import adagrad, adam, adamax, amsgrad, lamb, lion, nadam, rmsprop, sgd
from parity.recording.steps import Step
from parity.trainer import State
from parity.typing import Array

SHAPES = {"hidden/kernel": (6, 8), "hidden/bias": (8,), "head/kernel": (8, 3), "head/bias": (3,)}
KERNELS = {"hidden/kernel": 0.125, "head/kernel": 0.125}
EVERYWHERE = dict.fromkeys(SHAPES, 0.125)
FALLING = tuple(0.01 * 0.5 ** (k // 3) for k in range(9))
ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
LARGE: dict[str, Any] = ADAM | {"epsilon": 0.125}
NOTHING = np.empty(0)
DTYPES = ("float64", "float32")
EACH_DTYPE = [pytest.param("float64", marks=pytest.mark.slow), "float32"]
"""float32 tells less, so that a rule which is told there is told in float64, too."""


def steps(
    rule: Callable[..., Any],
    dtype: str = "float64",
    rates: tuple[float, ...] = (0.01,) * 9,
    decays: Mapping[str, float] | None = None,
    scales: Mapping[str, float] | None = None,
    seed: int = 0,
    **numbers: Any,
) -> list[Step]:
    """Make updates of random gradients by a rule of ``parity.nn.optimizers``, and round them to a dtype."""
    generator, kind = np.random.default_rng(seed), np.dtype(dtype).type
    params = {name: generator.normal(size=shape).astype(kind) for name, shape in SHAPES.items()}
    slots: dict[str, Any] = {name: {} for name in SHAPES}
    middle = {name: generator.normal(size=shape) / 2 for name, shape in SHAPES.items()}
    counted, found = rule not in (sgd, rmsprop, lion, optimizers.adadelta, velocity_corrected), []
    for number, rate in enumerate(rates):
        before = State(dict(params), {}, number)
        gradients = {name: (middle[name] + generator.normal(size=shape)).astype(kind) for name, shape in SHAPES.items()}
        for name, g in gradients.items():
            more = {"step": number + 1} if counted else {}
            more |= {"weight_decay": decays.get(name, 0.0)} if decays else {}
            own = rate * (scales or {}).get(name, 1.0)
            wide, g = params[name].astype(np.float64), g.astype(np.float64)
            made, slots[name] = rule(wide, g, slots[name], learning_rate=own, **numbers, **more)
            params[name] = made.astype(kind)
        after = State(dict(params), {}, number + 1)
        found.append(
            Step(before=before, rows=NOTHING, prediction=NOTHING, loss=NOTHING, gradients=gradients, trained=NOTHING,
                 after=after)
        )  # fmt: skip
    return found


def velocity_corrected(
    parameter: Array, gradient: Array, slots: Any, *, learning_rate: float, momentum: float
) -> tuple[Array, Any]:
    """Rescale a velocity that holds no learning rate as if it did."""
    old, before = slots.get("momentum", 0.0), slots.get("rate", learning_rate)
    kept = momentum * learning_rate / before * old + gradient
    return parameter - learning_rate * kept, {"momentum": kept, "rate": learning_rate}


def found_of(rule: Callable[..., Any], dtype: str = "float64", **numbers: Any) -> list[Inferred]:
    return inferred(Sample(steps(rule, dtype, **numbers), tuple(SHAPES), dtype))


def apart(one: tuple[Any, dict[str, Any]], other: tuple[Any, dict[str, Any]], dtype: str = "float64") -> Apart | None:
    """Hold two runs against each other, of other gradients each, as of runs that have parted."""
    (rule, numbers), (another, others) = one, other
    return kinds_apart(found_of(rule, dtype, **numbers), found_of(another, dtype, seed=1, **others))


RULES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "SGD": (sgd, {}),
    "SGD with momentum": (sgd, {"momentum": 0.875}),
    "SGD with Nesterov's momentum": (sgd, {"momentum": 0.9, "nesterov": True}),
    "SGD with momentum dampened but for the first gradient": (sgd, {"momentum": 0.9, "dampening": 0.5}),
    "SGD with momentum whose velocity holds learning rates": (
        sgd,
        {"momentum": 0.9, "rate_in_velocity": True, "rates": FALLING},
    ),
    "SGD with momentum whose velocity is corrected though it holds no learning rate": (
        velocity_corrected,
        {"momentum": 0.9, "rates": FALLING},
    ),
    "Adam": (adam, ADAM),
    "Adam with its epsilon before the bias is corrected": (adam, LARGE | {"epsilon_hat": True}),
    "Adam with its epsilon inside the root": (adam, LARGE | {"epsilon": 0.0, "epsilon_root": 0.125}),
    "Adam whose decay goes through the gradient": (adam, ADAM | {"decays": EVERYWHERE}),
    "AMSGrad": (amsgrad, ADAM | {"beta2": 0.5}),
    "AMSGrad of corrected moments, as optax has it": (amsgrad, ADAM | {"corrected_maximum": True}),
    "NAdam with torch's schedule of momentum": (nadam, ADAM | {"momentum_decay": 0.004}),
    "NAdam with no schedule of momentum, as optax has it": (nadam, ADAM | {"momentum_decay": math.inf}),
    "Adamax with epsilon beside its norm": (adamax, ADAM),
    "RMSprop": (rmsprop, {"rho": 0.9, "epsilon": 1e-3}),
    "RMSprop with its epsilon inside the root": (rmsprop, {"rho": 0.9, "epsilon": 1e-3, "epsilon_in_root": True}),
    "RMSprop with momentum": (rmsprop, {"rho": 0.9, "epsilon": 1e-2, "momentum": 0.5}),
    "Adagrad": (adagrad, {"epsilon": 1e-3, "initial_sum_of_squares": 0.0}),
    "Adagrad whose sum of squares begins above 0": (adagrad, {"epsilon": 1e-3, "initial_sum_of_squares": 0.125}),
    "Lion": (lion, {"beta1": 0.9, "beta2": 0.99}),
}
"""By what it is to be called: a rule with its numbers."""


@pytest.mark.parametrize("dtype", EACH_DTYPE)
@pytest.mark.parametrize("title", RULES)
def test_a_rule_is_inferred_from_parameters_and_gradients(title: str, dtype: str) -> None:
    rule, numbers = RULES[title]
    found = found_of(rule, dtype, **numbers)
    assert title in [one.candidate.title for one in found]
    assert {one.candidate.family for one in found} == {found[0].candidate.family}
    assert dtype == "float32" or len(found) == 1
    (one,) = (each for each in found if each.candidate.title == title)
    for name, (value, unsure) in one.constants.items():
        meant = 0.125 if name == "weight_decay" else numbers[name]
        assert abs(value - meant) <= max(unsure, 1e-12)
    wanted = np.array(numbers.get("rates", (0.01,) * 9))
    assert np.all(np.abs(one.rates - wanted) <= one.unsure)


def test_every_candidate_is_called_otherwise() -> None:
    said = [(one.title, one.decay) for one in CANDIDATES]
    assert len(set(said)) == len(said)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["plain", "nesterov", "dampened"]),
    st.floats(0.2, 0.99),
    st.floats(1e-3, 0.1),
    st.sampled_from(DTYPES),
)
def test_a_momentum_is_found_again_whatever_it_is(form: str, momentum: float, rate: float, dtype: str) -> None:
    numbers = {"plain": {}, "nesterov": {"nesterov": True}, "dampened": {"dampening": 0.5}}[form]
    one, *others = found_of(sgd, dtype, rates=(rate,) * 9, momentum=momentum, **numbers)
    assert not others
    value, unsure = one.constants["momentum"]
    assert abs(value - momentum) <= max(unsure, 1e-12)
    assert unsure < 0.01


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0.3, 0.99), st.floats(-4, -0.3), st.floats(-6, -1), st.sampled_from(DTYPES))
def test_two_right_runs_have_nothing_apart_whatever_the_numbers(
    beta1: float, rest: float, place: float, dtype: str
) -> None:
    numbers = {"beta1": beta1, "beta2": 1 - 10**rest, "epsilon": 10**place}
    assert apart((adam, numbers), (adam, numbers), dtype) is None


def corrected_late(
    parameter: Array, gradient: Array, slots: Any, *, step: int, learning_rate: float, **numbers: float
) -> tuple[Array, Any]:
    return adam(parameter, gradient, slots, step=step + 1, learning_rate=learning_rate, **numbers)


def quasi_hyperbolic(
    parameter: Array, gradient: Array, slots: Any, *, step: int, learning_rate: float
) -> tuple[Array, Any]:
    kept = 0.9 * slots.get("momentum", 0.0) + 0.1 * gradient
    return parameter - learning_rate * (0.3 * gradient + 0.7 * kept), {"momentum": kept}


NEAR_MISSES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "a step that depends on the whole tensor": (lamb, ADAM),
    "a mixture of gradient and velocity": (quasi_hyperbolic, {}),
    "Adam with its correction a step off": (corrected_late, ADAM | {"beta2": 0.9, "epsilon": 0.5}),
}


@pytest.mark.parametrize("dtype", EACH_DTYPE)
@pytest.mark.parametrize("title", NEAR_MISSES)
def test_what_is_near_a_rule_is_none(title: str, dtype: str) -> None:
    rule, numbers = NEAR_MISSES[title]
    assert [one.candidate.title for one in found_of(rule, dtype, **numbers)] == []


def test_what_does_not_tell_is_not_said() -> None:
    """One update, steps within rounding, and fewer values than numbers."""
    assert found_of(sgd, rates=(0.01,), momentum=0.9) == []
    assert found_of(sgd, "float32", rates=(1e-8,) * 9) == []
    few = steps(sgd, momentum=0.9)
    small = [
        Step(
            before=State({"b": step.before.params["head/bias"][:1]}, {}, step.number),
            rows=NOTHING,
            prediction=NOTHING,
            loss=NOTHING,
            gradients={"b": step.gradients["head/bias"][:1]},
            trained=NOTHING,
            after=State({"b": step.after.params["head/bias"][:1]}, {}, step.number + 1),
        )
        for step in few
    ]
    assert inferred(Sample(small, ("b",), "float64")) == []


def test_two_updates_tell_a_momentum() -> None:
    (one,) = found_of(sgd, rates=(0.01,) * 2, momentum=0.875)
    assert one.constants["momentum"][0] == pytest.approx(0.875)


def test_a_recorded_rate_tells_what_a_fitted_one_does_not() -> None:
    """Where learning rates change, a missing correction of Adam's bias is no other than other rates, but for them."""
    uncorrected = [rate * (1 - 0.9 ** (k + 1)) / math.sqrt(1 - 0.999 ** (k + 1)) for k, rate in enumerate(FALLING)]
    sample = Sample(steps(adam, "float32", tuple(uncorrected), **ADAM), tuple(SHAPES), "float32")
    several = {one.candidate.title for one in inferred(sample)}
    assert {"Adam", "Adam without bias correction"} <= several
    told = [one.candidate.title for one in inferred(sample, np.array(FALLING))]
    assert told == ["Adam without bias correction"]


PAIRS: dict[str, tuple[Any, Any, tuple[str, ...], str]] = {
    "Nesterov's momentum": (
        (sgd, {"momentum": 0.9}),
        (sgd, {"momentum": 0.9, "nesterov": True}),
        ("nesterov-momentum",),
        r"SGD with momentum (momentum 0.9, learning rate 0.01), the second's those of SGD with Nesterov's",
    ),
    "no momentum": ((sgd, {}), (sgd, {"momentum": 0.9}), ("momentum-missing",), "momentum 0.9"),
    "another momentum": (
        (sgd, {"momentum": 0.89}),
        (sgd, {"momentum": 0.9}),
        ("another-momentum",),
        "the first run's momentum is 0.89, the second's 0.9",
    ),
    "dampening": (
        (sgd, {"momentum": 0.9, "dampening": 0.25}),
        (sgd, {"momentum": 0.9}),
        ("momentum-dampened-but-for-the-first-gradient",),
        "dampening 0.25",
    ),
    "rates in the velocity": (
        (sgd, {"momentum": 0.9, "rates": FALLING, "rate_in_velocity": True}),
        (sgd, {"momentum": 0.9, "rates": FALLING}),
        ("learning-rate-folded-into-the-velocity",),
        "whose velocity holds learning rates",
    ),
    "a velocity corrected in vain": (
        (velocity_corrected, {"momentum": 0.9, "rates": FALLING}),
        (sgd, {"momentum": 0.9, "rates": FALLING}),
        ("momentum-corrected-in-vain",),
        "corrected though it holds no learning rate",
    ),
    "SGD for Adam": (
        (sgd, {}),
        (adam, ADAM),
        ("another-optimizer",),
        "those of SGD (learning rate 0.01), the second's those of Adam (beta1 0.9, beta2 0.999",
    ),
    "a decay beside the momentum": (
        (sgd, {"momentum": 0.9, "decays": KERNELS, "decoupled": True}),
        (sgd, {"momentum": 0.9, "decays": KERNELS}),
        ("decoupled-weight-decay",),
        "weight decay 0.125 through the gradient",
    ),
    "Adam's decay through the gradient": (
        (adam, ADAM | {"decays": EVERYWHERE}),
        (adam, ADAM | {"decays": EVERYWHERE, "decoupled": True}),
        ("weight-decay-through-the-gradient",),
        "whose decay goes through the gradient",
    ),
    "a decay that is missing on a group": (
        (adam, ADAM | {"decays": KERNELS, "decoupled": True}),
        (adam, ADAM | {"decays": EVERYWHERE, "decoupled": True}),
        ("weight-decay-on-some-tensors",),
        "0.125 on all but 2 tensors (every bias)",
    ),
    "another rate of a group": (
        (sgd, {"momentum": 0.9, "scales": {"head/kernel": 0.1, "head/bias": 0.1}}),
        (sgd, {"momentum": 0.9}),
        ("another-learning-rate-on-some-tensors",),
        "learning rate of head/bias and head/kernel is 0.1 times the second's, and all others are trained alike",
    ),
    "a layer that is not trained": (
        (adam, ADAM | {"scales": {"hidden/kernel": 0.0, "hidden/bias": 0.0}}),
        (adam, ADAM),
        ("some-tensors-not-trained",),
        "the first run's optimizer leaves hidden/bias and hidden/kernel as they are",
    ),
    "a sum that begins above 0": (
        (adagrad, {"epsilon": 1e-3, "initial_sum_of_squares": 0.125}),
        (adagrad, {"epsilon": 1e-3, "initial_sum_of_squares": 0.0}),
        ("another-form-of-the-optimizer",),
        "initial sum of squares 0.125",
    ),
    "a schedule": (
        (sgd, {"momentum": 0.9, "rates": FALLING}),
        (sgd, {"momentum": 0.9}),
        ("another-schedule",),
        "the first run's learning rates of 0.01, 0.005",
    ),
}
"""By what the first run has wrong: both runs, the names, and what is said of it."""


@pytest.mark.parametrize("dtype", EACH_DTYPE)
@pytest.mark.parametrize("title", PAIRS)
def test_what_two_optimizers_differ_in_is_named(title: str, dtype: str) -> None:
    (rule, numbers), (another, others), names, words = PAIRS[title]
    first, second = found_of(rule, dtype, **numbers), found_of(another, dtype, seed=1, **others)
    found, back = kinds_apart(first, second), kinds_apart(second, first)
    assert found is not None
    assert back is not None
    assert (found.names, back.names) == (names, names), found.words
    assert dtype == "float32" or words in found.words, found.words


def test_a_dampened_first_gradient_is_a_rate_as_well() -> None:
    """Gradients that all enter times one minus the momentum make the steps of a smaller learning rate."""
    found = apart((sgd, {"momentum": 0.875, "rates": (0.01 / 8,) * 9}), (sgd, {"momentum": 0.875}))
    assert found is not None
    assert found.names == ()
    assert UNTOLD in found.words
    assert "one minus the momentum" in found.words


def test_gradients_that_are_added_up_are_a_rate_as_well() -> None:
    (one,), (other,) = found_of(sgd, rates=(0.02,) * 9), found_of(sgd, seed=1)
    plain, found = (kinds_apart([one], [other], each) for each in (1, 2))
    assert plain is not None
    assert found is not None
    assert (plain.names, found.names) == (("another-learning-rate",), ())
    assert "the gradients of 2 batches that are added up, not averaged" in found.words


def test_nothing_is_said_where_one_run_follows_no_known_rule() -> None:
    assert apart((quasi_hyperbolic, {}), (sgd, {"momentum": 0.9})) is None
