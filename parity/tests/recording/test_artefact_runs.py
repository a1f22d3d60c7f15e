"""A checkpoint or a log is one side of a comparison: a run of one snapshot, or of losses alone."""

from __future__ import annotations

import doctest
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from parity.dtypes import packed
from parity.judging.diff import compare_runs
from parity.judging.verdict import Judgement, Verdict
from parity.recorder import Recorder
from parity.recording.artefacts import as_trajectory, is_artefact, open_run, read_artefact
from parity.trajectory import TrajectoryError


def weights(path: Path, change: float = 0.0, dtype: str = "float32") -> Path:
    kernel = np.linspace(-1, 1, 6).reshape(3, 2).astype(dtype)
    kernel[0, 0] += change
    np.savez(path, **{"dense/kernel": kernel, "dense/bias": np.zeros(2, dtype), "count": np.array(3)})
    return path


def log(path: Path, last: float = 0.125) -> Path:
    path.write_text(f"step,loss\n1,0.5\n2,0.25\n3,{last}\n")
    return path


def judged(a: Path, b: Path) -> Judgement:
    return compare_runs(a, open_run(a), b, open_run(b)).judgement


def verdict(a: Path, b: Path) -> Verdict:
    return judged(a, b).verdict


def test_two_checkpoints_are_compared(tmp_path: Path) -> None:
    """Of weights that agree nobody knows whether they were trained at all."""
    a, b, c = (weights(tmp_path / f"{k}.npz", change) for k, change in enumerate((0, 0, 0.01)))
    assert "nothing was trained" in judged(a, b).reason
    found = judged(a, c)
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("first differs at epoch 0: dense/kernel[0, 0] is -1")


def test_a_checkpoint_is_compared_with_a_recording_of_one_snapshot(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", "float32") as run:
        run.snapshot({name: value for name, value in np.load(weights(tmp_path / "a.npz")).items() if value.ndim})
    assert "nothing was trained" in judged(tmp_path / "run", tmp_path / "a.npz").reason
    assert verdict(tmp_path / "run", weights(tmp_path / "b.npz", 0.01)) is Verdict.FAIL


def test_a_log_without_weights_is_held_against_another(tmp_path: Path) -> None:
    """What no judge was made for must not pass: two logs that differ are none that agree."""
    a, b, c = log(tmp_path / "a.csv"), log(tmp_path / "b.csv"), log(tmp_path / "c.csv", 0.25)
    assert open_run(a).loss.tolist() == [[0.5], [0.25], [0.125]]
    assert verdict(a, b) is Verdict.PASS
    assert verdict(a, c) is Verdict.FAIL
    assert verdict(a, weights(tmp_path / "d.npz")) is Verdict.INCONCLUSIVE


def test_a_log_that_leaves_updates_out_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,loss\n10,0.5\n20,0.25\n")
    with pytest.raises(
        TrajectoryError, match=r"'loss' is logged at steps 10, 20 …, not at each: log the loss of every"
    ):
        open_run(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("step,loss_a,loss_b,eval_loss\n1,0.5,1,1\n")
    with pytest.raises(TrajectoryError, match="which loss is training's"):
        open_run(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("step,train_loss,eval_loss\n1,0.5,1\n")
    assert open_run(tmp_path / "a.csv").loss.tolist() == [[0.5]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_dtype_of_a_checkpoint_is_its_weights(tmp_path: Path, dtype: str) -> None:
    run = open_run(weights(tmp_path / "a.npz", dtype=dtype))
    assert run.meta["dtype"] == dtype
    assert set(run.params) == {"dense/kernel", "dense/bias"}
    assert run.params["dense/kernel"].shape == (1, 3, 2)
    assert run.params["dense/kernel"].dtype == run.params["dense/kernel"][0].dtype == dtype
    rounded = as_trajectory(read_artefact(tmp_path / "a.npz"), "bfloat16")
    packed(rounded.params["dense/kernel"][:])
    assert rounded.params["dense/kernel"].dtype == np.float32


@pytest.mark.parametrize(
    ("codes", "dtype"),
    [("BF16 BF16", "bfloat16"), ("BF16 F16", "float32"), ("BF16 F32", "float32"), ("F64 F16", "float64")],
)
def test_weights_of_several_dtypes_have_one_that_holds_all(tmp_path: Path, codes: str, dtype: str) -> None:
    header, start = {}, 0
    for name, code in zip("ab", codes.split(), strict=True):
        end = start + 2 * int(code.removeprefix("B")[1:]) // 8
        header[name] = {"dtype": code, "shape": [2], "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(start))
    assert open_run(tmp_path / "a.safetensors").meta["dtype"] == dtype


def test_a_damaged_recording_is_taken_for_no_artefact(tmp_path: Path) -> None:
    (tmp_path / "trajectory.json").write_text("{")
    np.savez(tmp_path / "model.npz", a=np.zeros(1))
    with pytest.raises(TrajectoryError, match=r"trajectory.json: is no valid JSON"):
        open_run(tmp_path)
    for nothing in (tmp_path / "gone", tmp_path.parent):
        with pytest.raises(TrajectoryError, match=r"trajectory.json: is missing"):
            open_run(nothing)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "trainer_state.json", "a.tfevents.1", "_METADATA", "x/_METADATA"]
)
def test_a_folder_is_known_by_its_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert is_artefact(tmp_path)
    (tmp_path / "trajectory.json").write_text("")
    assert not is_artefact(tmp_path)
    assert is_artefact(tmp_path / "trajectory.json")


@pytest.mark.parametrize("name", ["artefact", "reading", "runs", "tensorboard"])
def test_examples_do_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(f"parity.recording.artefacts.{name}"))
    assert found.attempted > 0
    assert not found.failed
