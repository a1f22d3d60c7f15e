"""``parity explain``, asked for on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import Floor, save
from parity.recording import steps as deep
from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.recording.steps import Phase
from parity.recording.writer import Writer
from parity.tests import toy
from parity.tests.command import Parity, complaint, make_run
from parity.tests.explaining.toys import CASE
from parity.tests.suites import CASE as CASE_NAME
from parity.tests.suites import strict_json, write_suite
from parity.trainer import record


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert "explained by nesterov-momentum" in result.out
    assert "with Nesterov's momentum" in result.out


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
    floor = Floor(np.full((4, 3), 1e-12), {name: np.full(5, 1e-12) for name in params})
    save({"float64": floor}, runs / "floors" / f"{CASE_NAME}.safetensors", "its own")
    result = parity("explain", runs / CASE_NAME / "a", runs / CASE_NAME / "b", "--suite", suite)
    assert result.status == 2
    assert f"has the parameters {said}, and not dense/bias (3,), dense/kernel (3, 3)" in complaint(result)
