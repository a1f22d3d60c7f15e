"""What has no place in a recording is said at once, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.layout import Slot
from parity.recorder import Recorder
from parity.recording.format import MANIFEST
from parity.recording.places import keep_failure, partial_path
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.spec import Sgd, optimizer_from
from parity.tests.by_hand import params, record
from parity.tests.command import Parity

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
    assert "explained by another-running-momentum" in result.out
    assert "of each batch's value the first run takes 0.1, the second 0.2" in result.out


def test_without_deep_updates_nothing_but_the_loss_is_looked_at(tmp_path: Path) -> None:
    run = Recorder(tmp_path / "run", "float32")
    run.snapshot(params(0))
    run.step(1.0, **{**WHOLE, "params": params(7), "gradients": {"w": None}})
    run.snapshot(params(1))
    run.close()
    assert not read(tmp_path / "run").steps


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
