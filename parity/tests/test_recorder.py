"""Runs that people record from loops of their own, in every framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.frameworks import FRAMEWORKS
from parity.layout import Slot
from parity.recorder import Recorder
from parity.recording.format import MANIFEST, batch_order_hash
from parity.recording.places import keep_failure, partial_path
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.spec import Adam, Sgd, Shuffled, optimizer_from
from parity.tests.command import Parity, complaint
from parity.tests.loops import adams, dtypes_of, tiny
from parity.tests.suites import each_framework
from parity.trajectory import Trajectory
from parity.typing import Params

pytest_generate_tests = each_framework

ROWS, BATCHES = 12, 3
SCHEDULE = Shuffled(batch_size=ROWS // BATCHES, seed=3)


def params(value: float, dtype: str = "float32") -> Params:
    return {"dense/kernel": np.full((2, 1), value, dtype), "dense/bias": np.zeros(1, dtype)}


def record(folder: Path, epochs: int = 4, every: int = 1, deep: int = 0, rows: bool = True, **said: Any) -> Trajectory:
    """A loop whose tensors are changed in place, as an optimizer changes them."""
    now, gradient, count = params(0.0), params(1.0), 0
    with Recorder(folder, "float32", deep=deep, **said) as run:
        run.snapshot(now, metrics={"accuracy": 0.5})
        order = SCHEDULE.epochs(ROWS)
        for epoch in range(1, epochs + 1):
            for batch in next(order):
                seen = {"rows": batch, "prediction": batch * 0.5, "gradients": gradient, "params": now}
                run.step(count, **(seen if rows else {**seen, "rows": None}))
                count += 1
                now["dense/kernel"] += gradient["dense/kernel"]
            if epoch % every == 0 or epoch == epochs:
                run.snapshot(now, epoch, metrics={"accuracy": epoch / 8})
    return read(folder)


@given(epochs=st.integers(1, 5), every=st.integers(1, 3))
def test_what_is_recorded_is_what_was_there(tmp_path_factory: Any, epochs: int, every: int) -> None:
    found = record(tmp_path_factory.mktemp("run") / "run", epochs, every)
    assert found.epochs.tolist() == sorted({0, *range(every, epochs + 1, every), epochs})
    assert found.loss.tolist() == np.arange(epochs * BATCHES).reshape(epochs, BATCHES).tolist()
    assert found.loss.dtype == np.float32
    np.testing.assert_array_equal(found.params["dense/kernel"][:, 0, 0], BATCHES * found.epochs)
    np.testing.assert_array_equal(found.metrics["accuracy"][1:], found.epochs[1:] / 8)
    assert found.meta["batch_order"] == batch_order_hash(SCHEDULE, ROWS, epochs)
    assert found.meta["complete"] is True


def test_without_rows_nothing_is_said_of_the_order(tmp_path: Path) -> None:
    assert record(tmp_path / "run", rows=False).meta["batch_order"] is None


@pytest.mark.parametrize("deep", [1, 2, 3, 4, 7, 12, 50])
def test_deep_updates_are_whole_wherever_they_end(tmp_path: Path, deep: int) -> None:
    steps = steps_of(record(tmp_path / "run", deep=deep))
    assert len(steps) == min(deep, 4 * BATCHES)
    for k, step in enumerate(steps):
        assert (step.before.params["dense/kernel"] == k).all()
        assert (step.after.params["dense/kernel"] == k + 1).all()
        assert (float(step.loss), float(step.trained)) == (k, k)
    np.testing.assert_array_equal(steps[0].prediction, steps[0].rows * 0.5)


def test_a_snapshot_says_the_state_that_the_last_deep_update_leaves(tmp_path: Path) -> None:
    """Full batches: each update ends an epoch, and no step need repeat what the snapshot has said."""
    with Recorder(tmp_path / "run", "float32", deep=2) as run:
        run.snapshot(params(0))
        for k in range(3):
            run.step(0.0, rows=[0], prediction=[0.0], gradients=params(1), params=params(k) if k < 2 else None)
            run.snapshot(params(k + 1), slots={"momentum": params(k)})
    first, second = steps_of(read(tmp_path / "run"))
    assert (second.after.params["dense/kernel"] == 2).all()
    assert set(second.after.slots) == {"momentum/dense/kernel", "momentum/dense/bias"}
    assert set(first.after.slots) == set(second.after.slots), "what step does not say of a state the snapshot has said"


def test_a_layout_brings_the_frameworks_own_tensors_into_the_canonical_one(tmp_path: Path) -> None:
    layout = (Slot("dense/kernel", "weight", axes=(1, 0)), Slot("dense/bias", "bias"))
    own = {"weight": np.arange(6.0).reshape(2, 3), "bias": np.zeros(2)}
    with Recorder(tmp_path / "run", "float64", layout=layout, deep=1, optimizer=Adam(0.1), case="mine") as run:
        run.snapshot(own)
        run.step(1.0, rows=[0], prediction=[0.0], gradients=own, params=own, slots={"first_moment": own})
        run.snapshot(own)
    found = read(tmp_path / "run")
    np.testing.assert_array_equal(found.params["dense/kernel"][1], own["weight"].T)
    (step,) = steps_of(found)
    for kept in (step.gradients["dense/kernel"], step.before.slots["first_moment/dense/kernel"]):
        np.testing.assert_array_equal(kept, own["weight"].T)
    assert optimizer_from(found.meta["hyper_parameters"]["optimizer"]) == Adam(0.1)
    assert (found.meta["case"], found.meta["versions"]["numpy"]) == ("mine", np.__version__)


@pytest.mark.asks(question=tiny)
def test_every_frameworks_tensors_are_recorded_in_every_dtype(framework: str, answer: str) -> None:
    for dtype in dtypes_of(framework):
        found = read(Path(answer, dtype))
        assert found.meta["dtype"] == dtype
        np.testing.assert_array_equal(found.params["dense/kernel"][:], [[[1.5, -2.0]], [[0.5, 0]], [[0.5, 1]]])
        np.testing.assert_array_equal(found.loss, [[0.25], [0.25]])
        assert [step.rows.tolist() for step in steps_of(found)] == [[0, 3], [1, 3]]
        assert next(iter(known(framework).packages.values()))[0] in found.meta["versions"]
        assert set(found.meta["settings"]) >= {*known(framework).environment}


@pytest.mark.asks(question=adams, framework="keras")
def test_kerass_own_adam_is_named(parity: Parity, answer: str) -> None:
    """By what Keras itself computes: the mistakes that are made of it are worked out in NumPy."""
    for way, dtype, name in (
        ("keras", "float32", "adam-of-keras"),
        ("keras", "float64", "adam-of-keras-in-float64"),
        ("epsilon", "float64", "adam-of-keras-in-float64-but-epsilon"),
    ):
        result = parity("explain", Path(answer, f"{way}-{dtype}"), Path(answer, f"own-{dtype}"))
        assert f"explained by {name} (" in result.out, result.out


def known(name: str) -> Any:
    return next(framework for framework in FRAMEWORKS if framework.name == name)


# What has no place


WHOLE = {"rows": [0], "prediction": [0.0], "gradients": params(1), "params": params(0)}
"""What a deep update needs."""


def too_late(run: Recorder) -> None:
    run.step(1.0)


def other_dtype(run: Recorder) -> None:
    run.snapshot(params(0, "float64"))


def not_at_the_beginning(run: Recorder) -> None:
    run.snapshot(params(0), 3)


def no_steps(run: Recorder) -> None:
    run.snapshot(params(0))
    run.snapshot(params(0))


def other_batches(run: Recorder) -> None:
    for count in (0, 2, 3):
        for _ in range(count):
            run.step(1.0)
        run.snapshot(params(0))


def half_an_epoch(run: Recorder) -> None:
    run.snapshot(params(0))
    for _ in range(3):
        run.step(1.0)
    run.snapshot(params(0), 2)


def many_losses(run: Recorder) -> None:
    run.snapshot(params(0))
    run.step(np.ones(4))


def rows_between(run: Recorder) -> None:
    run.snapshot(params(0))
    run.step(1.0, rows=[0.5])


def trailing(run: Recorder) -> None:
    run.snapshot(params(0))
    run.step(1.0)
    run.snapshot(params(0))
    run.step(1.0)


def other_names(run: Recorder) -> None:
    run.snapshot(params(0))
    run.step(1.0)
    run.snapshot({"dense/kernel": np.zeros((2, 1), np.float32)})


def one_by_one(run: Recorder) -> None:
    run.snapshot(iter(params(0).items()))


COMPLAINTS = {
    too_late: "call snapshot before the first step",
    other_dtype: "dense/kernel is float64 where the run declares float32",
    not_at_the_beginning: "epoch 0, before training, not of epoch 3",
    no_steps: "0 steps came for 1 epoch:",
    other_batches: "3 steps came for 1 epoch of 2 batches",
    half_an_epoch: "3 steps came for 2 epochs",
    many_losses: r"one number for its loss, not float64 of shape \(4,\)",
    rows_between: "rows are integers, not float64",
    trailing: "1 step came after the last snapshot",
    one_by_one: r"a mapping of names to tensors, as dict\(model.named_parameters\(\)\), not a dict_itemiterator",
    other_names: "not those of the snapshot before: dense/bias is in one of them alone",
}


@pytest.mark.parametrize("misuse", COMPLAINTS, ids=lambda misuse: misuse.__name__)
def test_what_has_no_place_is_said_and_nothing_is_lost(misuse: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=COMPLAINTS[misuse]), Recorder(tmp_path / "run", "float32") as run:
        misuse(run)
    assert not (tmp_path / "run").exists()
    kept = partial_path(tmp_path / "run")
    if (kept / MANIFEST).exists():
        assert json.loads((kept / MANIFEST).read_text())["complete"] is False
        assert read(kept, partial=True).epochs[0] == 0


def test_a_recording_is_closed_once_and_for_all(tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32")
    run.snapshot(params(0))
    run.close()
    run.close()
    assert read(tmp_path / "run").epochs.tolist() == [0]
    for more in (lambda: run.step(1.0), lambda: run.snapshot(params(0))):
        with pytest.raises(ValueError, match="this recording has ended"):
            more()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"dtype": "fp32"}, "float32, float64, float16, bfloat16, not 'fp32'"),
        ({"dtype": np.int64}, "not <class 'numpy.int64'>"),
        ({"deep": "3"}, "deep is a number of updates, 0 or more, not '3'"),
        ({"deep": -1}, "not -1"),
        ({"optimizer": "adam"}, "in the words of parity.spec, Sgd, Adam or AdamW, not as 'adam'"),
        ({"layout": {"dense/kernel": "weight"}}, "a sequence of parity.layout.Slot"),
    ],
)
def test_what_a_recorder_cannot_be_told_is_said_before_anything_is_written(
    said: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match):
        Recorder(tmp_path / "run", **{"dtype": "float32", **said})
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_may_be_a_frameworks_own(tmp_path: Path) -> None:
    for number, dtype in enumerate((np.float32, np.dtype("float32"))):
        assert Recorder(tmp_path / str(number), dtype).dtype == "float32"


def test_nested_parameters_go_by_their_paths(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", "float32") as run:
        run.snapshot({"Dense_0": {"kernel": np.zeros((2, 1), np.float32), "bias": np.zeros(1, np.float32)}})
    assert set(read(tmp_path / "run").params) == {"Dense_0/kernel", "Dense_0/bias"}


LAYOUT = (Slot("dense/kernel", "weight", axes=(1, 0)), Slot("dense/bias", "bias"))


@pytest.mark.parametrize(
    ("own", "match"),
    [
        ({"weight": (1, 2), "bias": (1,), "scale": (1,)}, "scale, one of the parameters, is in no slot of the layout"),
        ({"weight": (1, 2)}, "the layout names bias, which is not among the parameters"),
        ({"weight": (2,), "bias": (1,)}, "the parameters do not fit the layout: axes don't match"),
    ],
)
def test_a_layout_leaves_no_parameter_out(own: dict[str, tuple[int, ...]], match: str, tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32", layout=LAYOUT)
    with pytest.raises(ValueError, match=match):
        run.snapshot({name: np.zeros(shape, np.float32) for name, shape in own.items()})


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"gradients": {"w": np.ones((2, 1), "f4")}}, "a gradient of w, which is not among the parameters"),
        ({"gradients": {**params(1), "dense/kernel": np.ones(2, "f4")}}, r"of dense/kernel has shape \(2,\), the"),
        ({"gradients": {**params(1), "dense/kernel": np.ones((2, 1), "f2")}}, "of dense/kernel is float16 where"),
        ({"gradients": {"dense/kernel": None, "dense/bias": None}}, "no parameter has a gradient: call step after"),
        ({"prediction": [None]}, "the prediction is object"),
        ({"params": params(1)}, "dense/kernel is not what it was in the snapshot before"),
        ({"params": {**params(0), "count": np.int64(0)}}, "count is int64: a count is no parameter, leave it out"),
        ({"params": params(0, "float64")}, "dense/kernel is float64 where the run declares float32"),
    ],
)
def test_what_does_not_belong_to_a_deep_update_is_said_at_once(
    changed: dict[str, Any], match: str, tmp_path: Path
) -> None:
    run = Recorder(tmp_path / "run", "float32", deep=1)
    run.snapshot(params(0))
    with pytest.raises(ValueError, match=match):
        run.step(1.0, **{**WHOLE, **changed})


def test_what_is_not_trained_needs_no_gradient(parity: Parity, tmp_path: Path) -> None:
    """Running statistics: recorded, compared, and no optimizer's work."""
    for name, momentum in (("a", 0.1), ("b", 0.2)):
        now = {**params(0), "norm/mean": np.zeros(3, np.float32)}
        with Recorder(tmp_path / name, "float32", deep=2, optimizer=Sgd(1.0)) as run:
            run.snapshot(now)
            for _ in range(2):
                # A forward pass moves them, before there is an update.
                now = {**now, "norm/mean": (1 - np.float32(momentum)) * now["norm/mean"] + np.float32(momentum)}
                seen = {"rows": [0], "prediction": [0.0], "params": now}
                run.step(1.0, **seen, gradients={**params(1), "norm/mean": None})
                now = {**now, **{key: now[key] - params(1)[key] for key in params(1)}}
                run.snapshot(now)
    assert set(steps_of(read(tmp_path / "a"))[0].gradients) == set(params(0))
    result = parity("explain", tmp_path / "a", tmp_path / "b")
    assert result.status == 1
    assert "first differs at epoch 1, batch 0, state of norm/mean" in result.out
    assert "unexplained: it began alike and was moved before the first update" in result.out


def test_without_deep_updates_nothing_but_the_loss_is_looked_at(tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32")
    run.snapshot(params(0))
    run.step(1.0, **{**WHOLE, "params": params(7), "gradients": {"w": None}})
    run.snapshot(params(1))
    run.close()
    assert read(tmp_path / "run").steps == {}


def test_two_tensors_of_one_name_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two of the parameters are called dense/kernel"):
        Recorder(tmp_path / "run", "float32").snapshot({**params(0), "dense": {"kernel": params(0)["dense/kernel"]}})


def test_a_run_that_is_recorded_again_is_no_failure_any_more(parity: Parity, tmp_path: Path) -> None:
    record(tmp_path / "a"), record(tmp_path / "b")
    keep_failure(tmp_path / "a", "the worker died")
    assert parity("diff", tmp_path / "a", tmp_path / "b").status == 3
    record(tmp_path / "a")
    assert parity("diff", tmp_path / "a", tmp_path / "b").status == 0


@pytest.mark.parametrize("missing", ["rows", "prediction", "gradients", "params"])
def test_a_deep_update_that_lacks_something_is_said(missing: str, tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32", deep=1)
    run.snapshot(params(0))
    with pytest.raises(ValueError, match=f"given no {missing}"):
        run.step(1.0, **{**WHOLE, missing: None})


def test_the_state_after_the_last_deep_update_is_asked_for(tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32", deep=1)
    run.snapshot(params(0))
    run.step(1.0, **WHOLE)
    with pytest.raises(ValueError, match="after the last of 1 deep updates"):
        run.step(1.0)


def interrupted(folder: Path) -> None:
    with Recorder(folder, "float32") as run:
        for _ in range(3):
            run.snapshot(params(0))
            run.step(1.0)
        raise KeyboardInterrupt


def test_a_loss_beyond_float16_is_kept(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", "float16") as run:
        run.snapshot(params(0, "float16"))
        run.step(70000.0)
        run.snapshot(params(0, "float16"))
    assert read(tmp_path / "run").loss.tolist() == [[70000.0]]


def test_integers_and_an_optimizers_own_count_are_kept(tmp_path: Path) -> None:
    """As classes are predicted, and as torch counts its steps for each parameter."""
    counts = {"dense/kernel": np.int32(3), "dense/bias": np.int32(3)}
    with Recorder(tmp_path / "run", "float32", deep=1, optimizer=Sgd(np.float64(0.1))) as run:
        run.snapshot(params(0))
        run.step(1.0, **{**WHOLE, "prediction": np.array([True])}, slots={"step": counts})
        run.snapshot(params(0))
    found = read(tmp_path / "run")
    (step,) = steps_of(found)
    assert step.prediction.tolist() == [1]
    assert step.before.slots["step/dense/kernel"] == 3
    assert optimizer_from(found.meta["hyper_parameters"]["optimizer"]) == Sgd(0.1)


def test_a_slot_that_could_not_be_read_again_is_said_at_once(tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32", deep=1)
    run.snapshot(params(0))
    with pytest.raises(ValueError, match=r"exp avg/dense/kernel cannot be kept .* a name is parts of letters"):
        run.step(1.0, **WHOLE, slots={"exp avg": params(0)})


def test_an_interrupted_loop_leaves_what_it_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "run")
    assert read(partial_path(tmp_path / "run"), partial=True).epochs.tolist() == [0, 1, 2]


def test_two_recordings_of_ones_own_are_compared_and_their_orders_told_apart(parity: Parity, tmp_path: Path) -> None:
    record(tmp_path / "a"), record(tmp_path / "b")
    assert parity("diff", tmp_path / "a", tmp_path / "b").status == 0
    with Recorder(tmp_path / "c", "float32") as run:
        run.snapshot(params(0), metrics={"accuracy": 0.5})
        for epoch in range(1, 5):
            for batch in range(BATCHES):
                run.step(3 * (epoch - 1) + batch, rows=np.arange(4))
            run.snapshot(params(3 * epoch), metrics={"accuracy": 0.5})
    result = parity("diff", tmp_path / "a", tmp_path / "c")
    assert result.status == 3
    assert "batches in different orders" in result.out
    assert "the order of the batches differs: SHA-256 " in result.out


@pytest.mark.parametrize(("last", "alike"), [([3, 1], ", the same in another order"), ([3, 2], "")])
def test_the_first_batch_of_other_rows_is_shown(last: list[int], alike: str, parity: Parity, tmp_path: Path) -> None:
    for name, second in (("a", [1, 3]), ("b", last)):
        with Recorder(tmp_path / name, "float32", deep=2) as run:
            run.snapshot(params(0))
            for rows in ([0, 2], second):
                run.step(1.0, **{**WHOLE, "rows": rows})
            run.snapshot(params(0))
    result = parity("diff", tmp_path / "a", tmp_path / "b")
    assert result.status == 3
    shown = f"epoch 1, batch 1 has the rows 1, 3 and {last[0]}, {last[1]}{alike} ("
    assert f"the order of the batches differs: {shown}" in result.out


def wandering(folder: Path, factor: float, dtype: str = "float32") -> Path:
    """A run whose only parameter is off by so many roundings an epoch, as one is that amplifies its rounding."""
    with Recorder(folder, dtype) as run:
        for epoch in range(11):
            moved = np.array([1.0 + 1e-7 * factor * epoch], dtype)
            if epoch:
                run.step(1.0)
            run.snapshot({"scale": moved})
    return folder


def test_repetitions_show_how_far_rounding_carries_a_run(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    noise = [word for number in (1, 2) for word in ("--noise", wandering(tmp_path / f"noise{number}", 10.0 * number))]
    assert parity("diff", ours, theirs).status == 1
    result = parity("diff", ours, theirs, *noise)
    assert result.status == 0
    assert f"note: the noise floor of {ours} is as far as repetitions strayed, 2 of them" in result.out
    assert "64 roundings" not in result.out
    assert parity("explain", ours, theirs, *noise).status == 0
    # A repetition belongs to the run that it is near to, and does not excuse the other.
    wrong = wandering(tmp_path / "wrong", 4000)
    for pair in ((ours, wrong), (wrong, ours)):
        assert parity("diff", *pair, *noise).status == 1
        assert parity("diff", *pair, *noise, "--noise", wandering(tmp_path / "near", 4010)).status == 1


def test_a_repetition_in_another_dtype_says_nothing(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    result = parity("diff", ours, theirs, "--noise", wandering(tmp_path / "wide", 40, "float64"))
    assert result.status == 1
    assert "64 roundings" in result.out


def test_what_is_no_repetition_is_no_noise(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    for noise in (ours, theirs):
        assert "it is one of these runs to the bit" in complaint(parity("diff", ours, theirs, "--noise", noise))
    with Recorder(tmp_path / "other", "float32") as run:
        for epoch in range(11):
            if epoch:
                run.step(1.0)
            run.snapshot({"scale": np.array([1.25], np.float32)})
    result = parity("diff", ours, theirs, "--noise", tmp_path / "other")
    assert "scale begins 0.25 away from both, which is no rounding" in complaint(result)


def test_noise_that_is_none_of_these_runs_is_said(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "model" / "ours", 0), wandering(tmp_path / "model" / "theirs", 1)
    record(tmp_path / "other")
    for command in ("diff", "explain"):
        result = parity(command, ours, theirs, "--noise", tmp_path / "other")
        assert result.status == 2
        assert "shows no noise of these runs: parameter scale is missing" in complaint(result)
    assert "two trajectories" in complaint(parity("diff", tmp_path, tmp_path, "--noise", ours))
    assert "two trajectories" in complaint(parity("explain", "iris-logistic", "--noise", ours))


def test_runs_in_one_folder_are_compared_each_with_each_once(parity: Parity, tmp_path: Path) -> None:
    for name in ("torch", "jax", "my-numpy"):
        record(tmp_path / "my-model" / name)
    with Recorder(tmp_path / "my-model" / "wide", "float64") as run:
        run.snapshot(params(0, "float64"))
    result = parity("diff", tmp_path, tmp_path)
    assert result.status == 3  # the one in another dtype has no counterpart
    assert "3 of 3 pairs agree" in result.out
