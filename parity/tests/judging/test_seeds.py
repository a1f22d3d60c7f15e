"""Several runs of two implementations: alike, different, or too few to say. Held against simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.judging.seeds import Quantity, compare_seeds, differing, possible, student
from parity.judging.tensors.correspondence import How, Pairing
from parity.judging.verdict import Verdict
from parity.layout import Slot
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Array

EPOCHS, BATCHES, ROWS, WIDTH = 12, 6, 48, 4


def trained(
    seeds: range,
    rate: float = 0.3,
    momentum: float = 0.0,
    decay: float = 0.0,
    summed: bool = False,
    scale: float = 0.5,
    dropped: float = 0.0,
) -> list[Trajectory]:
    """Logistic regressions, all at once, each with initial weights, an order of batches and masks of its own."""
    data = np.random.default_rng(1)
    x = data.normal(size=(ROWS, WIDTH))
    y = (x @ data.normal(size=WIDTH) + data.normal(size=ROWS) > 0).astype(float)
    draws = [np.random.default_rng((7, seed)) for seed in seeds]
    w = np.stack([scale * draw.normal(size=WIDTH) for draw in draws])  # (runs, width)
    velocity, snapshots, losses = np.zeros_like(w), [w], []
    for _ in range(EPOCHS):
        order = np.stack([draw.permutation(ROWS) for draw in draws])
        for rows in np.split(order, BATCHES, 1):
            mask = np.stack([draw.random(WIDTH) >= dropped for draw in draws]) / (1 - dropped)
            inputs = x[rows] * mask[:, None]  # (runs, batch, width)
            z = np.einsum("rbw,rw->rb", inputs, w)
            losses.append(np.mean(np.logaddexp(0, z) - y[rows] * z, 1))
            error = (1 / (1 + np.exp(-z)) - y[rows]) / (1 if summed else rows.shape[1])
            gradient = np.einsum("rb,rbw->rw", error, inputs) + decay * w
            velocity = momentum * velocity + gradient
            w = w - rate * velocity
        snapshots.append(w)
    loss, params = np.array(losses), np.array(snapshots)
    return [
        Trajectory(
            {"dtype": "float64"},
            np.arange(EPOCHS + 1),
            loss[:, k].reshape(EPOCHS, BATCHES),
            {"dense/kernel": params[:, k]},
            {},
        )
        for k in range(len(draws))
    ]


def test_runs_of_one_implementation_are_equivalent() -> None:
    found = compare_seeds(trained(range(16)), trained(range(100, 116)))
    assert found.verdict is Verdict.PASS, found.reason
    assert found.farthest is not None
    assert found.farthest[2] < 2
    assert found.needed is None


WRONG: dict[str, dict[str, Any]] = {
    "learning rate": {"rate": 0.45},
    "momentum": {"momentum": 0.5},
    "decay": {"decay": 0.1},
    "sum for mean": {"summed": True},
    "dropout left out": {"dropped": 0.3},
    "initial scale": {"scale": 1.0},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_is_seen_in_other_seeds(wrong: str) -> None:
    found = compare_seeds(trained(range(100, 112), **WRONG[wrong]), trained(range(12)))
    assert found.verdict is Verdict.FAIL, found.reason
    assert found.p <= 0.05
    assert "differs in distribution" in found.reason


def test_too_few_runs_say_how_many_it_takes() -> None:
    found = compare_seeds(trained(range(3)), trained(range(100, 103)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "cannot show any difference" in found.reason
    assert found.needed is not None
    assert found.needed > 3
    assert f"about {found.needed} runs a side" in found.reason


def test_a_spread_alone_is_a_difference_too() -> None:
    """Both sides have one mean; one has no dropout, and so nearly no spread."""
    draw = np.random.default_rng(0)
    narrow, wide = draw.normal(0, 0.1, (14, 6)), draw.normal(0, 2.0, (14, 6))
    places = tuple(f"epoch {k}" for k in range(6))
    assert differing([Quantity("loss", narrow, wide, places)])["loss"] <= 0.05


def test_runs_that_are_all_the_same_agree() -> None:
    (run,) = trained(range(1))
    found = compare_seeds([run] * 4, [run] * 4)
    assert (found.verdict, found.p, found.visible) == (Verdict.PASS, 1.0, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run.until(EPOCHS - 1), "other numbers of losses"),
        (lambda run: None, "a side needs at least 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: Callable[[Trajectory], Trajectory | None], said: str) -> None:
    runs = trained(range(2))
    others = [other for other in map(change, trained(range(5, 7))) if other is not None]
    with pytest.raises(TrajectoryError, match=said):
        compare_seeds(runs, others)


def test_what_is_not_finite_passes_nothing() -> None:
    runs = trained(range(8))
    runs[3].loss[-1, -1] = np.nan
    found = compare_seeds(runs, trained(range(100, 108)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "loss is not finite" in found.reason


def test_tensors_of_other_names_are_left_out_and_named() -> None:
    one, other = trained(range(8)), trained(range(100, 108))
    for run in other:
        run.params["fc.weight"] = run.params.pop("dense/kernel")
    found = compare_seeds(one, other)
    assert set(found.values) == {"loss"}
    assert "2 tensors were left out, as dense/kernel" in found.notes[0]
    assert "no --map says which are the same" in found.notes[0]


KERNEL = Pairing((Slot("kernel", "dense/kernel"),), (Slot("kernel", "fc.weight", index=0),), How.MAP)


def renamed(runs: list[Trajectory]) -> list[Trajectory]:
    """The same runs with kernels that are called otherwise and have an axis more."""
    params = [{"fc.weight": run.params["dense/kernel"][:, None, :]} for run in runs]
    return [replace(run, params=own) for run, own in zip(runs, params, strict=True)]


def test_a_map_says_which_tensors_are_the_same() -> None:
    one, other = trained(range(8)), trained(range(100, 108))
    plain, mapped = compare_seeds(one, other), compare_seeds(one, renamed(other), matching=[KERNEL])
    assert mapped.notes == ()
    assert mapped.verdict is plain.verdict
    assert mapped.values["movement of kernel"] == plain.values["movement of dense/kernel"]


def test_a_mistake_is_seen_in_a_tensor_of_another_name() -> None:
    one, other = trained(range(12)), renamed(trained(range(100, 112), scale=1.0))
    found = compare_seeds(one, other, matching=[KERNEL])
    assert found.verdict is Verdict.FAIL
    assert found.values["size of kernel"] <= 0.05


def test_what_the_map_does_not_name_is_compared_by_name_or_said() -> None:
    one, other = trained(range(4)), renamed(trained(range(100, 104)))
    for run in one:
        run.params |= {"bias": run.params["dense/kernel"][:, :1], "mask": run.params["dense/kernel"]}
    for run in other:
        run.params["bias"] = run.params["fc.weight"][:, 0, :1]
    found = compare_seeds(one, other, matching=[KERNEL])
    assert {name.split(" of ")[-1] for name in found.values} == {"loss", "kernel", "bias"}
    assert found.notes == ("1 tensors were left out, as mask: the map does not name them",)


def test_a_map_of_other_runs_is_refused() -> None:
    one, other = trained(range(4)), renamed(trained(range(100, 104)))
    turned = Pairing(KERNEL.theirs, KERNEL.ours, How.MAP)
    misshapen = Pairing((Slot("kernel", "dense/kernel", axes=(1, 0)),), KERNEL.theirs, How.MAP)
    absent = Pairing((Slot("kernel", "dense"),), KERNEL.theirs, How.MAP)
    for given_, said in (
        (turned, "the other way round"),
        (misshapen, "slots of kernel do not fit"),
        (absent, "a run of --seeds lacks dense, which the map names"),
    ):
        with pytest.raises(TrajectoryError, match=said):
            compare_seeds(one, other, matching=[given_])


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 6), st.integers(3, 6), st.integers(0, 10**6), st.floats(0.1, 1e6), st.floats(-100, 100))
def test_units_and_sides_do_not_matter(n: int, m: int, seed: int, factor: float, added: float) -> None:
    draw = np.random.default_rng(seed)
    ours, theirs = draw.normal(size=(n, 5)), draw.normal(size=(m, 5)) + 0.5
    places = tuple("abcde")

    def asked(one: Array, other: Array) -> tuple[float, Array]:
        quantity = Quantity("loss", one, other, places)
        return differing([quantity])["loss"], possible(quantity)

    p, reach = asked(ours, theirs)
    for one, other in ((theirs, ours), (factor * ours + added, factor * theirs + added)):
        again, other_reach = asked(one, other)
        assert again == pytest.approx(p)
        assert np.allclose(other_reach, reach, rtol=1e-3)


@pytest.mark.parametrize(("share", "freedom", "value"), [(0.95, 3, 2.353), (0.975, 4, 2.776), (0.95, 22, 1.717)])
def test_quantiles_of_student(share: float, freedom: int, value: float) -> None:
    assert student(share, freedom) == pytest.approx(value, rel=4e-3)


@pytest.mark.slow
def test_as_many_runs_as_are_said_to_be_needed_are_enough() -> None:
    few = compare_seeds(trained(range(3)), trained(range(100, 103)))
    count = few.needed
    assert count is not None
    every = trained(range(2 * count * 100))
    sides = [(every[2 * count * k :][:count], every[2 * count * k + count :][:count]) for k in range(100)]
    passed = sum(compare_seeds(*both).verdict is Verdict.PASS for both in sides)
    assert passed >= 70, passed  # 80 are meant; 2.5 standard deviations of a binomial distribution


PAIRS = 1000


@pytest.mark.slow
def test_false_alarms_are_as_many_as_are_allowed() -> None:
    """Over 1,000 pairs of sides that are drawn alike, 8 runs each: the share of FAIL is within its own interval."""
    every = trained(range(16 * PAIRS))
    found = [compare_seeds(every[16 * k : 16 * k + 8], every[16 * k + 8 : 16 * k + 16]) for k in range(PAIRS)]
    alarms = sum(one.verdict is Verdict.FAIL for one in found)
    # 50 are expected; 3 standard deviations of a binomial distribution around them.
    assert 50 - 3 * 6.9 <= alarms <= 50 + 3 * 6.9, alarms
    assert sum(one.verdict is Verdict.PASS for one in found) > 0


@pytest.mark.slow
def test_what_is_said_to_be_visible_is_seen_about_as_often_as_is_said() -> None:
    right = trained(range(12 * 60))
    said = np.median([compare_seeds(right[k : k + 12], right[k + 12 : k + 24]).visible for k in range(0, 240, 24)])
    wrong = trained(range(10**6, 10**6 + 12 * 60), rate=0.3 * (1 + float(said)))
    seen = np.mean(
        [
            compare_seeds(wrong[12 * k : 12 * k + 12], right[12 * k : 12 * k + 12]).verdict is Verdict.FAIL
            for k in range(60)
        ]
    )
    assert 0.5 <= seen <= 1.0, (said, seen)
