"""Explanations as they are asked for: of a run, of two recordings, deep ones among them, and before any number."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.explaining.pattern import growth
from parity.explaining.walk import walk_pair, walk_recorded
from parity.judging.floor import Floor, save
from parity.judging.preflight import preflight
from parity.judging.witness import Witness
from parity.mistakes.planting import in_order
from parity.mistakes.stepwise import Stepwise
from parity.recording import steps as deep
from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.recording.steps import ASKED, Phase
from parity.recording.writer import Writer
from parity.spec import Case
from parity.tests import toy
from parity.tests.command import Parity, complaint, make_run
from parity.tests.explaining.test_walk import FAULTS, backwards
from parity.tests.suites import CASE as CASE_NAME
from parity.tests.suites import strict_json, write_suite
from parity.trainer import Trainer, record
from parity.trajectory import Trajectory, TrajectoryError, gather
from parity.typing import Array, Params

CASE = toy.MOMENTUM
MISTAKEN = """
from parity.mistakes.catalogue import CATALOGUE
from parity.tests import toy

PLANT = next(hypothesis.plant for hypothesis in CATALOGUE if hypothesis.name == {name!r})

def build(case, dtype, device):
    return PLANT(toy.build, case, dtype, device)
"""


def recorded(trainer: Trainer, updates: int = 5, case: Case = CASE) -> Trajectory:
    """A run in memory with its first updates recorded deeply."""
    watched = deep.watched(trainer, case, updates)
    seen: Params = {}
    chunks = []
    for chunk in record(watched.trainer, case, case.epochs):
        chunks.append(chunk)
        seen |= watched.take()
    dtype = next(iter(trainer.export().params.values())).dtype.name
    return replace(gather(chunks, {"dtype": dtype}), steps=seen)


def witness(case: Case = CASE) -> Witness:
    return Witness(toy.build, case, "float64")


# What is recorded


def test_a_watched_run_keeps_its_path_and_is_seen_whole() -> None:
    case = replace(CASE, epochs=4)
    plain = gather(record(toy.build(case, "float64", "cpu"), case, 4))
    seen = recorded(toy.build(case, "float64", "cpu"), updates=4, case=case)
    np.testing.assert_array_equal(seen.loss, plain.loss)
    for name, values in plain.params.items():
        np.testing.assert_array_equal(seen.params[name], values)
    steps = deep.steps_of(seen)
    assert [step.number for step in steps] == [0, 1, 2, 3]
    # Three updates are an epoch: the state after the third is the snapshot's.
    for name, values in plain.params.items():
        np.testing.assert_array_equal(steps[0].before.params[name], values[0])
        np.testing.assert_array_equal(steps[2].after.params[name], values[1])
    assert [float(step.trained) for step in steps] == plain.loss.ravel()[:4].tolist()
    assert set(steps[0].before.slots) == {f"momentum/{name}" for name in plain.params}


def test_a_deep_recording_survives_the_disk(tmp_path: Path) -> None:
    watched = deep.watched(toy.build(CASE, "float32", "cpu"), CASE, 5)
    with Writer(tmp_path / "run", {}) as writer:
        for number, chunk in enumerate(record(watched.trainer, replace(CASE, every=2), CASE.epochs)):
            writer.add(chunk, watched.take())
            if number:
                writer.flush()
    found, wanted = read(tmp_path / "run"), recorded(toy.build(CASE, "float32", "cpu"))
    assert found.steps.keys() == wanted.steps.keys()
    for name, value in wanted.steps.items():
        np.testing.assert_array_equal(found.steps[name], value)
    assert len(deep.steps_of(found)) == 5
    assert deep.steps_of(replace(found, steps={})) == []


@pytest.mark.parametrize("name", ["3/rows", "4/params/dense/kernel"])
def test_an_update_that_is_there_in_part_is_said(name: str) -> None:
    run = recorded(toy.build(CASE, "float64", "cpu"))
    with pytest.raises(TrajectoryError, match=f"lacks {name.partition('/')[2]}"):
        deep.steps_of(replace(run, steps={key: value for key, value in run.steps.items() if key != name}))


def test_a_loss_that_is_no_number_is_said_and_other_names_are_left_alone() -> None:
    run = recorded(toy.build(CASE, "float64", "cpu"))
    with pytest.raises(TrajectoryError, match="no single number"):
        deep.steps_of(replace(run, steps={**run.steps, "2/loss": np.zeros(3)}))
    assert deep.steps_of(replace(run, steps={"mine/a": np.zeros(3), "mine_too/b": np.zeros(3)})) == []


# Taken apart from the recording alone


@pytest.mark.parametrize("phase", ASKED)
def test_a_recorded_fault_is_found_in_its_phase(phase: str) -> None:
    trainer = FAULTS[phase]
    trainer.load(toy.build(CASE, "float64", "cpu").export())
    found = walk_recorded(recorded(trainer), witness())
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == (phase, 1, 0)
    assert list(found.agreed) == list(ASKED[: ASKED.index(phase)])


def test_right_updates_agree_and_what_would_reach_further_is_said() -> None:
    found = walk_recorded(recorded(toy.build(CASE, "float64", "cpu")), witness())
    assert found is not None
    assert found.check is None
    assert "each of the 5 updates" in found.note
    assert "more of them would reach further" in found.note
    assert max(found.agreed.values()) <= 1


def test_a_fault_is_found_at_the_update_that_it_begins_with() -> None:
    def late(gradients: Any, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        calls.append(loss)
        # Each update asks twice: once to be watched, once to train.
        return loss, {name: g * (2 if len(calls) > 6 else 1) for name, g in found.items()}

    calls: list[float] = []
    trainer = Stepwise(toy.build(CASE, "float64", "cpu"), CASE, "float64", evaluate=late)
    found = walk_recorded(recorded(trainer), witness())
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == ("gradient", 2, 0)


def test_what_zeros_hide_is_seen_in_a_later_recorded_update() -> None:
    nought = {name: np.zeros_like(p) for name, p in CASE.initial().items()}
    case = replace(CASE, initial=lambda: nought)
    found = walk_recorded(recorded(toy.build_transposed(case, "float64", "cpu"), case=case), witness(case))
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == ("prediction", 1, 0)
    assert "zero" in found.note


def test_other_initial_parameters_and_other_rows_are_said() -> None:
    other = replace(CASE, initial=lambda: {name: p + 1e-9 for name, p in CASE.initial().items()})
    found = walk_recorded(recorded(toy.build(other, "float64", "cpu"), case=other), witness())
    assert found is not None
    assert found.phase == "state"
    assert "initial parameters" in found.note
    run = recorded(toy.build(CASE, "float64", "cpu"))
    turned = walk_recorded(replace(run, steps={**run.steps, "1/rows": run.steps["1/rows"][::-1]}), witness())
    assert turned is not None
    assert (turned.phase, turned.batch) == ("batch", 1)
    assert "took the rows" in turned.note


def test_two_recordings_are_taken_apart_without_a_reference() -> None:
    right = recorded(toy.build(CASE, "float64", "cpu"))
    same = walk_pair(right, right)
    assert same is not None
    assert same.check is None
    for phase in ("prediction", "loss", "gradient", "update"):
        trainer = FAULTS[phase]
        trainer.load(toy.build(CASE, "float64", "cpu").export())
        found = walk_pair(recorded(trainer), right)
        assert found is not None
        assert (found.phase, found.epoch, found.batch) == (phase, 1, 0)
    late = in_order(backwards)(toy.build, CASE, "float64", "cpu")
    found = walk_pair(recorded(late), right)
    assert found is not None
    assert found.phase == "batch"
    assert walk_pair(replace(right, steps={}), right) is None


# How a distance grows


def apart(distance: Callable[[Array], Array]) -> str:
    epochs = np.arange(12)
    base = np.ones((12, 2))
    run = base + distance(epochs.astype(float))[:, None]
    loss = np.zeros((11, 1))
    return growth(
        Trajectory({}, epochs, loss, {"w": run}, {}),
        Trajectory({}, epochs, loss, {"w": base}, {}),
    )


def test_the_growth_of_a_distance_is_put_in_words() -> None:
    assert apart(lambda t: 1e-3 * t) == "grows in proportion to the epochs"
    assert apart(lambda t: 1e-6 * 2.0**t) == "grows 2-fold an epoch"
    assert apart(lambda t: 1e-4 * t**3) == "grows as the epochs to the power 3"
    assert apart(lambda t: np.full(12, 1e-3)) == "stays as it is from epoch to epoch"
    assert apart(lambda t: 1e-3 * np.random.RandomState(0).uniform(0.1, 1, 12)) == ""
    assert apart(lambda t: 0 * t) == ""


# Asked for on the command line


@pytest.fixture
def suite(parity: Parity, tmp_path: Path) -> str:
    return write_suite(tmp_path, numpy_nesterov=MISTAKEN.format(name="nesterov-momentum"))


def test_a_failed_run_is_explained_in_a_line_and_on_a_screen(parity: Parity, suite: str) -> None:
    command = ("--suite", suite, "--impl", "numpy-nesterov", "--dtype", "float64", "--out", "out")
    run = parity("run", *command)
    assert run.status == 1
    below = run.out.splitlines()
    (place,) = [number for number, line in enumerate(below) if line.startswith("FAIL ")]
    sentence = "first differs at epoch 1, batch 0, update of "
    assert below[place + 1].strip().startswith(sentence)
    assert "explained by nesterov-momentum (The momentum is Nesterov's.): replay agrees to" in below[place + 1]

    shown = parity("explain", CASE_NAME, *command, "--json", "explained.json")
    assert shown.status == 1
    for words in (sentence, "prediction agrees, to", "gradient agrees, to", "ours", "explained by nesterov-momentum",
                  "mistake replayed", "the next best of"):  # fmt: skip
        assert words in shown.out
    (found,) = strict_json(Path("explained.json").read_text(), "explain")["explanations"]
    assert (found["phase"], found["named"]) == ("update", ["nesterov-momentum"])
    right = parity("explain", CASE_NAME, "--suite", suite, "--impl", "numpy", "--dtype", "float64", "--out", "out")
    assert right.status == 0
    assert "there is nothing to explain" in right.out


def test_two_recordings_are_explained_as_far_as_they_reach(parity: Parity, suite: str) -> None:
    command = ("run", "--suite", suite, "--dtype", "float64", "--out")
    assert parity(*command, "flat").status == 1
    a, b = (Path("flat") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-nesterov", "numpy"))
    flat = parity("explain", a, b, "--suite", suite, "--json", "flat.json")
    assert flat.status == 1
    assert "explained by nesterov-momentum" in flat.out
    assert f"'parity run {CASE_NAME} --impl numpy-nesterov --dtype float64 --deep 20' would tell" in flat.out
    (found,) = strict_json(Path("flat.json").read_text(), "explain")["explanations"]
    assert found["phase"] == Phase.UNRECORDED
    assert found["difference"] is not None

    assert parity(*command, "deep", "--deep", "4").status == 1
    a, b = (Path("deep") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-nesterov", "numpy"))
    whole = parity("explain", a, b, "--suite", suite, "--json", "deep.json")
    assert whole.status == 1
    assert "first differs at epoch 1, batch 0, update of" in whole.out
    assert "gradient agrees, to" in whole.out
    assert "would tell" not in whole.out
    (found,) = strict_json(Path("deep.json").read_text(), "explain")["explanations"]
    assert (found["phase"], found["named"]) == ("update", ["nesterov-momentum"])

    # The other way round it is still the mistaken run that is explained.
    turned = parity("explain", b, a, "--suite", suite)
    assert "explained by nesterov-momentum" in turned.out
    assert f"what is explained is {a}" in turned.out
    # A deep recording serves where none is asked for, and not the other way round.
    before = (a / MANIFEST).stat().st_mtime_ns
    assert parity(*command, "deep").status == 1
    assert (a / MANIFEST).stat().st_mtime_ns == before
    assert parity(*command, "deep", "--deep", "5").status == 1
    assert len(deep.steps_of(read(a))) == 5


def test_mistakes_are_not_replayed_on_a_run_in_lockstep(parity: Parity, suite: str) -> None:
    assert parity("run", "--suite", suite, "--dtype", "float64", "--out", "out", "--lockstep", "2").status == 1
    free, right = (Path("out") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-nesterov", "numpy"))
    assert "explained by nesterov-momentum" in parity("explain", free, right, "--suite", suite).out
    held = free.with_name(f"{free.name}-lockstep2")
    result = parity("explain", held, right, "--suite", suite, "--json", "found.json")
    assert result.status == 1
    assert "first differs at epoch 1, " in result.out
    assert f"{held} is in lockstep and mistakes are replayed in free runs" in " ".join(result.out.split())
    (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
    assert (found["named"], found["replays"]) == ([], [])


def test_without_a_known_case_the_place_and_the_pattern_are_said(parity: Parity, tmp_path: Path) -> None:
    def doubled(run: dict[str, Any]) -> None:
        run["params"]["dense/kernel"][2:] *= 2

    result = parity("explain", make_run(tmp_path / "a", doubled), make_run(tmp_path / "b"), "--json", "found.json")
    assert result.status == 1
    assert "first differs at epoch 2, dense/kernel" in result.out
    assert "pattern: 2 times the reference, everywhere" in result.out
    assert "unexplained: no mistake could be replayed, because the suite impls has no case 'made-up'" in result.out
    assert "a deep recording of both (parity.recorder makes one) would tell" in result.out
    (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
    assert (found["named"], found["untouched"]) == ([], None)


def test_what_begins_beyond_the_deep_recording_is_said_to(parity: Parity, tmp_path: Path) -> None:
    late = """
from parity.mistakes.stepwise import Stepwise
from parity.tests import toy

def rule(sgd, name, p, g, state):
    b = state.slots[f"momentum/{name}"] = sgd.momentum * state.slots[f"momentum/{name}"] + g
    return p - sgd.learning_rate * (2 if state.step > 6 else 1) * b

def build(case, dtype, device):
    return Stepwise(toy.build(case, dtype, device), case, dtype, rule=rule)
"""
    suite = write_suite(tmp_path, numpy_late=late)
    assert parity("run", "--suite", suite, "--dtype", "float64", "--out", "out", "--deep", "4").status == 1
    a, b = (Path("out") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-late", "numpy"))
    for where in (suite, "impls"):
        result = parity("explain", a, b, "--suite", where)
        assert "first differs at epoch 3, " in result.out
        assert "update agrees, to" in result.out
        assert "each of the 4 updates recorded deeply agrees by itself: more of them would reach further" in result.out


def test_more_than_a_shard_can_name_is_refused_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parity.recording.writer.HEADER_BYTES", 2000)
    watched = deep.watched(toy.build(CASE, "float64", "cpu"), CASE, 5)
    first, *_ = record(watched.trainer, CASE, CASE.epochs)
    writer = Writer(tmp_path / "run", {})
    writer.add(first, watched.take())
    with pytest.raises(ValueError, match="record fewer updates deeply"):
        writer.flush()


def test_two_deep_recordings_of_an_unknown_case_are_taken_apart(parity: Parity, suite: str) -> None:
    assert parity("run", "--suite", suite, "--dtype", "float64", "--out", "out", "--deep", "3").status == 1
    a, b = (Path("out") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-nesterov", "numpy"))
    result = parity("explain", a, b)
    assert result.status == 1
    assert "first differs at epoch 1, batch 0, update of" in result.out
    assert "explained by nesterov-momentum" in result.out
    for folder in (a, b):
        about = json.loads((folder / MANIFEST).read_text())
        about["hyper_parameters"].pop("optimizer")
        (folder / MANIFEST).write_text(json.dumps(about))
    result = parity("explain", a, b)
    assert "unexplained: no update could be made again" in result.out
    assert "neither run says its optimizer" in result.out


def test_recordings_that_do_not_fit_are_said_in_a_line(parity: Parity, tmp_path: Path, suite: str) -> None:
    assert "nowhere" in complaint(parity("explain", "nowhere", "elsewhere"))
    assert "two trajectories" in complaint(parity("explain", "a", "b", "c"))
    assert parity("run", "--suite", suite, "--dtype", "float64", "--out", "out", "--deep", "3").status == 1
    a, b = (Path("out") / CASE_NAME / f"{label}-float64-cpu" for label in ("numpy-nesterov", "numpy"))
    run = read(a)
    shapes = {**run.steps, "0/prediction": run.steps["0/prediction"][:, :1]}
    kept = json.loads((a / MANIFEST).read_text())
    meta = {key: value for key, value in kept.items() if key not in ("schema", "version", "complete", "shards")}
    shutil.rmtree(a)
    with Writer(a, meta) as writer:
        for number in range(len(run.epochs)):
            part = slice(number, number + 1)
            loss = run.loss[number - 1 : number] if number else run.loss[:0]
            chunk = next(iter(record(toy.build(CASE, "float64", "cpu"), CASE, 0)))
            chunk = chunk._replace(
                epochs=run.epochs[part], losses=loss, params={n: v[part] for n, v in run.params.items()}
            )
            writer.add(chunk, shapes if number == 0 else None)
    result = parity("explain", a, b, "--suite", suite)
    assert result.status == 2
    assert "do not fit" in complaint(result)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"a/k": (3,)}, "a/k (3,)"),
        ({"dense/kernel": (3, 2), "dense/bias": (3,)}, "dense/bias (3,), dense/kernel (3, 2)"),
    ],
)
def test_a_recording_with_other_parameters_than_its_case_is_said_in_a_line(
    parity: Parity, tmp_path: Path, params: dict[str, tuple[int, ...]], said: str
) -> None:
    """A noise floor of its own shapes lies beside it, so that nothing but the case tells."""
    suite, runs = write_suite(tmp_path), tmp_path / "runs"
    for place, name in enumerate("ab"):

        def other(run: dict[str, Any], place: int = place) -> None:
            run["params"] = {name: np.full((len(run["epochs"]), *shape), place) * 1.0 for name, shape in params.items()}

        make_run(runs / CASE_NAME / name, other, case=CASE_NAME, floor="its own")
    floor = Floor(np.zeros((4, 3)), {name: np.zeros(5) for name in params})
    save({"float64": floor}, runs / "floors" / f"{CASE_NAME}.safetensors", "its own")
    result = parity("explain", runs / CASE_NAME / "a", runs / CASE_NAME / "b", "--suite", suite)
    assert result.status == 2
    assert f"has the parameters {said}, and not dense/bias (3,), dense/kernel (3, 3)" in complaint(result)


# Before any number


def meta(**changes: Any) -> Trajectory:
    run = gather(record(toy.build(CASE, "float64", "cpu"), CASE, 1))
    said = {
        "case": "toy", "implementation": "jax", "dtype": "float64", "device": "cpu", "threads": 1, "batch_order": "a",
        "hyper_parameters": {"optimizer": "Sgd(0.1)", "loss": "mean"}, "versions": {"numpy": "2.0", "jax": "0.9"},
        "settings": {"x64": True, "deterministic": True}, "platform": {"system": "Linux"},
    }  # fmt: skip
    return replace(run, meta={**said, **changes})


DIFFERING = {
    "threads": ({"threads": 2}, "threads differs: 1 and 2"),
    "order": ({"batch_order": "b"}, "the order of the batches differs: SHA-256 a… and b…"),
    "rate": ({"hyper_parameters": {"optimizer": "Sgd(0.2)"}}, "optimizer differs: Sgd(0.1) and Sgd(0.2)"),
    "versions": ({"versions": {"numpy": "2.1", "torch": "2.9"}}, "numpy differs: 2.0 and 2.1"),
    "deterministic": ({"settings": {"deterministic": False}}, "deterministic differs: True and False"),
    "platform": ({"platform": {"system": "Darwin"}}, "system differs: Linux and Darwin"),
    "tf32": ({"dtype": "float32", "device": "cuda", "settings": {"tf32": True}}, "TF32 is on in jax"),
    "default": ({"dtype": "float32", "device": "cuda", "settings": {"matmul_precision": None}}, "TF32 is on in jax"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERING)
def test_what_differs_is_said_before_any_number(name: str) -> None:
    changes, sentence = DIFFERING[name]
    found = list(preflight(meta(), meta(**changes)))
    assert any(note.startswith(sentence) for note in found), found
    assert len(found) == (3 if "TF32" in sentence else 1)  # with it the dtype and the device
    assert list(preflight(meta(), meta())) == []


def test_a_float64_run_without_x64_is_said_even_of_both() -> None:
    off = meta(settings={"x64": False})
    assert [note for note in preflight(off, off) if "x64 is off" in note]


def test_other_initial_parameters_are_said_as_far_as_the_narrower_dtype_sees() -> None:
    right = meta()
    for step, count in ((1e-3, 1), (1e-12, 0)):
        moved = {**right.params, "dense/bias": right.params["dense/bias"][:].astype(np.float32) + np.float32(step)}
        narrow = {name: values.astype(np.float32) for name, values in moved.items()}
        other = replace(right, params=narrow, meta={**right.meta, "dtype": "float32"})
        found = [note for note in preflight(right, other) if "initial" in note]
        assert len(found) == count
    assert re.fullmatch(r"initial dense/bias differs, by up to 0\.001", next(iter(preflight_of(right))))


def preflight_of(right: Trajectory) -> list[str]:
    moved = {**right.params, "dense/bias": right.params["dense/bias"][:] + 1e-3}
    return list(preflight(right, replace(right, params=moved)))


def test_diff_and_explain_say_it_above_the_verdict(parity: Parity, tmp_path: Path) -> None:
    def other(run: dict[str, Any]) -> None:
        run["params"]["dense/kernel"][0] += 0.5

    a, b = make_run(tmp_path / "a", threads=1), make_run(tmp_path / "b", other, threads=2)
    for command in ("diff", "explain"):
        result = parity(command, a, b)
        assert result.status == 1
        first, second, third = result.out.splitlines()[:3]
        assert first.startswith("before any number: threads differs: 1 and 2")
        assert second.startswith("before any number: initial dense/kernel differs, by up to 0.5")
        assert third.startswith("FAIL")


def test_a_run_records_its_settings_and_says_what_differs(parity: Parity, suite: str) -> None:
    command = ("run", "--suite", suite, "--impl", "numpy-nesterov", "--dtype", "float64", "--out", "out")
    assert "before any number" not in parity(*command).out
    path = Path("out") / CASE_NAME / "numpy-float64-cpu" / MANIFEST
    about = json.loads(path.read_text())
    assert set(about) >= {"settings", "threads", "versions", "platform", "batch_order", "hyper_parameters"}
    about["threads"] = 2
    path.write_text(json.dumps(about))
    result = parity(*command)
    assert (
        result.out.splitlines()[0]
        == f"before any number: threads differs: 1 and 2 ({CASE_NAME}-numpy-nesterov-float64)"
    )
