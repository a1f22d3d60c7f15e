"""A run in the layout of a correspondence: all that was recorded of a tensor goes with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.judging.floors.floor import Floor, Source, too_narrow
from parity.judging.tensors.aligned import aligned, aligned_floor, finer, layouts
from parity.judging.tensors.correspondence import Correspondence, How, Pairing
from parity.judging.tensors.matched import unbiased, unbiased_in_one
from parity.judging.verdict import judge
from parity.layout import Slot
from parity.trajectory import Trajectory, TrajectoryError

PARTS = ("q", "k")


@pytest.fixture
def both() -> tuple[Trajectory, Trajectory, Correspondence]:
    """One run with a fused tensor of two parts, one with the parts, and beside it a transposed kernel."""
    draw = np.random.default_rng(0)
    fused, kernel = draw.normal(size=(3, 8, 2)), draw.normal(size=(3, 5, 4))
    own = {"qk": fused, "w": kernel}
    theirs = {
        "q": fused[:, :4].transpose(0, 2, 1),
        "k": fused[:, 4:].transpose(0, 2, 1),
        "kernel": kernel.transpose(0, 2, 1),
    }
    runs = []
    for params in (own, theirs):
        steps = {"0/loss": np.array(1.0), "0/strays/loss": np.ones(2), "0/activations/w": np.zeros(3)}
        for kind in ("params", "gradients", "unclipped", "slots/momentum"):
            steps |= {f"0/{kind}/{name}": value[0] for name, value in params.items()}
        steps |= {f"0/strays/gradients/{name}": np.array([1.0, 2.0]) for name in params}
        if "w" in params:
            steps["0/slots/rows/w"] = np.zeros(5)  # a slot of another shape than its parameter
        runs.append(Trajectory({"dtype": "float64"}, np.arange(3), np.ones((2, 1)), params, {}, steps))
    pairings = (
        Pairing(
            (Slot("qk", "qk", axes=(1, 0)),),
            tuple(Slot("qk", name, block=(k, 2)) for k, name in enumerate(PARTS)),
            How.VALUE,
            proven=True,
        ),
        Pairing((Slot("kernel", "w", axes=(1, 0)),), (Slot("kernel", "kernel"),), How.VALUE, proven=True),
    )
    return runs[0], runs[1], Correspondence(pairings)


def test_both_runs_have_the_same_tensors_and_a_fused_one_is_taken_apart(
    both: tuple[Trajectory, Trajectory, Correspondence],
) -> None:
    one, other, matched = both
    ours, theirs = (aligned(run, layout) for run, layout in zip((one, other), layouts(matched), strict=True))
    assert list(ours.params) == list(theirs.params) == ["q", "k", "kernel"]
    for name, stack in ours.params.items():
        assert stack.shape == theirs.params[name].shape
        np.testing.assert_array_equal(stack[1:], theirs.params[name][1:])
        np.testing.assert_array_equal(stack[2], np.asarray(theirs.params[name])[2])
    assert ours.steps.keys() == theirs.steps.keys()
    assert "0/slots/rows/kernel" not in ours.steps
    for name in ours.steps:
        np.testing.assert_array_equal(ours.steps[name], theirs.steps[name])
    assert matched.pairing_of("q") is matched.pairings[0]
    with pytest.raises(TrajectoryError, match="the slots of q do not fit the run"):
        aligned(other, layouts(matched)[0])


def test_a_noise_floor_goes_with_its_tensor_and_parts_have_that_of_the_run_that_measured_them(
    both: tuple[Trajectory, Trajectory, Correspondence],
) -> None:
    one, other, matched = both
    ours = Floor(np.ones((2, 1)), {"qk": np.full(3, 9.0), "w": np.full(3, 1.0)}, source=Source.SHADOWS)
    theirs = Floor(np.ones((2, 1)), {"q": np.full(3, 2.0), "k": np.full(3, 8.0), "kernel": np.full(3, 3.0)})
    common = layouts(matched)
    floors = [aligned_floor(floor, layout) for floor, layout in zip((ours, theirs), common, strict=True)]
    assert floors[0].params["q"][0] == 9
    runs = [aligned(run, layout) for run, layout in zip((one, other), common, strict=True)]
    found = finer(floors, common, runs)
    assert {name: (found[0].params[name][0], found[1].params[name][0]) for name in ("q", "k", "kernel")} == {
        "q": (2, 2),
        "k": (8, 8),
        "kernel": (1, 3),
    }


def test_an_unbiased_variance_is_told_from_another_momentum() -> None:
    draw = np.random.default_rng(0)
    variances = draw.uniform(0.5, 2, size=(6, 4))

    def running(momentum: float, factor: float) -> np.ndarray:
        found = [np.ones(4)]
        for variance in variances:
            found.append((1 - momentum) * found[-1] + momentum * factor * variance)
        return np.stack(found)

    floor = np.full(7, 1e-15)
    biased = running(0.1, 1)
    assert unbiased(running(0.1, 32 / 31), biased, floor) == 32
    assert unbiased(biased, running(0.1, 32 / 31), floor) == 32
    assert unbiased(running(0.2, 32 / 31), biased, floor) == 0
    assert unbiased(running(0.1, 1.5), running(0.2, 1), floor) == 0
    assert unbiased(biased + 1e-3 * draw.normal(size=biased.shape), biased, floor) == 0


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("kind", ["unbiased", "equal", "rounded", "another"])
def test_running_variances_are_left_out_only_where_one_is_unbiased(kind: str, parted: bool) -> None:
    """Also where the runs part later for another reason, which running variances follow."""
    draw = np.random.default_rng(1)
    variances = draw.uniform(0.5, 2, size=(6, 4))
    off = {"unbiased": 512 / 511, "another": 1.7, "equal": 1.0, "rounded": 1.0}[kind]
    one, other = [np.ones(4)], [np.ones(4)]
    for number, variance in enumerate(variances):
        drift = 1 + 0.1 * draw.normal(size=4) * (parted and number > 2)
        one.append(0.9 * one[-1] + 0.1 * off * variance * drift)
        other.append(0.9 * other[-1] + 0.1 * variance)
    theirs = np.stack(other)
    ours = np.stack(one) + (kind == "rounded") * 1e-14 * draw.normal(size=theirs.shape)
    if kind == "another":
        ours[1:] += 0.01 * draw.normal(size=(6, 4))
    kernel = np.cumsum(np.ones((7, 2)), 0)
    wrong = kernel + parted * np.arange(7)[:, None].clip(3) % 3
    runs = [
        Trajectory({"dtype": "float64"}, np.arange(7), np.ones((6, 1)), {"var": var, "kernel": k}, {})
        for var, k in ((ours, wrong), (theirs, kernel))
    ]
    floor = Floor(
        np.full((6, 1), 1e-15), {name: np.full(7, 1e-15) for name in ("var", "kernel")}, source=Source.SHADOWS
    )
    pairings = tuple(Pairing((Slot(name, name),), (Slot(name, name),), How.NAME) for name in ("var", "kernel"))
    matched = Correspondence(pairings, untrained=(frozenset({"var"}), frozenset({"var"})))
    found = unbiased_in_one(*runs, floor, matched, lambda run, reference, floor: judge(run, reference, floor))
    assert found == ({"var": 512} if kind == "unbiased" else {})


def test_a_slot_of_a_single_value_keeps_its_shape() -> None:
    slots = (Slot("bias", "bias", axes=((),), shape=()),)
    steps = {"0/params/bias": np.ones(1), "0/slots/momentum/bias": np.ones(1)}
    run = Trajectory({"dtype": "float64"}, np.arange(1), np.zeros((0, 0)), {"bias": np.ones((1, 1))}, {}, steps=steps)
    found = aligned(run, layouts(Correspondence((Pairing(slots, slots, How.NAME),)))[0])
    assert found.params["bias"].shape[1:] == found.steps["0/slots/momentum/bias"].shape == ()


def test_no_part_has_a_noise_floor_below_its_own_roundings(
    both: tuple[Trajectory, Trajectory, Correspondence],
) -> None:
    one, other, matched = both
    common = layouts(matched)
    runs = [aligned(run, layout) for run, layout in zip((one, other), common, strict=True)]
    none = Floor(np.ones((2, 1)), {name: np.zeros(3) for name in runs[0].params}, source=Source.SHADOWS)
    found = finer([none, none], common, runs)[0]
    assert not too_narrow(replace(found, params=found.params | {"kernel": np.ones(3)}), runs[0], "float64")


def test_a_tensor_of_one_value_loses_its_axis_in_every_part_of_a_recording() -> None:
    steps = {f"0/{kind}/b": np.ones(1) for kind in ("params", "gradients", "slots/momentum")}
    run = Trajectory({}, np.arange(2), np.ones((1, 1)), {"b": np.ones((2, 1))}, {}, steps)
    slot = Slot("bias", "b", axes=((),))
    found = aligned(run, layouts(Correspondence((Pairing((slot,), (slot,), How.VALUE),)))[0])
    assert found.params["bias"].shape == (2,)
    assert {name: value.shape for name, value in found.steps.items()} == {
        f"0/{kind}/bias": () for kind in ("params", "gradients", "slots/momentum")
    }
