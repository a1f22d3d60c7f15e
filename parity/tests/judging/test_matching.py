"""Tensors of two runs matched by value: whatever was done to them is found and proven, and nothing else is said."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.judging.diff import compare_runs
from parity.judging.tensors import search
from parity.judging.tensors.correspondence import Correspondence, How
from parity.judging.tensors.matching import inferred, match
from parity.layout import to_canonical, to_framework
from parity.trajectory import Trajectory

QUICK = settings(max_examples=60, deadline=None)


@dataclass
class Two:
    """Two runs under construction: the same tensors, as each side has them."""

    draw: np.random.Generator
    ours: dict = field(default_factory=dict)
    theirs: dict = field(default_factory=dict)
    true: list = field(default_factory=list)

    def add(self, ours: list, theirs: list) -> None:
        """Add tensors under names that say nothing; the two lists hold the same values."""
        names = []
        for side, values in ((self.ours, ours), (self.theirs, theirs)):
            mine = [f"{self.draw.integers(10**9):09d}" for _ in values]
            side |= dict(zip(mine, map(np.ascontiguousarray, values), strict=True))
            names.append(frozenset(mine))
        self.true.append(tuple(names))

    def runs(self, dtypes: tuple[str, str] = ("float32", "float32")) -> tuple[Trajectory, Trajectory]:
        return tuple(
            run_of({name: side[name] for name in sorted(side)}, dtype)
            for side, dtype in zip((self.ours, self.theirs), dtypes, strict=True)
        )


def run_of(initial: dict, dtype: str = "float32", gradients: dict | None = None, buffers: tuple = ()) -> Trajectory:
    """A run of one update, of which the initial values and perhaps the gradients are known."""
    after = {name: value - 0.1 * (gradients or {}).get(name, 0) for name, value in initial.items()}
    steps = {f"0/gradients/{name}": value.astype(dtype) for name, value in (gradients or {}).items()}
    params = {name: np.stack([initial[name], after[name]]).astype(dtype) for name in initial}
    meta = {"dtype": dtype, "buffers": list(buffers)}
    return Trajectory(meta, np.arange(2), np.ones((1, 1), dtype), params, {}, steps)


def holds(found: Correspondence, run: Trajectory, other: Trajectory) -> None:
    """Assert that a correspondence is right: both layouts give equal canonical tensors, and can be undone."""
    sides = []
    for layout, of in ((found.ours, run), (found.theirs, other)):
        initial = {name: np.asarray(stack[0]) for name, stack in of.params.items()}
        canonical = to_canonical(layout, initial)
        back = to_framework(layout, canonical)
        assert all(np.array_equal(back[name], initial[name]) for name in back)
        sides.append(canonical)
    assert sides[0].keys() == sides[1].keys()
    assert all(np.array_equal(value, sides[1][name]) for name, value in sides[0].items())


def merged(draw: np.random.Generator, value: np.ndarray) -> np.ndarray:
    """Some neighbouring axes made one, and perhaps an axis of length 1 more."""
    shape = list(value.shape)
    while len(shape) > 1 and draw.random() < 0.4:
        k = int(draw.integers(len(shape) - 1))
        shape[k : k + 2] = [shape[k] * shape[k + 1]]
    if draw.random() < 0.2:
        shape.insert(int(draw.integers(len(shape) + 1)), 1)
    return value.reshape(shape)


def moved(draw: np.random.Generator, value: np.ndarray) -> np.ndarray:
    return value.transpose(draw.permutation(value.ndim))


def one(draw: np.random.Generator, two: Two) -> None:
    """Axes in another order, some merged on either side, some backwards, gates in another order."""
    value = draw.normal(size=draw.integers(2, 6, size=draw.integers(1, 5))).astype(np.float32)
    other = value
    kind = draw.integers(3)
    if kind == 0 and value.shape[-1] <= 4:
        other = other[..., draw.permutation(value.shape[-1])]
    if kind == 1:
        other = np.flip(other, tuple(np.flatnonzero(draw.integers(0, 2, value.ndim))))
    two.add([merged(draw, value)], [merged(draw, moved(draw, other))])


def fused(draw: np.random.Generator, two: Two) -> None:
    """A kernel on one side, its equal or unequal blocks along any axis on the other, each with its axes its own way."""
    value = draw.normal(size=(*draw.integers(2, 5, size=draw.integers(1, 3)), 12)).astype(np.float32)
    cuts = [[4, 8], [6], [8, 10], [3, 6, 9]][draw.integers(4)]
    parts = np.split(value, cuts, -1)
    order = draw.permutation(value.ndim)
    pair = [moved(draw, value)], [part.transpose(order) for part in parts]
    two.add(*(pair if draw.random() < 0.5 else pair[::-1]))


def heads(draw: np.random.Generator, two: Two) -> None:
    """Attention: one fused kernel (3 E, E) on one side, three of (E, heads, width) on the other."""
    parts = [draw.normal(size=(6, 2, 3)).astype(np.float32) for _ in range(3)]
    whole = np.concatenate([part.reshape(6, 6).T for part in parts])
    two.add([whole], parts)


def stacked(draw: np.random.Generator, two: Two) -> None:
    """Layers one by one on one side and stacked on the other, with axes in another order."""
    parts = [draw.normal(size=(draw.integers(2, 5), 3)).astype(np.float32) for _ in range(1)]
    parts += [draw.normal(size=parts[0].shape).astype(np.float32) for _ in range(draw.integers(1, 4))]
    order = draw.permutation(2)
    pair = parts, [np.stack([part.transpose(order) for part in parts])]
    two.add(*(pair if draw.random() < 0.5 else pair[::-1]))


def scanned(draw: np.random.Generator, two: Two) -> None:
    """Three kernels that are stacked over layers on one side, on the other one fused kernel a layer."""
    layers = [[draw.normal(size=(4, 5)).astype(np.float32) for _ in range(3)] for _ in range(3)]
    ours = [np.stack([layer[k] for layer in layers]) for k in range(3)]
    two.add(ours, [np.concatenate([part.T for part in layer]) for layer in layers])


def gru(draw: np.random.Generator, two: Two) -> None:
    """Keras's GRU against torch's: gates z, r, h for r, z, n, one bias of two rows for two biases."""
    kernel, bias = draw.normal(size=(5, 12)).astype(np.float32), draw.normal(size=(2, 12)).astype(np.float32)

    def other(value: np.ndarray) -> np.ndarray:
        z, r, n = np.split(value, 3, -1)
        return np.concatenate([r, z, n], -1)

    two.add([kernel], [other(kernel).T])
    two.add([bias], [other(row) for row in bias])


KINDS = (one, fused, heads, stacked, scanned, gru)


@QUICK
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_whatever_was_done_to_tensors_is_found_and_proven(kinds: list, seed: int) -> None:
    draw = np.random.default_rng(seed)
    two = Two(draw)
    for kind in kinds:
        kind(draw, two)
    run, other = two.runs()
    found = match(run, other)
    assert found.alone == ((), ())
    assert all(pairing.proven and pairing.how is How.VALUE for pairing in found.pairings)
    assert {tuple(map(frozenset, pairing.names)) for pairing in found.pairings} == set(two.true)
    holds(found, run, other)


@QUICK
@given(st.integers(0, 2**32 - 1))
def test_values_are_equal_after_rounding_to_the_narrower_dtype(seed: int) -> None:
    draw = np.random.default_rng(seed)
    wide = draw.normal(size=(4, 5))
    found = match(run_of({"a": wide}, "float64"), run_of({"b": wide.T.astype(np.float32)}, "float32"))
    assert [pairing.proven for pairing in found.pairings] == [True]


@QUICK
@given(st.integers(2, 6), st.booleans(), st.integers(0, 2**32 - 1))
def test_tensors_that_begin_equal_are_told_apart_by_gradients_alone(count: int, told: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    order = draw.permutation(count)
    ours = {f"{k}.a": np.zeros(4, np.float32) for k in range(count)}
    theirs = {f"{k}.b": np.zeros(4, np.float32) for k in range(count)}
    gradient = draw.normal(size=(count, 4)).astype(np.float32)
    noise = 1 + 1e-7 * draw.normal(size=(count, 4))
    run = run_of(ours, gradients={f"{k}.a": gradient[k] for k in range(count)} if told else None)
    other = run_of(theirs, gradients={f"{k}.b": gradient[order[k]] * noise[k] for k in range(count)} if told else None)
    found = match(run, other)
    right = {(f"{order[k]}.a", f"{k}.b") for k in range(count)}
    said = {(*pairing.names[0], *pairing.names[1]) for pairing in found.pairings}
    if told:
        assert said == right
        assert all(pairing.proven and pairing.how is How.GRADIENT for pairing in found.pairings)
    else:
        assert not any(pairing.proven for pairing in found.pairings)
        assert any("order alone" in note for note in found.notes)


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 1.0]))
def test_nothing_is_proven_by_gradients_that_a_mistake_has_changed(seed: int, wrong: float) -> None:
    draw = np.random.default_rng(seed)
    gradients = draw.normal(size=(2, 5)).astype(np.float32)
    run = run_of({"0.a": np.zeros(5), "1.a": np.zeros(5)}, gradients={"0.a": gradients[0], "1.a": gradients[1]})
    other = run_of(
        {"0.b": np.zeros(5), "1.b": np.zeros(5)},
        gradients={"0.b": gradients[1] * (1 + wrong), "1.b": gradients[0] * (1 + wrong)},
    )
    assert not any(pairing.proven for pairing in match(run, other).pairings)


def test_the_bias_of_fused_attention_follows_its_kernel_and_is_proven_by_gradients() -> None:
    draw = np.random.default_rng(0)
    two = Two(draw)
    heads(draw, two)
    (whole,), parts = two.ours.values(), list(two.theirs.values())
    biases = [draw.normal(size=(2, 3)).astype(np.float32) for _ in parts]
    ours = {"attn.in_proj_weight": whole, "attn.in_proj_bias": np.zeros(18, np.float32)}
    theirs = {f"attn/{n}/kernel": part for n, part in zip(("query", "key", "value"), parts, strict=True)}
    theirs |= {f"attn/{n}/bias": np.zeros((2, 3), np.float32) for n in ("query", "key", "value")}
    mine = {name: np.ones_like(value) for name, value in ours.items()}
    mine["attn.in_proj_bias"] = np.concatenate([bias.ravel() for bias in biases])
    its = {name: np.ones_like(value) for name, value in theirs.items()}
    its |= {f"attn/{n}/bias": bias for n, bias in zip(("query", "key", "value"), biases, strict=True)}
    for gradients, proven in (((None, None), False), ((mine, its), True)):
        run, other = run_of(ours, gradients=gradients[0]), run_of(theirs, gradients=gradients[1])
        found = match(run, other)
        assert found.alone == ((), ())
        pairing = next(p for p in found.pairings if p.names[0] == ("attn.in_proj_bias",))
        assert pairing.proven is proven
        assert [slot.framework for slot in pairing.theirs] == [f"attn/{n}/bias" for n in ("query", "key", "value")]
        holds(found, run, other)


def test_the_biases_of_a_gru_that_are_zero_have_the_gates_of_its_kernel() -> None:
    draw = np.random.default_rng(1)
    two = Two(draw)
    gru(draw, two)
    kernel, rows = list(two.ours.values())
    weight, *biases = list(two.theirs.values())
    ours = {"gru/kernel": kernel, "gru/bias": np.zeros((2, 12), np.float32)}
    theirs = {"rnn.weight": weight, "rnn.bias_ih": np.zeros(12, np.float32), "rnn.bias_hh": np.zeros(12, np.float32)}
    run = run_of(ours, gradients={"gru/kernel": kernel, "gru/bias": rows})
    its = {"rnn.weight": weight, "rnn.bias_ih": biases[0], "rnn.bias_hh": biases[1]}
    found = match(run, run_of(theirs, gradients=its))
    assert found.sentence == "2 of 2 tensors matched with 3 of 3, all proven"
    slots = {slot.canonical: slot for slot in found.ours if slot.framework == "gru/bias"}
    assert {name: (slot.index, slot.gates) for name, slot in slots.items()} == {
        "rnn.bias_ih": (0, (1, 0, 2)),
        "rnn.bias_hh": (1, (1, 0, 2)),
    }
    found = match(run_of(ours), run_of(theirs))
    assert not found.certain
    assert {slot.gates for slot in found.ours} == {(1, 0, 2)}


def test_a_square_kernel_of_the_same_name_may_be_the_transpose() -> None:
    kernel = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    run, other = run_of({"dense/kernel": kernel}), run_of({"dense/kernel": kernel.T})
    found = inferred(run, other)
    assert found is not None
    assert found.ours[0].axes == (1, 0)
    assert inferred(run, run) is None
    # Another draw is no transpose: then names are believed, and the runs differ from the beginning.
    assert inferred(run, run_of({"dense/kernel": kernel + 1})) is None


def test_a_symmetric_kernel_does_not_say_whether_it_is_transposed() -> None:
    kernel = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    found = match(run_of({"a": kernel + kernel.T}), run_of({"b": kernel + kernel.T}))
    assert [pairing.proven for pairing in found.pairings] == [False]


def test_runs_that_begin_with_other_values_are_matched_by_shape_and_order_and_it_is_said() -> None:
    draw = np.random.default_rng(0)
    run = run_of({"0.weight": draw.normal(size=(3, 4)), "2.weight": draw.normal(size=(5, 3))})
    other = run_of({"Dense_0/kernel": draw.normal(size=(4, 3)), "Dense_1/kernel": draw.normal(size=(3, 5))})
    found = match(run, other)
    assert [pairing.names for pairing in found.pairings] == [
        (("0.weight",), ("Dense_0/kernel",)),
        (("2.weight",), ("Dense_1/kernel",)),
    ]
    assert not any(pairing.proven for pairing in found.pairings)
    assert "different values" in found.lines[-1]


def test_two_tensors_of_equal_values_where_the_other_run_has_one_are_named() -> None:
    embedding = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    found = match(run_of({"wte.weight": embedding, "head.weight": embedding}), run_of({"wte/embedding": embedding}))
    assert not found.certain
    assert found.notes == (
        "wte.weight and head.weight of the first run and wte/embedding of the second begin with the same values: are "
        "they tied in one run alone?",
    )


@pytest.mark.parametrize("count", [1, 3])
def test_running_statistics_are_matched_with_their_layer_and_are_no_obstacle(count: int) -> None:
    draw = np.random.default_rng(0)
    ours, theirs, mine, its = {}, {}, {}, {}
    for k in range(count):
        kernel, scale, bias = draw.normal(size=(3, 4)), draw.normal(size=4), draw.normal(size=4)
        ours |= {f"{k}.weight": kernel.T, f"{k}.gamma": np.ones(4), f"{k}.beta": np.zeros(4)}
        ours |= {f"{k}.mean": np.zeros(4), f"{k}.var": np.ones(4), f"{k}.unheard": np.zeros(7)}
        theirs |= {f"b{k}/kernel": kernel, f"b{k}/scale": np.ones(4), f"b{k}/bias": np.zeros(4)}
        theirs |= {f"b{k}/moving_mean": np.zeros(4), f"b{k}/moving_var": np.ones(4)}
        mine |= {f"{k}.weight": kernel.T, f"{k}.gamma": scale, f"{k}.beta": bias}
        its |= {f"b{k}/kernel": kernel, f"b{k}/scale": scale, f"b{k}/bias": bias}
    found = match(run_of(ours, gradients=mine), run_of(theirs, gradients=its))
    pairs = {pairing.names[0][0]: pairing.names[1][0] for pairing in found.pairings}
    assert pairs["0.mean"] == "b0/moving_mean"
    assert pairs["0.var"] == "b0/moving_var"
    assert found.certain
    assert found.alone[0] == tuple(f"{k}.unheard" for k in range(count))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("told", [True, False])
def test_norms_in_stacked_layers_are_matched_slice_by_slice(told: bool, turned: bool) -> None:
    """All scales begin as ones and all biases as zeros: gradients tell them apart, else the blocks of the kernels."""
    draw = np.random.default_rng(8)
    kernels, depth, width = draw.normal(size=(3, 4, 4)), 3, 4
    norms = {
        f"{norm}/{role}": draw.normal(size=(depth, width)) for norm in ("ln_1", "ln_2") for role in ("scale", "bias")
    }
    begin = {name: np.full((depth, width), float(name.endswith("scale"))) for name in norms}
    last = draw.normal(size=width)
    stacked = {f"blocks/{name}": value for name, value in begin.items()} | {"blocks/up/kernel": kernels}
    apart = {f"h.{k}.{name.replace('/', '.')}": value[k] for name, value in begin.items() for k in range(depth)}
    apart |= {f"h.{k}.up.kernel": kernels[k] for k in range(depth)} | {"last.scale": np.ones(width)}
    gradients = {f"blocks/{name}": value for name, value in norms.items()} | {"last/scale": last}
    theirs = {f"h.{k}.{name.replace('/', '.')}": value[k] for name, value in norms.items() for k in range(depth)}
    runs = [
        run_of(stacked | {"last/scale": np.ones(width)}, gradients=gradients if told else None),
        run_of(apart, gradients=theirs | {"last.scale": last} if told else None),
    ]
    found = match(*(runs[::-1] if turned else runs))
    assert found.alone == ((), ())
    sides = (found.theirs, found.ours) if turned else (found.ours, found.theirs)
    names = {slot.canonical: f"{slot.framework}/{slot.index}" for slot in sides[0] if slot.index is not None}
    partners = {names[slot.canonical]: slot.framework for slot in sides[1] if slot.canonical in names}
    right = {f"blocks/{name}/{k}": f"h.{k}.{name.replace('/', '.')}" for name in norms for k in range(depth)}
    assert {name: partners.get(name) for name in right} == right
    assert {pairing.proven for pairing in found.pairings if pairing.how is not How.VALUE} == {told}


# What the search may take


def alike(count: int, prefix: str, draw: np.random.Generator) -> dict:
    """Tensors of the same few values, which may be parts of each other, all in other orders."""
    return {f"{prefix}{k}/w": draw.permutation(np.arange(24, dtype=np.float32)).reshape(3, 8)[0] for k in range(count)}


@pytest.mark.parametrize(("limit", "value"), [("SECONDS", 0.0), ("PAIRS", 100)])
def test_a_search_that_takes_too_much_ends_and_gives_no_pass(
    limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(4, 4)).astype(np.float32)
    some = alike(40, "t", draw)
    run, other = run_of({"a": kernel} | some), run_of({f"b{name}": of for name, of in ({"a": kernel} | some).items()})
    assert match(run, other).ended == ""
    monkeypatch.setattr(search, limit, value)
    monkeypatch.delenv("PARITY_LIMITS", raising=False)
    if limit == "PAIRS":
        run, other = run_of({"a": kernel} | some), run_of({"ba": kernel} | alike(40, "bt", draw))
    found = match(run, other)
    assert "the search for partners was ended" in found.ended
    assert any("--limits N" in line for line in found.lines)
    assert not found.certain
    assert found.missed
    # What was found until then holds.
    assert all(pairing.proven for pairing in found.pairings)
    assert ("a" in {name for pairing in found.pairings for name in pairing.names[0]}) == (limit == "PAIRS")
    judged = compare_runs(Path("a"), run, Path("b"), other, matched=found).judgement
    assert judged.verdict == "INCONCLUSIVE"


def test_no_pass_on_the_rest_where_a_search_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is left is nothing that is trained, or where equal names would have been believed."""
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(4, 4)).astype(np.float32)
    mask = np.zeros(3, np.float32)
    runs = [run_of({f"{p}k": kernel, f"{p}m": mask}, buffers=(f"{p}m",)) for p in "ab"]
    whole = match(*runs)
    assert compare_runs(Path("a"), runs[0], Path("b"), runs[1], matched=whole).judgement.verdict == "PASS"
    ended = [pairing for pairing in whole.pairings if pairing.names[0] == ("ak",)]
    cut = Correspondence(tuple(ended), (("am",), ("bm",)), whole.untrained, ended="the search was ended")
    judged = compare_runs(Path("a"), runs[0], Path("b"), runs[1], matched=cut).judgement
    assert (judged.verdict, judged.reason[:33]) == ("INCONCLUSIVE", "all that was matched agrees, but ")
    run, other = run_of({"k": kernel}), run_of({"k": kernel + 1})
    assert inferred(run, other) is None
    monkeypatch.setattr(search, "SECONDS", 0.0)
    found = inferred(run, other)
    assert found is not None
    assert found.ended


@pytest.mark.slow
def test_many_tensors_that_are_alike_do_not_take_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SECONDS", 5.0)
    draw = np.random.default_rng(0)
    runs = run_of(alike(8000, "a", draw)), run_of(alike(8000, "b", draw))
    begun = time.monotonic()
    found = match(*runs)
    judged = compare_runs(Path("a"), runs[0], Path("b"), runs[1], matched=found).judgement
    assert judged.verdict == "INCONCLUSIVE"
    assert time.monotonic() - begun < 60


def test_equal_layers_of_a_checkpoint_are_ambiguous_and_not_paired_by_the_alphabet() -> None:
    """A checkpoint knows no order in which layers run: norms that begin alike may be any of the other's."""
    draw = np.random.default_rng(0)
    kernels = [draw.normal(size=(4, 4)) for _ in range(2)]

    def checkpoint(norms: tuple[str, str], parts: tuple[str, str], **meta: str) -> Trajectory:
        params = {}
        for block, kernel in enumerate(kernels):
            params[f"h.{block}.mlp.{parts[0]}"] = kernel
            for norm in norms:
                params |= {f"h.{block}.{norm}.{parts[0]}": np.ones(4), f"h.{block}.{norm}.{parts[1]}": np.zeros(4)}
        stacks = {name: np.asarray(value)[None] for name, value in params.items()}
        return Trajectory({"dtype": "float64", **meta}, np.arange(1), np.zeros((0, 0)), stacks, {})

    ours = checkpoint(("ln_1", "ln_2"), ("weight", "bias"), origin="safetensors file")
    theirs = checkpoint(("feedforward_norm", "attention_norm"), ("0", "1"), origin="HDF5 weights")
    found = match(ours, theirs)
    assert [pairing.names for pairing in found.pairings] == [
        ((f"h.{k}.mlp.weight",), (f"h.{k}.mlp.0",)) for k in range(2)
    ]
    (note,) = (note for note in found.notes if note.startswith("ambiguous and not matched: "))
    assert "h.0.ln_1, h.0.ln_2" in note
    # Of one alone there is no doubt.
    ours, theirs = checkpoint(("ln",), ("weight", "bias"), origin="a"), checkpoint(("norm",), ("0", "1"), origin="b")
    assert not match(ours, theirs).alone[0]
