"""Mistakes in a convolution: what is added around the input, and how its kernel lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.convolution import sides
from parity.nn.layers import Call, compute
from parity.typing import Array

WINDOWS = ("conv", "max_pool", "average_pool")


def sizes_of(call: Call) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """What a window covers along each axis, how far it moves, and how far apart its values are."""
    rank = call.x.ndim - 2
    size = call.params["kernel"].shape[:rank] if call.kind == "conv" else call.settings["kernel_size"]
    stride = call.settings.get("stride", (1,) * rank if call.kind == "conv" else size)
    return size, stride, call.settings.get("dilation", (1,) * rank)


def spans(size: Sequence[int], dilation: Sequence[int]) -> list[int]:
    return [(one - 1) * apart + 1 for one, apart in zip(size, dilation, strict=True)]


def added(call: Call) -> list[tuple[int, int]]:
    """What the padding of a call adds before and after each axis."""
    size, stride, dilation = sizes_of(call)
    return sides(call.settings.get("padding", "VALID"), call.x.shape[1:-1], spans(size, dilation), stride)


def same(call: Call) -> list[Call]:
    """SAME, if the right padding adds as much before as behind."""
    now = added(call)
    return [call.set(padding="SAME")] if any(map(any, now)) and all(one == other for one, other in now) else []


def symmetric(call: Call) -> list[Call]:
    """As much before as behind, if the right padding adds more behind, as SAME does at a stride."""
    size, _, dilation = sizes_of(call)
    even = [(span // 2, span // 2) for span in spans(size, dilation)]
    now = added(call)
    return [] if now == even or any(before > behind for before, behind in now) else [call.set(padding=even)]


def all_before(call: Call) -> list[Call]:
    """All zeros before a sequence, if the right padding adds as many behind it."""
    now = added(call)
    even = len(now) == 1 and now[0][0] == now[0][1] > 0
    return [call.set(padding=[(sum(now[0]), 0)])] if even else []


def half_before(call: Call) -> list[Call]:
    """As many zeros before a sequence as behind it, if the right padding adds all before."""
    now = added(call)
    if len(now) != 1 or now[0][1] or not now[0][0]:
        return []
    return [call.set(padding=[(now[0][0] // 2, now[0][0] - now[0][0] // 2)])]


def channels_reversed(call: Call) -> list[Call]:
    if call.x.shape[-1] < 2:
        return []
    return [Call(kind=call.kind, settings=call.settings, inputs=(call.x[..., ::-1],), params=call.params)]


def outputs_strided(call: Call, seen: Array) -> Iterator[Made]:
    """The outputs of a group, which lie beside each other, lie as far apart as there are groups, or the reverse."""
    groups, outputs = call.settings.get("groups", 1), call.params["kernel"].shape[-1]
    if 1 < groups < outputs:
        right = compute(call)
        for cut in (groups, outputs // groups):
            yield Made(right[..., np.arange(outputs).reshape(cut, -1).T.ravel()])


def flipped(call: Call) -> list[Call]:
    kernel = call.params["kernel"]
    return [call.holding(kernel=np.flip(kernel, tuple(range(kernel.ndim - 2))))]


def places_swapped(call: Call) -> list[Call]:
    kernel = call.params["kernel"]
    square = kernel.ndim > 3 and kernel.shape[0] == kernel.shape[1]
    return [call.holding(kernel=np.swapaxes(kernel, 0, 1))] if square else []


def channels_swapped(call: Call) -> list[Call]:
    kernel = call.params["kernel"]
    return [call.holding(kernel=np.swapaxes(kernel, -1, -2))] if kernel.shape[-1] == kernel.shape[-2] else []


def other_dilation(call: Call, seen: Array) -> Iterator[Made]:
    """Values of the kernel that are otherwise far apart, with a padding that makes the output as long."""
    size, _, now = sizes_of(call)
    for apart in (1, 2, 3, 4):
        dilation = (apart,) * len(size)
        if dilation == tuple(now):
            continue
        more = [(span - was) for span, was in zip(spans(size, dilation), spans(size, now), strict=True)]
        padding = [
            (max(before + extra // 2, 0), max(after + extra - extra // 2, 0))
            for (before, after), extra in zip(added(call), more, strict=True)
        ]
        yield Made(compute(call.set(dilation=dilation, padding=padding)), f"{apart} for {now[0]}")


def groups_strided(call: Call) -> list[Call]:
    """A group takes every so many-eth channel."""
    groups, channels = call.settings.get("groups", 1), call.x.shape[-1]
    if not 1 < groups < channels:
        return []
    order = np.arange(channels).reshape(-1, groups).T.ravel()
    return [Call(kind=call.kind, settings=call.settings, inputs=(call.x[..., order],), params=call.params)]


def padded_otherwise(call: Call, seen: Array) -> Iterator[Made]:
    """Values of the border, mirrored, repeated or from the other side, instead of zeros."""
    around = [(0, 0), *added(call), (0, 0)]
    if not any(map(any, around)):
        return
    for mode, said in (("reflect", "mirrored"), ("edge", "repeated"), ("wrap", "from the other side")):
        x = np.pad(call.x, around, mode=mode)  # type: ignore[call-overload]
        bare = Call(kind=call.kind, settings=call.settings, inputs=(x,), params=call.params).set(padding="VALID")
        yield Made(compute(bare), said)


def shifted(call: Call) -> list[Call]:
    """A transposed convolution's output cut one place earlier or later."""
    padding = call.settings.get("padding", "VALID")
    if isinstance(padding, str):
        kernel = call.params["kernel"]
        rank = kernel.ndim - 2
        stride = call.settings.get("stride", (1,) * rank)
        taken = [span - step for span, step in zip(kernel.shape[:rank], stride, strict=True)]
        padding = [(max(one, 0) // 2, one - max(one, 0) // 2) if padding == "SAME" else (0, 0) for one in taken]
    return [call.set(padding=[(before + by, after - by) for before, after in padding]) for by in (-1, 1)]


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="same-for-symmetric-padding",
        kinds=WINDOWS,
        sentence="SAME, which adds more behind than before at a stride, takes the place of a padding on both sides.",
        reference="taehoonlee/tensornets#25",
        wrong=calls(same),
    ),
    LayerMistake(
        name="symmetric-for-same-padding",
        kinds=WINDOWS,
        sentence="A padding on both sides takes the place of SAME, which adds more behind than before at a stride.",
        reference="taehoonlee/tensornets#25",
        wrong=calls(symmetric),
    ),
    LayerMistake(
        name="padding-of-other-values",
        kinds=("conv",),
        sentence="A convolution pads with values of the border instead of zeros.",
        reference="speechbrain/speechbrain#125",
        wrong=padded_otherwise,
    ),
    LayerMistake(
        name="kernel-flipped",
        kinds=("conv", "conv_transpose"),
        sentence="A convolution's kernel is turned back to front.",
        reference="keras-team/keras#3015",
        wrong=calls(flipped),
    ),
    LayerMistake(
        name="kernel-height-and-width-swapped",
        kinds=("conv", "conv_transpose"),
        sentence="Height and width of a convolution's kernel are swapped.",
        reference="anishathalye/neural-style#180; bengouyy/mxnet_mtcnn_face_detection#6",
        wrong=calls(places_swapped),
    ),
    LayerMistake(
        name="kernel-channels-swapped",
        kinds=("conv", "conv_transpose"),
        sentence="The channels in and out of a convolution's kernel are swapped.",
        reference="apache/tvm#9336",
        wrong=calls(channels_swapped),
    ),
    LayerMistake(
        name="another-dilation",
        kinds=("conv",),
        sentence="A convolution has another dilation, and a padding to match.",
        reference="apache/tvm#1713",
        wrong=other_dilation,
    ),
    LayerMistake(
        name="groups-of-strided-channels",
        kinds=("conv",),
        sentence="The groups of a convolution are not of neighbouring channels.",
        reference="Tencent/ncnn#300",
        wrong=calls(groups_strided),
    ),
    LayerMistake(
        name="outputs-of-groups-in-turn",
        kinds=("conv",),
        sentence="The outputs of a grouped convolution lie in another order: the first of each group, then the second.",
        reference="onnx/onnx-tensorflow#306",
        wrong=outputs_strided,
    ),
    LayerMistake(
        name="channels-reversed",
        kinds=("conv",),
        sentence="The channels of an image come in the reverse order, as blue, green and red for red, green and blue.",
        reference="amdegroot/ssd.pytorch#44; wasidennis/AdaptSegNet#68",
        wrong=calls(channels_reversed),
    ),
    LayerMistake(
        name="causal-for-same-padding",
        kinds=("conv",),
        sentence="A convolution over a sequence sees the past alone, where it should see as much of the future.",
        reference="philipperemy/keras-tcn#25; locuslab/TCN#8",
        wrong=calls(all_before),
    ),
    LayerMistake(
        name="same-for-causal-padding",
        kinds=("conv",),
        sentence="A convolution over a sequence sees the future, where it should see the past alone.",
        reference="MarkusThill/bioma-tcn-ae#4; maxim5/time-series-machine-learning#12",
        wrong=calls(half_before),
    ),
    LayerMistake(
        name="transposed-convolution-shifted",
        kinds=("conv_transpose",),
        sentence="A transposed convolution's output is shifted by one place, as where another side of it is cut off.",
        reference="keras-team/keras#22876",
        wrong=calls(shifted),
    ),
)
