"""What is fitted to updates is what made them, within what rounding leaves, whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.explaining.updates.compared import apart_in_words, rates_in_words
from parity.explaining.updates.fits import Followed, Sample, fitted, follow
from parity.nn import UPDATES
from parity.recording.steps import Step
from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.trainer import State

NAMES = ("a", "b")
NOTHING = np.empty(0)


def steps(optimizer: Optimizer, rates: list[float], decays: dict[str, float], dtype: str) -> list[Step]:
    """Make updates of random gradients, with a learning rate of each and a decay of each tensor."""
    generator, kind = np.random.default_rng(0), np.dtype(dtype).type
    params = {name: generator.normal(size=40).astype(kind) for name in NAMES}
    slots = {f"{slot}/{name}": np.zeros(40) for slot in ("momentum", "first_moment", "second_moment") for name in NAMES}
    state, found = State({}, slots), []
    for number, rate in enumerate(rates):
        before = State(dict(params), step=number)
        gradients = {name: generator.normal(size=40).astype(kind) for name in NAMES}
        state.step = number + 1
        for name, g in gradients.items():
            numbers = {name: getattr(optimizer, name) for name in optimizer.__dataclass_fields__}
            if type(optimizer) is not Adam:
                numbers["weight_decay"] = decays[name]
            rule = type(optimizer)(**numbers | {"learning_rate": rate})
            wide = params[name].astype(np.float64)
            params[name] = UPDATES[type(rule)](rule, name, wide, g.astype(np.float64), state).astype(kind)
        after = State(dict(params), step=number + 1)
        found.append(
            Step(before=before, rows=NOTHING, prediction=NOTHING, loss=NOTHING, gradients=gradients, trained=NOTHING,
                 after=after)
        )  # fmt: skip
    return found


def followed(optimizer: Optimizer, rates: list[float], decays: dict[str, float], dtype: str = "float64") -> Followed:
    found = follow(Sample(steps(optimizer, rates, decays, dtype), NAMES, dtype), optimizer)
    assert found is not None
    return found


SOME = st.floats(1e-3, 1e-1)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([Sgd(1.0), Sgd(1.0, momentum=0.9), AdamW(1.0)]),
    st.lists(SOME, min_size=4, max_size=6),
    st.tuples(SOME, st.just(0.0) | SOME),
    st.sampled_from(["float64", "float32"]),
)
def test_rates_and_decays_are_found_again(
    optimizer: Optimizer, rates: list[float], decays: tuple[float, float], dtype: str
) -> None:
    found = followed(optimizer, rates, dict(zip(NAMES, decays, strict=True)), dtype)
    assert np.all(np.abs(found.rates - rates) <= found.unsure)
    for name, meant in zip(NAMES, decays, strict=True):
        value, unsure = found.decays[name]
        assert abs(value - meant) <= unsure
    assert apart_in_words(found, found) == []


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["beta1", "beta2", "epsilon"]), st.floats(-4, -1), st.sampled_from(["float64", "float32"]))
def test_a_constant_is_found_again(name: str, place: float, dtype: str) -> None:
    number = 10**place if name == "epsilon" else 1 - 10**place
    made = AdamW(0.01, weight_decay=0.0, **{name: number})
    sample = Sample(steps(made, [0.01] * 8, dict.fromkeys(NAMES, 0.0), dtype), NAMES, dtype)
    value, unsure = fitted(sample, AdamW(0.01, weight_decay=0.0), name)
    assert abs(value - number) <= max(unsure, 1e-9 * number)


@pytest.mark.parametrize("name", ["beta1", "beta2", "epsilon"])
def test_a_constant_is_fitted_within_its_range_whatever_made_the_updates(name: str) -> None:
    """A beta of 1 would divide by 0."""
    made = steps(AdamW(0.01, epsilon=1.0, weight_decay=0.0), [0.01] * 3, dict.fromkeys(NAMES, 0.0), "float32")
    value, unsure = fitted(Sample(made, NAMES, "float32"), AdamW(0.01, weight_decay=0.0), name)
    assert 0 < value < (10 if name == "epsilon" else 1)
    assert unsure >= 0


def test_steps_of_another_rule_are_not_followed() -> None:
    assert (
        follow(Sample(steps(AdamW(1.0), [0.01] * 5, dict.fromkeys(NAMES, 0.0), "float64"), NAMES, "float64"), Sgd(1.0))
        is None
    )


@pytest.mark.parametrize(
    ("rates", "others", "words"),
    [
        ([0.1] * 6, [0.1] * 6, ""),
        ([0.1] * 6, [0.2] * 6, "the first run's learning rates of 0.1 against the second's 0.2"),
        ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], "the first run's are 1 update late"),
        ([2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5], "the second's are 2 updates late"),
        ([1, 1, 1, 2, 2, 2], [1] * 6, "rates of 1 and 2 from update 3 on against the second's 1"),
        ([1, 1, 2, 1, 1, 1], [1] * 6, "1, 2 from update 2 on and 1 from update 3 on against"),
        ([0.1 * (1 + 3e-8)] * 6, [0.1] * 6, "as of a number that passed through float32"),
    ],
)  # fmt: skip
def test_rates_are_put_in_words(rates: list[float], others: list[float], words: str) -> None:
    said = rates_in_words(
        np.array(rates, float), np.array(others, float), np.full(6, 1e-12), "the first run's", "the second's"
    )
    assert words in said
    assert ("late" in said) == ("late" in words)
    assert bool(said) == bool(words)
