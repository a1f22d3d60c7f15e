"""Mistakes in a normalization: its epsilon, its variance, what its statistics are over, its scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, calls, fitted
from parity.nn.layers import Call, compute
from parity.typing import Array

CENTRED = ("batch_norm", "layer_norm", "group_norm", "instance_norm")
NORMS = (*CENTRED, "rms_norm")
EPSILONS = tuple(10.0**-power for power in (2, 3, 5, 6, 7, 8, 9, 12))
"""Other epsilons that norms are written with."""


@dataclass(frozen=True)
class Parts:
    """What a norm divides, and by the root of what.

    Attributes:
        centred: The input less its mean, cut so that each value's statistics broadcast to it.
        variance: The mean of its squares, epsilon not added.
        axes: The axes that the statistics are over.
        count: Over how many values each of them is.
    """

    centred: Array
    variance: Array
    axes: tuple[int, ...]
    count: int


def parts(call: Call) -> Parts:
    """Take a norm apart."""
    x, settings = call.x, call.settings
    if call.kind == "batch_norm" and settings.get("uses_running_statistics", False):
        return Parts(x - call.params["mean"], call.params["variance"], (), 1)
    if call.kind == "batch_norm":
        axes = tuple(range(x.ndim - 1))
    elif call.kind in ("layer_norm", "rms_norm"):
        axes = tuple(range(x.ndim - settings.get("axes", 1), x.ndim))
    else:
        groups = settings["groups"] if call.kind == "group_norm" else x.shape[-1]
        groups = x.shape[-1] if groups == -1 else groups
        x = x.reshape(len(x), -1, groups, x.shape[-1] // groups)  # (batch, places, groups, channels of a group)
        axes = (1, 3)
    centred = x if call.kind == "rms_norm" else x - x.mean(axes, keepdims=True)
    count = int(np.prod([x.shape[axis] for axis in axes]))
    return Parts(centred, (centred * centred).mean(axes, keepdims=True), axes, count)


def finished(call: Call, normal: Array) -> Array:
    """Bring a normalized input to its shape, times the scale, plus the bias."""
    found = normal.reshape(call.x.shape)
    found = found * call.params["scale"] if "scale" in call.params else found
    return found + call.params["bias"] if "bias" in call.params else found


def divisor(call: Call, seen: Array) -> Array | None:
    """By what each group of values was divided to give what was seen, by least squares; None if nothing tells."""
    cut = parts(call)
    normal = seen - call.params.get("bias", 0.0)
    scale = np.broadcast_to(call.params.get("scale", 1.0), normal.shape)
    known = scale != 0
    normal = np.where(known, normal / np.where(known, scale, 1), 0).reshape(cut.centred.shape)
    centred = np.where(known.reshape(cut.centred.shape), cut.centred, 0)
    axes = cut.axes or tuple(range(centred.ndim - 1))
    over, under = (centred * centred).sum(axes, keepdims=True), (centred * normal).sum(axes, keepdims=True)
    return over / under if np.all(under > 0) else None


def divided(call: Call, inside: bool, corrected: bool) -> Callable[[float], Array] | None:
    """Normalize with an epsilon ``inside`` the root or outside, of a variance that is ``corrected`` or not."""
    cut = parts(call)
    if corrected and cut.count < 2:
        return None
    variance = cut.variance * (cut.count / (cut.count - 1)) if corrected else cut.variance

    def make(epsilon: float) -> Array:
        root = np.sqrt(variance + epsilon) if inside else np.sqrt(variance) + epsilon
        return finished(call, cut.centred / root)

    return make


def another_epsilon(call: Call, seen: Array) -> Iterator[Made]:
    make, by, variance = divided(call, inside=True, corrected=False), divisor(call, seen), parts(call).variance
    if make is None or by is None:
        return
    # Where the variance is small an epsilon shows most.
    weight = 1 / (variance * variance)
    weight = np.where(np.isfinite(weight), weight, 0.0)
    total = float(np.sum(weight))
    found = float(np.sum((by * by - variance) * weight)) / total if total else float("nan")
    if found > 0:
        yield from fitted(found, call.settings["epsilon"], "epsilon", make)


def of_another_form(inside: bool, corrected: bool) -> Callable[[Call, Array], Iterator[Made]]:
    """Divide by another root, with the right epsilon or another power of ten.

    Where an epsilon is small, some number in one form gives what another number gives in another form.
    """

    def wrong(call: Call, seen: Array) -> Iterator[Made]:
        make, right = divided(call, inside, corrected), call.settings["epsilon"]
        if make is not None:
            yield Made(make(right))
            yield from (Made(make(one), f"epsilon {one:g} for {right:g}") for one in EPSILONS if one != right)

    return wrong


def over_all_axes(call: Call) -> list[Call]:
    now = call.settings.get("axes", 1)
    return [call.set(axes=axes) for axes in range(2, call.x.ndim) if axes != now]


def over_the_last_axis(call: Call) -> list[Call]:
    return [call.set(axes=1)] if call.settings.get("axes", 1) > 1 else []


def over_the_batch(call: Call) -> list[Call]:
    """Each feature by its mean over the batch, over the batch and all places, or over all places."""
    if call.params.get("scale", np.ones(1)).ndim > 1:
        return []
    batch = Call(kind="batch_norm", settings=call.settings, inputs=call.inputs, params=call.params)
    instance = Call(kind="instance_norm", settings=call.settings, inputs=call.inputs, params=call.params)
    return [batch, instance] if call.x.ndim > 2 else [batch]


def over_channels(call: Call) -> list[Call]:
    return [Call(kind="layer_norm", settings=call.settings, inputs=call.inputs, params=call.params)]


def over_places(call: Call) -> list[Call]:
    if call.x.ndim < 3:
        return []
    return [Call(kind="instance_norm", settings=call.settings, inputs=call.inputs, params=call.params)]


def with_running(call: Call) -> list[Call]:
    known = {"mean", "variance"} <= call.params.keys()
    return [] if call.settings.get("uses_running_statistics") or not known else [call.set(uses_running_statistics=True)]


def with_those_of_the_batch(call: Call) -> list[Call]:
    return [call.set(uses_running_statistics=False)] if call.settings.get("uses_running_statistics") else []


def plus_one(call: Call) -> list[Call]:
    return [call.holding(scale=call.params["scale"] + 1)] if "scale" in call.params else []


def without(*roles: str) -> Callable[[Call], list[Call]]:
    return lambda call: [call.without(*roles)] if set(roles) <= call.params.keys() else []


def not_centred(call: Call, seen: Array) -> Iterator[Made]:
    """The mean is taken off neither the input nor, in the variance, from its square."""
    x, axes = call.x, tuple(range(call.x.ndim - call.settings.get("axes", 1), call.x.ndim))
    square = (x * x).mean(axes, keepdims=True)
    for divided in (square, x.var(axes, keepdims=True)):
        yield Made(finished(call, x / np.sqrt(divided + call.settings["epsilon"])))


def centred(call: Call) -> list[Call]:
    return [Call(kind="layer_norm", settings=call.settings, inputs=call.inputs, params=call.params)]


def cut_without_a_transpose(call: Call, seen: Array) -> Iterator[Made]:
    """Groups are cut from what lies beside each other in memory, where channels are last: places, not channels."""
    cut = call.x.reshape(len(call.x), call.settings["groups"], -1)  # (batch, groups, values)
    centred = cut - cut.mean(2, keepdims=True)
    yield Made(finished(call, centred / np.sqrt(cut.var(2, keepdims=True) + call.settings["epsilon"])))


def multiplied(call: Call, seen: Array) -> Iterator[Made]:
    cut = parts(call)
    yield Made(finished(call, cut.centred * np.sqrt(cut.variance + call.settings["epsilon"])))


def by_the_length(call: Call, seen: Array) -> Iterator[Made]:
    """The length as it is, or times the root of the width, which is what the root mean square should be divided by."""
    cut = parts(call)
    length = np.sqrt(cut.variance * cut.count)
    normal = cut.centred / np.where(length > 0, length, 1)
    yield Made(finished(call, normal), "")
    yield Made(finished(call, normal / np.sqrt(cut.count)), "times the root of the width")


def not_divided(call: Call) -> list[Call]:
    return [call.set(divided=False)] if call.settings["divided"] else []


def other_groups(call: Call, seen: Array) -> Iterator[Made]:
    channels, now = call.x.shape[-1], call.settings["groups"]
    for groups in (one for one in range(1, channels + 1) if channels % one == 0 and one != now):
        yield Made(compute(call.set(groups=groups)), f"{groups} for {now}")


def missing(call: Call, seen: Array) -> Iterator[Made]:
    yield Made(call.x)


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="another-norm-epsilon",
        kinds=NORMS,
        sentence="The epsilon of a normalization is another.",
        reference="google/flax#2195; r9y9/tacotron_pytorch#19",
        wrong=another_epsilon,
    ),
    LayerMistake(
        name="norm-epsilon-outside-the-root",
        kinds=NORMS,
        sentence="The epsilon of a normalization is added to the deviation instead of the variance.",
        reference="hyunwoongko/transformer#7; codertimo/BERT-pytorch#30",
        wrong=of_another_form(inside=False, corrected=False),
    ),
    LayerMistake(
        name="norm-variance-unbiased",
        kinds=CENTRED,
        sentence="A normalization divides by the unbiased deviation, over n - 1 values.",
        reference="harvardnlp/annotated-transformer#119",
        wrong=of_another_form(inside=True, corrected=True),
    ),
    LayerMistake(
        name="norm-deviation-unbiased-plus-epsilon",
        kinds=CENTRED,
        sentence="A normalization divides by the unbiased deviation plus epsilon.",
        reference="harvardnlp/annotated-transformer#122",
        wrong=of_another_form(inside=False, corrected=True),
    ),
    LayerMistake(
        name="norm-over-all-axes",
        kinds=("layer_norm", "rms_norm"),
        sentence="A normalization of the last axis runs over more axes.",
        reference="tensorpack/tensorpack#1482",
        wrong=calls(over_all_axes),
    ),
    LayerMistake(
        name="norm-over-the-last-axis",
        kinds=("layer_norm", "rms_norm"),
        sentence="A normalization of several axes runs over the last alone.",
        reference="keras-team/keras#18231; tensorflow/tensorflow#39942",
        wrong=calls(over_the_last_axis),
    ),
    LayerMistake(
        name="layer-norm-over-the-batch",
        kinds=("layer_norm",),
        sentence="A layer norm takes each feature's statistics over other examples or places.",
        reference="Kyubyong/transformer#40; lucidrains/segformer-pytorch#7",
        wrong=calls(over_the_batch),
    ),
    LayerMistake(
        name="batch-norm-over-channels",
        kinds=("batch_norm", "instance_norm"),
        sentence="A batch norm takes its statistics over the channels, as a layer norm.",
        reference="bio-ontology-research-group/deepgozero#7",
        wrong=calls(over_channels),
    ),
    LayerMistake(
        name="instance-norm-for-batch-norm",
        kinds=("batch_norm",),
        sentence="A batch norm takes its statistics over the places of each example.",
        reference="DmitryUlyanov/texture_nets#77",
        wrong=calls(over_places),
    ),
    LayerMistake(
        name="running-statistics-in-training",
        kinds=("batch_norm",),
        sentence="A batch norm in training uses the running statistics.",
        reference="keras-team/keras#9965; tensorflow/models#9538",
        wrong=calls(with_running),
    ),
    LayerMistake(
        name="batch-statistics-in-evaluation",
        kinds=("batch_norm",),
        sentence="A batch norm that should use the running statistics uses those of the batch.",
        reference="pgniewko/gt-pyg#112; YAndrewL/CLAPE#1",
        wrong=calls(with_those_of_the_batch),
    ),
    LayerMistake(
        name="norm-scale-plus-one",
        kinds=NORMS,
        sentence="One is added to the scale of a normalization, as where scales are kept less one.",
        reference="utensils/mold#1078; pytorch/executorch#19901",
        wrong=calls(plus_one),
    ),
    LayerMistake(
        name="norm-scale-missing",
        kinds=NORMS,
        sentence="A normalization does not apply its scale.",
        reference="tqchen/mxnet-gan#8",
        wrong=calls(without("scale")),
    ),
    LayerMistake(
        name="norm-bias-missing",
        kinds=CENTRED,
        sentence="A normalization does not apply its bias.",
        reference="leela-zero/leela-zero#925",
        wrong=calls(without("bias")),
    ),
    LayerMistake(
        name="norm-mean-not-taken-off",
        kinds=("layer_norm",),
        sentence="A layer norm does not take the mean off, as an RMS norm.",
        reference="huggingface/transformers#14772",
        wrong=not_centred,
    ),
    LayerMistake(
        name="norm-mean-taken-off",
        kinds=("rms_norm",),
        sentence="An RMS norm takes the mean off, as a layer norm.",
        reference="ggml-org/ggml#900",
        wrong=calls(centred),
    ),
    LayerMistake(
        name="another-number-of-groups",
        kinds=("group_norm",),
        sentence="A group norm has another number of groups.",
        reference="hpcaitech/ColossalAI#3109; athon2/BraTS2018_NvNet#5",
        wrong=other_groups,
    ),
    LayerMistake(
        name="groups-cut-without-a-transpose",
        kinds=("group_norm",),
        sentence="A group norm cuts its groups by a reshape where channels are last, which mixes channels and places.",
        reference="tensorflow/addons#751; titu1994/Keras-Group-Normalization#6",
        wrong=cut_without_a_transpose,
    ),
    LayerMistake(
        name="norm-multiplied-by-the-root",
        kinds=("rms_norm",),
        sentence="An RMS norm multiplies by the root mean square instead of dividing by it.",
        reference="mosaicml/llm-foundry#371",
        wrong=multiplied,
    ),
    LayerMistake(
        name="norm-by-the-length",
        kinds=("rms_norm",),
        sentence="An RMS norm divides by a vector's length, the root of its width left out or on the wrong side.",
        reference="kyegomez/zeta#180",
        wrong=by_the_length,
    ),
    LayerMistake(
        name="response-norm-alpha-not-divided",
        kinds=("response_norm",),
        sentence="A local response norm does not divide alpha by the number of channels, as TensorFlow's.",
        reference="heuritech/convnets-keras#6; ethereon/caffe-tensorflow#173",
        wrong=calls(not_divided),
    ),
    LayerMistake(
        name="normalization-missing",
        kinds=NORMS,
        sentence="There is no normalization at this place.",
        reference="iCog-Labs-Dev/PC-Transformers#46; qjadud1994/CRNN-Keras#37",
        wrong=missing,
    ),
)
