"""Optimizers as data: what they say of themselves is read back, and what they leave out is asked of nobody."""

from __future__ import annotations

import numpy as np
import pytest

from parity import nn
from parity.layout import Slot
from parity.rules import in_python
from parity.running.keys import said
from parity.spec import (
    Adam,
    AdamW,
    Clipping,
    CosineDecay,
    LinearWarmup,
    Optimizer,
    Sgd,
    StepDecay,
    WarmupCosine,
    optimizer_from,
)
from parity.trainers.groups import decays

WHOLE = AdamW(
    0.01,
    weight_decay=0.1,
    rates=WarmupCosine(start=0.001, end=0.002, warmup_steps=2, steps=4),
    decayed=("kernel", "token/table"),
    clipping=Clipping("global_norm", 0.5, epsilon=1e-6),
)
RULES = (
    WHOLE,
    Sgd(0.1, rates=StepDecay(every=2, factor=0.5)),
    Sgd(0.1, momentum=0.9, decayed=()),
    Adam(0.1, rates=LinearWarmup(start=0.0, steps=2), clipping=Clipping("value", 1.0)),
    AdamW(0.1, rates=CosineDecay(end=0.0, steps=2), decayed=("bias",), clipping=Clipping("norm", 1.0)),
)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_what_a_rule_prints_is_read_back_and_is_what_a_key_says(rule: Optimizer) -> None:
    assert optimizer_from(repr(rule)) == rule
    assert said(rule, "the optimizer") == repr(rule)


@pytest.mark.parametrize("rule", [Sgd(0.1, 0.9, 0.2), Adam(0.1), AdamW(0.1, 0.8, 0.9, 1e-7, 0.2)], ids=repr)
def test_what_a_rule_does_not_ask_for_is_not_in_its_words(rule: Optimizer) -> None:
    assert not any(word in repr(rule) for word in ("rates", "decayed", "clipping"))
    assert said(rule, "the optimizer") == repr(rule)


@pytest.mark.parametrize(
    "text",
    [
        "Sgd(learning_rate=1e999)",
        "Sgd(learning_rate=0.1, rates=Clipping(kind='norm', limit=1.0))",
        "Sgd(learning_rate=0.1, rates=StepDecay(every=0.5, factor=0.5))",
        "Sgd(learning_rate=0.1, clipping=StepDecay(every=1, factor=0.5))",
        "Sgd(learning_rate=0.1, clipping=Clipping(kind='size', limit=1.0))",
        "Sgd(learning_rate=0.1, decayed=('a', 1))",
        "Sgd(learning_rate=0.1, decayed='kernel')",
        "Sgd(**{'learning_rate': 0.1})",
        f"Sgd(learning_rate=0.1, decayed=({5000 * ' '}))",
        50 * "(",
    ],
)
def test_other_words_are_none_of_a_rule(text: str) -> None:
    assert optimizer_from(text) is None


def test_numbers_of_numpy_are_said_as_pythons() -> None:
    rates = StepDecay(every=np.int64(2), factor=np.float32(0.5))  # type: ignore[arg-type]
    rule = Sgd(np.float64(0.25), rates=rates, decayed=("kernel",))
    assert optimizer_from(repr(in_python(rule))) == Sgd(0.25, rates=StepDecay(every=2, factor=0.5), decayed=("kernel",))


def test_rates_are_counted_from_the_first_update() -> None:
    assert nn.rates(WHOLE, 0, 8) == pytest.approx([0.001, 0.0055, 0.01, 0.00882843, 0.006, 0.00317157, 0.002, 0.002])
    assert nn.rates(WHOLE, 3, 2).tolist() == nn.rates(WHOLE, 0, 5)[3:].tolist()
    assert nn.rates(Sgd(0.1), 5, 2).tolist() == [0.1, 0.1]
    third = nn.rule_at(WHOLE, "dense/kernel", 3)
    assert (third.learning_rate, third.weight_decay) == (0.01, 0.1)


def test_decay_touches_names_and_roles() -> None:
    layout = [Slot(name, name.replace("/", ".")) for name in ("dense/kernel", "dense/bias", "token/table", "a/table")]
    assert decays(WHOLE, layout) == {"dense.kernel": 0.1, "dense.bias": 0.0, "token.table": 0.1, "a.table": 0.0}
    assert set(decays(AdamW(0.1, weight_decay=0.1), layout).values()) == {0.1}
    assert set(decays(AdamW(0.1, weight_decay=0.1, decayed=()), layout).values()) == {0.0}


def test_a_tensor_of_a_framework_that_mixes_what_decays_is_refused() -> None:
    stacked = [Slot("gru/kernel", "both", index=0), Slot("gru/bias", "both", index=1)]
    with pytest.raises(ValueError, match=r"both holds gru/bias and others, whose weight decays differ"):
        decays(WHOLE, stacked)
    with pytest.raises(ValueError, match="clipped one by one"):
        decays(Sgd(0.1, clipping=Clipping("norm", 1.0)), stacked)


def test_a_norm_below_the_limit_clips_nothing_and_an_epsilon_clips_more() -> None:
    gradients = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert nn.clipped(Sgd(0.1, clipping=Clipping("global_norm", 5.0)), gradients) == gradients
    more = nn.clipped(Sgd(0.1, clipping=Clipping("global_norm", 5.0, epsilon=1.0)), gradients)
    assert [float(g[0]) for g in more.values()] == pytest.approx([2.5, 10 / 3])
    each = nn.clipped(Sgd(0.1, clipping=Clipping("norm", 3.5)), gradients)
    assert [float(g[0]) for g in each.values()] == [3.0, 3.5]
