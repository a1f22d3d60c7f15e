"""Mistakes in pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.mistakes.catalogue.replayed.convolution import added
from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.layers import Call, compute
from parity.typing import Array


def counted(call: Call) -> list[Call]:
    return [] if call.settings.get("count_padding") else [call.set(count_padding=True)]


def not_counted(call: Call) -> list[Call]:
    return [call.set(count_padding=False)] if call.settings.get("count_padding") else []


def as_kind(call: Call, kind: str) -> Call:
    return Call(kind=kind, settings=call.settings, inputs=call.inputs)


def padded_with_zeros(call: Call, seen: Array) -> Iterator[Made]:
    """A zero of the padding is larger than the negative values beside it."""
    around = [(0, 0), *added(call), (0, 0)]
    if any(map(any, around)):
        bare = Call(kind=call.kind, settings=call.settings, inputs=(np.pad(call.x, around),))
        yield Made(compute(bare.set(padding="VALID")))


def means(call: Call) -> list[Call]:
    return [as_kind(call, "average_pool").set(count_padding=counts) for counts in (False, True)]


def otherwise_ended(call: Call) -> list[Call]:
    return [call.set(ceil_mode=not call.settings.get("ceil_mode", False))]


def largest(call: Call, seen: Array) -> Iterator[Made]:
    yield Made(call.x.max(tuple(range(1, call.x.ndim - 1))).reshape(seen.shape))


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="padding-counted-in-the-mean",
        kinds=("average_pool",),
        sentence="The zeros that padding adds count in an average.",
        reference="apache/tvm#18487; opencv/opencv#10867",
        wrong=calls(counted),
    ),
    LayerMistake(
        name="padding-not-counted-in-the-mean",
        kinds=("average_pool",),
        sentence="The zeros that padding adds do not count in an average that should be over them, too.",
        reference="apache/tvm#1144; opencv/opencv#10867",
        wrong=calls(not_counted),
    ),
    LayerMistake(
        name="max-for-average-pooling",
        kinds=("average_pool",),
        sentence="The largest value of each window takes the place of its mean.",
        reference="d2l-ai/d2l-en#1571",
        wrong=calls(lambda call: [as_kind(call, "max_pool")]),
    ),
    LayerMistake(
        name="average-for-max-pooling",
        kinds=("max_pool",),
        sentence="The mean of each window takes the place of its largest value.",
        reference="jvanvugt/pytorch-unet#3; titu1994/Fully-Connected-DenseNets-Semantic-Segmentation#9",
        wrong=calls(means),
    ),
    LayerMistake(
        name="another-ceil-mode",
        kinds=("max_pool", "average_pool"),
        sentence="A last window that ends beyond the input counts, as in Caffe, where it should not, or the reverse.",
        reference="shuangshuangguo/caffe2pytorch-tsn#1; torch/nn#116",
        wrong=calls(otherwise_ended),
    ),
    LayerMistake(
        name="max-pooling-padded-with-zeros",
        kinds=("max_pool",),
        sentence="Max pooling pads with zeros, which are larger than negative values.",
        reference="zylo117/Yet-Another-EfficientDet-Pytorch#352; dmlc/nnvm#486",
        wrong=padded_with_zeros,
    ),
    LayerMistake(
        name="max-for-global-average-pooling",
        kinds=("global_average_pool",),
        sentence="The largest value of all places takes the place of their mean.",
        reference="d2l-ai/d2l-en#1571",
        wrong=largest,
    ),
)
