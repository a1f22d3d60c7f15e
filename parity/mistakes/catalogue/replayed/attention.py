"""Mistakes in what attention does between its projections: scale, mask, softmax, heads, rotary positions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, calls
from parity.nn.attention import attention
from parity.nn.layers import Call, compute
from parity.nn.positions import rotary
from parity.typing import Array

BASES = (500.0, 1000.0, 5000.0, 20000.0, 100000.0, 500000.0, 1000000.0)
"""Bases of rotary positions that models have beside 10000."""


def turned(call: Call) -> tuple[Array, Array, Array]:
    """Query, key and value, the first two turned by their positions if the call does that."""
    query, key, value = call.inputs
    if not call.settings.get("rotary"):
        return query, key, value
    return rotated(call, query), rotated(call, key), value


def scaled(scale: Callable[[int, int], float]) -> Callable[[Call], list[Call]]:
    """Scale the scores by a function of the head's width and the number of heads."""

    def change(call: Call) -> list[Call]:
        query = call.inputs[0]
        return [call.set(scale=scale(query.shape[-1], query.shape[-2]))]

    return change


def masked(offsets: Sequence[int]) -> Callable[[Call, Array], Iterator[Made]]:
    """Let a query look at keys up to so many places after its own, where attention is causal."""

    def wrong(call: Call, seen: Array) -> Iterator[Made]:
        if not call.settings.get("causal"):
            return
        query, key, value = turned(call)
        for offset in offsets:
            mask = np.tril(np.ones((query.shape[1], key.shape[1]), bool), offset)
            for without in ("mean", "zero") if offset < 0 else ("mean",):
                yield Made(attention(query, key, value, mask=mask, without_keys=without), f"{offset:+d}")

    return wrong


def over_the_batch(call: Call, seen: Array) -> Iterator[Made]:
    if len({one.shape[1] for one in call.inputs}) == 1:
        inputs = tuple(np.swapaxes(one, 0, 1) for one in call.inputs)
        yield Made(np.swapaxes(compute(Call(kind=call.kind, settings=call.settings, inputs=inputs)), 0, 1))


def mask_inverted(call: Call, seen: Array) -> Iterator[Made]:
    if call.settings.get("causal"):
        query, key, value = turned(call)
        mask = ~np.tril(np.ones((query.shape[1], key.shape[1]), bool))
        for without in ("mean", "zero"):
            yield Made(attention(query, key, value, mask=mask, without_keys=without))


def over_queries(call: Call, seen: Array) -> Iterator[Made]:
    query, key, value = turned(call)
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    if call.settings.get("causal"):
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    exponential = np.exp(scores - scores.max(-2, keepdims=True))
    weights = exponential / exponential.sum(-2, keepdims=True)
    yield Made(np.einsum("bhqk,bkhv->bqhv", weights, value))


def reordered(call: Call, seen: Array) -> Iterator[Made]:
    """Query, key and value take each other's parts."""
    names = ("query", "key", "value")
    for order in list(itertools.permutations(range(3)))[1:]:
        parts = tuple(call.inputs[place] for place in order)
        if all(part.shape == one.shape for part, one in zip(parts, call.inputs, strict=True)):
            again = Call(kind=call.kind, settings=call.settings, inputs=parts)
            yield Made(compute(again), ", ".join(names[place] for place in order))


def cut_by_heads(call: Call, seen: Array) -> Iterator[Made]:
    """What one projection gives is cut into heads, and each of them into query, key and value."""
    query, key, value = call.inputs
    if query.shape == key.shape == value.shape:
        batch, steps, heads, width = query.shape
        whole = np.concatenate([one.reshape(batch, steps, -1) for one in call.inputs], -1)
        parts = np.moveaxis(whole.reshape(batch, steps, heads, 3, width), 3, 0)
        yield Made(compute(Call(kind=call.kind, settings=call.settings, inputs=tuple(parts))))


def in_a_window(call: Call, seen: Array) -> Iterator[Made]:
    """The first query for which a key is too far away tells how wide the window is."""
    right = compute(call)
    if not call.settings.get("causal") or right.shape != seen.shape:
        return
    apart = np.abs(right - seen).max((0, 2, 3))  # (queries,)
    window = int(np.argmax(apart > 1e-3 * apart.max()))
    if window and apart.max() > 0:
        steps = np.arange(right.shape[1])
        query, key, value = turned(call)
        mask = (steps[:, None] >= steps) & (steps[:, None] - steps < window)
        yield Made(attention(query, key, value, mask=mask), f"of {window}")


def recut(cut: Callable[[Array], Array], join: Callable[[Array], Array]) -> Callable[[Call, Array], Iterator[Made]]:
    """Cut (batch, steps, width) into heads otherwise, and join what they get otherwise."""

    def wrong(call: Call, seen: Array) -> Iterator[Made]:
        again = replace(call, inputs=tuple(cut(one) for one in call.inputs))
        yield Made(join(compute(again)).reshape(seen.shape))

    return wrong


def heads_before_steps(x: Array) -> Array:
    """The numbers of (batch, steps, heads, width) read as (batch, heads, steps, width)."""
    batch, steps, heads, width = x.shape
    return np.swapaxes(x.reshape(batch, heads, steps, width), 1, 2)


def unchanged(x: Array) -> Array:
    return x


def other_rotary(kinds: Sequence[str]) -> Callable[[Call], list[Call]]:
    """Another way of turning, if the right one is of the first kind."""
    return lambda call: [call.set(rotary=kinds[1])] if call.settings.get("rotary", "") == kinds[0] else []


def other_base(call: Call, seen: Array) -> Iterator[Made]:
    now = call.settings.get("base", 10000.0)
    if call.settings.get("rotary"):
        for base in (*BASES, 10000.0):
            if base != now:
                yield Made(compute(call.set(base=base)), f"{base:g} for {now:g}")


def rotated(call: Call, x: Array, backwards: bool = False) -> Array:
    """Turn a query, a key or a value by its positions, as the call turns the first two."""
    positions = np.arange(x.shape[1]) * (-1.0 if backwards else 1.0)
    interleaved = call.settings["rotary"] == "interleaved"
    return rotary(x, positions, base=call.settings.get("base", 10000.0), interleaved=interleaved)


def rotary_parts(
    change: Callable[[Call], Iterable[tuple[tuple[Array, Array, Array], str]]],
) -> Callable[[Call, Array], Iterator[Made]]:
    """Turn other parts, or turn them otherwise, where attention has rotary positions."""

    def wrong(call: Call, seen: Array) -> Iterator[Made]:
        if call.settings.get("rotary"):
            for parts, said in change(call):
                yield Made(compute(replace(call.set(rotary=""), inputs=parts)), said)

    return wrong


def one_is_not_turned(call: Call) -> Iterator[tuple[tuple[Array, Array, Array], str]]:
    query, key, value = call.inputs
    yield (rotated(call, query), key, value), "the key"
    yield (query, rotated(call, key), value), "the query"


def values_too(call: Call) -> Iterator[tuple[tuple[Array, Array, Array], str]]:
    query, key, value = turned(call)
    if value.shape[-1] % 2 == 0:
        yield (query, key, rotated(call, value)), ""


def backwards(call: Call) -> Iterator[tuple[tuple[Array, Array, Array], str]]:
    query, key, value = call.inputs
    yield (rotated(call, query, True), rotated(call, key, True), value), ""


def frequencies_of_neighbours(call: Call) -> Iterator[tuple[tuple[Array, Array, Array], str]]:
    """Pairs of halves, and an angle for each two neighbours; or the other way round."""
    query, key, value = call.inputs

    def mixed(x: Array) -> Array:
        width = x.shape[-1]
        frequencies = call.settings.get("base", 10000.0) ** -(np.arange(0, width, 2) / width)
        if call.settings["rotary"] == "interleaved":
            frequencies = np.tile(frequencies, 2)
            beside = np.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        else:
            frequencies = np.repeat(frequencies, 2)
            beside = np.concatenate([-x[..., width // 2 :], x[..., : width // 2]], -1)
        angles = np.arange(x.shape[1])[:, None, None] * frequencies
        return x * np.cos(angles) + beside * np.sin(angles)

    yield (mixed(query), mixed(key), value), ""


def groups_tiled(call: Call, seen: Array) -> Iterator[Made]:
    """The heads' keys one group after the other, where each group's should come as often as it has heads."""
    query, key, value = turned(call)
    times = query.shape[2] // key.shape[2]
    if times > 1 and key.shape[2] > 1:
        key, value = (np.tile(one, (1, 1, times, 1)) for one in (key, value))
        yield Made(compute(replace(call.set(rotary=""), inputs=(query, key, value))))


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="attention-not-scaled",
        kinds=("attend",),
        sentence="Attention's scores are not divided by the root of the head's width.",
        reference="huggingface/blog#2893",
        wrong=calls(scaled(lambda width, heads: 1.0)),
    ),
    LayerMistake(
        name="attention-scaled-by-the-whole-width",
        kinds=("attend",),
        sentence="Attention's scores are divided by the root of the whole width instead of the head's.",
        reference="lucidrains/vit-pytorch#65; brightmart/bert_language_understanding#9",
        wrong=calls(scaled(lambda width, heads: 1 / math.sqrt(width * heads))),
    ),
    LayerMistake(
        name="attention-scaled-without-the-root",
        kinds=("attend",),
        sentence="Attention's scores are divided by the head's width instead of its root.",
        reference="delzac/cntkx#10",
        wrong=calls(scaled(lambda width, heads: 1 / width)),
    ),
    LayerMistake(
        name="causal-mask-missing",
        kinds=("attend",),
        sentence="Attention that should be causal has no mask.",
        reference="facebookresearch/xformers#103",
        wrong=calls(lambda call: [call.set(causal=False)] if call.settings.get("causal") else []),
    ),
    LayerMistake(
        name="causal-mask-off-by-one",
        kinds=("attend",),
        sentence="A causal mask lets a query look one place too far, or not at its own.",
        reference="RVC-Boss/GPT-SoVITS#965",
        wrong=masked((1, -1)),
    ),
    LayerMistake(
        name="causal-mask-inverted",
        kinds=("attend",),
        sentence="A mask hides what should be seen, and shows what should be hidden.",
        reference="lucidrains/x-transformers#160; NVIDIA/TransformerEngine#614",
        wrong=mask_inverted,
    ),
    LayerMistake(
        name="attention-softmax-over-queries",
        kinds=("attend",),
        sentence="Attention's softmax runs over the queries instead of the keys.",
        reference="labmlai/annotated_deep_learning_paper_implementations#146",
        wrong=over_queries,
    ),
    LayerMistake(
        name="attention-over-the-batch",
        kinds=("attend",),
        sentence="Attention takes the batch for its steps, and the steps for the batch.",
        reference="om-ai-lab/OmDet#19; aipixel/AEMatter#3",
        wrong=over_the_batch,
    ),
    LayerMistake(
        name="heads-cut-without-a-transpose",
        kinds=("attend",),
        sentence="Attention's heads are cut by a reshape that mixes them with the steps.",
        reference="reczoo/FuxiCTR#30",
        wrong=recut(heads_before_steps, lambda x: np.swapaxes(x, 1, 2)),
    ),
    LayerMistake(
        name="heads-joined-without-a-transpose",
        kinds=("attend",),
        sentence="What attention's heads give is joined by a reshape that mixes them with the steps.",
        reference="jsbaan/transformer-from-scratch#6",
        wrong=recut(unchanged, lambda x: np.swapaxes(x, 1, 2)),
    ),
    LayerMistake(
        name="rotary-interleaved-for-halves",
        kinds=("attend",),
        sentence="Rotary positions turn neighbouring features instead of one of each half.",
        reference="huggingface/transformers#25199",
        wrong=calls(other_rotary(("halves", "interleaved"))),
    ),
    LayerMistake(
        name="rotary-halves-for-interleaved",
        kinds=("attend",),
        sentence="Rotary positions turn one feature of each half instead of neighbouring ones.",
        reference="huggingface/transformers#25199",
        wrong=calls(other_rotary(("interleaved", "halves"))),
    ),
    LayerMistake(
        name="another-rotary-base",
        kinds=("attend",),
        sentence="Rotary positions have another base.",
        reference="lyogavin/airllm#369; sgl-project/SpecForge#265",
        wrong=other_base,
    ),
    LayerMistake(
        name="rotary-positions-missing",
        kinds=("attend",),
        sentence="Queries and keys are not turned by their positions.",
        reference="sqliteai/warp#27",
        wrong=calls(lambda call: [call.set(rotary="")] if call.settings.get("rotary") else []),
    ),
    LayerMistake(
        name="rotary-positions-on-one-side",
        kinds=("attend",),
        sentence="Rotary positions turn queries and keys, but one of them is left as it is.",
        reference="kvcache-ai/sglang#66",
        wrong=rotary_parts(one_is_not_turned),
    ),
    LayerMistake(
        name="rotary-positions-on-values",
        kinds=("attend",),
        sentence="Rotary positions turn the values too.",
        reference="lucidrains/x-transformers#182",
        wrong=rotary_parts(values_too),
    ),
    LayerMistake(
        name="rotary-positions-backwards",
        kinds=("attend",),
        sentence="Rotary positions turn the other way: the sign of the sine is another.",
        reference="karpathy/nanochat#489",
        wrong=rotary_parts(backwards),
    ),
    LayerMistake(
        name="rotary-frequencies-of-other-pairs",
        kinds=("attend",),
        sentence="Rotary positions pair features in one way, and lay their frequencies out in the other.",
        reference="raiyanyahya/how-to-train-your-gpt#6",
        wrong=rotary_parts(frequencies_of_neighbours),
    ),
    LayerMistake(
        name="groups-of-heads-tiled",
        kinds=("attend",),
        sentence="Grouped keys and values are tiled for the heads instead of repeated one by one.",
        reference="onnx/onnx#7274; mindspore-lab/mindone#1039",
        wrong=groups_tiled,
    ),
    LayerMistake(
        name="query-key-and-value-in-another-order",
        kinds=("attend",),
        sentence="Query, key and value are taken for each other.",
        reference="tenstorrent/tt-mlir#8958",
        wrong=reordered,
    ),
    LayerMistake(
        name="projection-cut-by-heads-first",
        kinds=("attend",),
        sentence="A projection of query, key and value is cut into heads first, as Megatron and GPT-NeoX keep it.",
        reference="lablup/mlxcel#928; awslabs/slapo#46",
        wrong=cut_by_heads,
    ),
    LayerMistake(
        name="causal-mask-added",
        kinds=("attend",),
        sentence="Attention that should see all keys is causal.",
        reference="huggingface/transformers#42820; huggingface/transformers#46077",
        wrong=calls(lambda call: [] if call.settings.get("causal") else [call.set(causal=True)]),
    ),
    LayerMistake(
        name="attention-within-a-window",
        kinds=("attend",),
        sentence="Attention sees the last keys alone, where it should see all before.",
        reference="huggingface/transformers#29777; unslothai/unsloth#8253",
        wrong=in_a_window,
    ),
)
