"""Mistakes in what a model computes between its layers: sums, tensors side by side, one place of a sequence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, Wrong, calls, fitted
from parity.nn.layers import Call, compute
from parity.typing import Array


def plain(call: Call) -> bool:
    """Whether a sum has two terms and no activation."""
    return len(call.inputs) == 2 and not call.settings.get("activation")


def one_missing(call: Call) -> list[Call]:
    """One of two terms alone."""
    factors = call.settings["factors"]
    return [
        Call(kind="sum", settings={"factors": factors[k : k + 1]}, inputs=call.inputs[k : k + 1])
        for k in (1, 0)
        if plain(call)
    ]


def another_factor(call: Call, seen: Array) -> Iterator[Made]:
    """One of two terms times another number, fitted to what was seen."""
    if not plain(call) or seen.shape != call.x.shape:
        return
    for k in (1, 0):
        factors = list(call.settings["factors"])
        term, rest = call.inputs[k], seen - factors[1 - k] * call.inputs[1 - k]
        number = float((term * rest).sum() / ((term * term).sum() or np.nan))

        def made(factor: float, k: int = k, factors: list[float] = factors) -> Array:
            return compute(call.set(factors=tuple(factor if j == k else one for j, one in enumerate(factors))))

        if number and abs(number - factors[k]) > 1e-6:
            yield from fitted(number, factors[k], "factor", made)


def activation_around(call: Call) -> list[Call]:
    """The activation of the sum, where that of one term was meant."""
    return [call.set(where="around")] if call.settings.get("where") in ("first", "second") else []


def activation_within(call: Call) -> list[Call]:
    """The activation of one term, where that of the sum was meant."""
    around = call.settings.get("where") == "around"
    return [call.set(where=where) for where in ("second", "first")] if around else []


def reordered(call: Call) -> list[Call]:
    orders = itertools.permutations(range(len(call.inputs)))
    return [
        Call(kind=call.kind, settings=call.settings, inputs=tuple(call.inputs[k] for k in order))
        for order in itertools.islice(orders, 1, 24)
    ]


def taking(now: tuple[str, ...], places: tuple[str, ...]) -> Wrong:
    """Take other places of a sequence, where the right ones are these."""
    return calls(lambda call: [call.set(place=place) for place in places if call.settings.get("place") in now])


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="residual-missing",
        kinds=("sum",),
        sentence="A residual connection adds nothing: one of its two terms is left out.",
        reference="znxlwm/UGATIT-pytorch#32; delira-dev/delira#91",
        wrong=calls(one_missing),
    ),
    LayerMistake(
        name="residual-times-a-factor",
        kinds=("sum",),
        sentence="One term of a residual connection is multiplied by another number.",
        reference="lucidrains/stylegan2-pytorch#88; fchollet/deep-learning-models#99",
        wrong=another_factor,
    ),
    LayerMistake(
        name="activation-after-the-residual",
        kinds=("sum",),
        sentence="The activation is computed of a residual connection's sum instead of one of its terms.",
        reference="akamaster/pytorch_resnet_cifar10#23; vanhuyz/CycleGAN-TensorFlow#56",
        wrong=calls(activation_around),
    ),
    LayerMistake(
        name="activation-before-the-residual",
        kinds=("sum",),
        sentence="The activation is computed of one of a residual connection's terms instead of their sum.",
        reference="kuangliu/pytorch-cifar#4; fastai/fastbook#1",
        wrong=calls(activation_within),
    ),
    LayerMistake(
        name="concatenated-in-another-order",
        kinds=("side_by_side",),
        sentence="Tensors are concatenated in another order than the weights behind them have.",
        reference="junyanz/pytorch-CycleGAN-and-pix2pix#110; ZacBi/CS224n-2019-solutions#1",
        wrong=calls(reordered),
    ),
    LayerMistake(
        name="last-for-last-valid-place",
        kinds=("place",),
        sentence="Of each padded sequence the last place is taken instead of the last that is valid.",
        reference="keitakurita/practical-torchtext#5; CarperAI/trlx#341",
        wrong=taking(("each",), ("last",)),
    ),
    LayerMistake(
        name="mean-for-one-place",
        kinds=("place",),
        sentence="The mean of a sequence is taken instead of its first place or its last.",
        reference="neuml/txtai#535; KennethEnevoldsen/scandinavian-embedding-benchmark#87",
        wrong=taking(("first", "last"), ("mean",)),
    ),
    LayerMistake(
        name="one-place-for-the-mean",
        kinds=("place",),
        sentence="The first place of a sequence, or its last, is taken instead of its mean.",
        reference="microsoft/CodeBERT#209; KennethEnevoldsen/scandinavian-embedding-benchmark#87",
        wrong=taking(("mean",), ("first", "last")),
    ),
)
