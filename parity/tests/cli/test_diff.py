"""``parity diff``: what differs is said where and by how much, and what cannot be compared never passes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save_file

from parity.recording.format import MANIFEST
from parity.recording.places import keep_failure
from parity.recording.reader import read
from parity.recording.writer import Writer
from parity.tests.command import Parity, complaint, contents, make_run
from parity.tests.suites import strict_json
from parity.trajectory import Chunk
from parity.typing import Array


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "a"), make_run(tmp_path / "b")


def test_diff_of_a_run_with_its_copy_passes(parity: Parity, pair: tuple[Path, Path]) -> None:
    result = parity("diff", *pair, "--json", "pairs.json")
    assert result.status == 0
    assert result.out.startswith("PASS")
    (found,) = strict_json(Path("pairs.json").read_text(), "diff")["pairs"]
    assert (found["verdict"], found["absolute"], found["relative"], found["ulp"]) == ("PASS", None, None, None)


def with_metric(*values: float, name: str = "accuracy") -> Callable[[dict[str, Any]], None]:
    def change(run: dict[str, Any]) -> None:
        run["metrics"] = {name: np.array(values)}

    return change


def test_diff_says_what_does_not_differ(parity: Parity, tmp_path: Path) -> None:
    same = with_metric(0.5, 0.5, 0.75, np.nan, 1.0)
    result = parity("diff", make_run(tmp_path / "a", same), make_run(tmp_path / "b", same))
    assert result.status == 0
    assert "no loss and no parameter differs" in result.out


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            with_metric(0.5, 0.5, 0.5, 0.5, 0.5),
            "metric accuracy is 0.5 and 1 at epoch 4: how far rounding carries it was not measured",
        ),
        (
            with_metric(0.5, 0.5, 0.5, 0.5, np.nan),
            "metric accuracy is nan and 1 at epoch 4: how far rounding carries it was not measured",
        ),
        (with_metric(0.5, 0.5, 0.5, 0.5, 1.0, name="share"), "metric accuracy is missing from the first run"),
        (lambda run: None, "metric accuracy is missing from the first run"),
    ],
    ids=["other", "none", "another name", "not recorded"],
)
def test_a_metric_that_differs_without_a_floor_or_is_on_one_side_alone_is_a_doubt(
    parity: Parity, tmp_path: Path, metric: Callable[[dict[str, Any]], None], said: str
) -> None:
    b = make_run(tmp_path / "b", with_metric(0.5, 0.5, 0.5, 0.5, 1.0))
    result = parity("diff", make_run(tmp_path / "a", metric), b)
    assert result.status == 3
    assert said in result.out


def test_metrics_that_differ_by_roundings_of_their_value_agree(parity: Parity, tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", with_metric(5.0, 4.0, 3.0, 2.0, 1.0))
    b = make_run(tmp_path / "b", with_metric(5.0, 4.0, 3.0, 2.0, 1.0 + 2**-50))
    assert parity("diff", a, b).status == 0


def test_a_parameter_that_differs_is_said_and_not_a_metric_without_a_floor(parity: Parity, tmp_path: Path) -> None:
    def both(run: dict[str, Any]) -> None:
        run["params"]["dense/bias"][4, 1] += 0.5
        with_metric(0, 0, 0, 0, 0)(run)

    a, b = make_run(tmp_path / "a", both), make_run(tmp_path / "b", with_metric(1, 1, 1, 1, 1))
    result = parity("diff", a, b)
    assert result.status == 1
    assert "first differs at epoch 4: dense/bias[1]" in result.out
    result = parity("diff", a, make_run(tmp_path / "c"))  # which records no metric
    assert result.status == 1
    assert "first differs at epoch 4: dense/bias[1]" in result.out


def edited(folder: Path, **metrics: Callable[[Array], Array]) -> None:
    """A recording whose metrics are others, and nothing else."""
    shard = folder / "00000.safetensors"
    tensors = load_file(shard)
    for name, change in metrics.items():
        tensors[f"metrics/{name}"] = change(tensors[f"metrics/{name}"])
    save_file(tensors, shard)
    manifest = json.loads((folder / MANIFEST).read_text())
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    for held in manifest["shards"]:
        held["sha256"] = digest
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_of_runs_with_a_floor_metrics_may_differ_by_rows_near_a_tie_alone(parity: Parity, tmp_path: Path) -> None:
    """Two runs of the matrix: as they are they agree, with accuracy inverted they differ by it alone."""
    parity("run", "iris-logistic", "--impl", "numpy", "--dtype", "float32", "--dtype", "float64", "--out", "out")
    runs = tmp_path / "out" / "iris-logistic"
    a, b = runs / "numpy-float32-cpu", runs / "numpy-float64-cpu"
    assert parity("diff", a, b).status == 0
    edited(a, test_accuracy=lambda values: 1 - values)
    result = parity("diff", a, b, "--json", "pairs.json")
    assert result.status == 1
    assert "metrics/test_accuracy is" in result.out
    (found,) = strict_json(Path("pairs.json").read_text(), "diff")["pairs"]
    assert found["parameter"] == "metrics/test_accuracy"
    explained = parity("explain", a, b, "--json", "explained.json")
    assert explained.status == 1
    assert "metric test_accuracy alone differs: losses and parameters agree" in explained.out
    strict_json(Path("explained.json").read_text(), "explain")


def test_diff_says_where_and_by_how_much(parity: Parity, tmp_path: Path) -> None:
    def change(run: dict[str, Any]) -> None:
        run["params"]["dense/kernel"][2, 1, 0] += 1e-3
        run["params"]["dense/bias"][4, 1] += 0.5

    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", change)
    result = parity("diff", a, b, "--json", "pairs.json")
    assert result.status == 1
    ours, theirs = read(a).params, read(b).params
    assert result.out.startswith("FAIL")
    assert "first differs at epoch 2: dense/kernel[1, 0]" in result.out
    values = ours["dense/bias"][4][1], theirs["dense/bias"][4][1]
    for kind in ("absolute", "relative", "ulp"):
        (line,) = [line for line in result.out.splitlines() if line.startswith(f"largest {kind} difference")]
        assert "epoch " in line
    (line,) = [line for line in result.out.splitlines() if line.startswith("largest absolute")]
    assert all(part in line for part in ("0.5", "epoch 4", "dense/bias[1]", *map(str, values)))
    assert "smallest tolerance that passes" in result.out
    (found,) = strict_json((tmp_path / "pairs.json").read_text(), "diff")["pairs"]
    assert (found["epoch"], found["parameter"]) == (2, "dense/kernel")
    assert found["absolute"]["index"] == [1]
    assert found["absolute"]["absolute"] == abs(values[0] - values[1])
    assert found["ulp"]["ulp"] > 1e9


def flip(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)


def cut(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-16])


def manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rename_shard(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shards = json.loads((folder / MANIFEST).read_text())["shards"]
        shutil.copy(folder / shards[0]["file"], folder.parent / "outside.safetensors")
        manifest(shards=[shards[0] | {"file": name}])(folder)

    return change


def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Other tensors in a shard whose checksum is right."""

    def apply(folder: Path) -> None:
        shard = folder / "00000.safetensors"
        held = load(shard.read_bytes())
        change(held)
        save_file(held, shard)
        data = shard.read_bytes()
        shards = json.loads((folder / MANIFEST).read_text())["shards"]
        manifest(shards=[shards[0] | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}])(folder)

    return apply


def link_out(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    shard.rename(folder.parent / "outside.safetensors")
    shard.symlink_to(folder.parent / "outside.safetensors")


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (cut, "bytes where"),
    "checksum": (flip, "does not match its checksum"),
    "schema": (manifest(schema="something-else"), "schema must be"),
    "version": (manifest(version=99), "version 99"),
    "dtype": (manifest(dtype="float8"), "dtype must be"),
    "not complete": (manifest(complete=False), "was not finished"),
    "no json": (lambda folder: (folder / MANIFEST).write_text("{"), "no valid JSON"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), MANIFEST),
    "shard missing": (lambda folder: (folder / "00000.safetensors").unlink(), "is missing"),
    "no loss": (tensors(lambda held: held.pop("loss")), "has no 'loss'"),
    "no parameters": (tensors(lambda held: [held.pop(name) for name in list(held) if "/" in name]), "params"),
    "other dtype": (tensors(lambda held: held.update({"params/dense/bias": np.zeros((5, 2), np.float32)})), "is F32"),
    "other length": (tensors(lambda held: held.update({"params/dense/bias": np.zeros((4, 2))})), "5 epochs"),
    "tensor leaves": (tensors(lambda held: held.update({"params/../evil": np.zeros((5, 2))})), "params/../evil"),
    "shard leaves": (rename_shard("../outside.safetensors"), "plain name"),
    "absolute shard": (rename_shard("/etc/passwd"), "plain name"),
    "link leaves": (link_out, "leaves the folder"),
}


@pytest.mark.parametrize(("damage", "match"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("side", ["a", "b"])
def test_diff_of_what_cannot_be_read_says_so_in_a_line(
    parity: Parity, tmp_path: Path, pair: tuple[Path, Path], side: str, damage: Callable[[Path], Any], match: str
) -> None:
    damage(tmp_path / side)
    before = contents(tmp_path)
    result = parity("diff", *pair)
    assert result.status == 2
    line = complaint(result)
    assert match in line
    assert side in line
    assert not result.out
    assert contents(tmp_path) == before


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda run: run["params"].pop(name)


def with_nan(run: dict[str, Any]) -> None:
    run["params"]["dense/bias"][3, 1] = np.nan


def with_nan_loss(run: dict[str, Any]) -> None:
    run["loss"][2, 1] = np.nan


def with_another_shape(run: dict[str, Any]) -> None:
    run["params"]["dense/kernel"] = run["params"]["dense/kernel"][:, :2]


def shorter(run: dict[str, Any]) -> None:
    run.update(epochs=run["epochs"][:-1], loss=run["loss"][:-1])
    run["params"] = {name: values[:-1] for name, values in run["params"].items()}


INCOMPARABLE: dict[str, tuple[Callable[[dict[str, Any]], None], int, str]] = {
    "tensor missing": (without("dense/bias"), 3, "tensors have no partner and were not compared: dense/bias"),
    "shape": (with_another_shape, 3, "tensors have no partner and were not compared: dense/kernel"),
    "length": (shorter, 3, "snapshots were taken after other epochs"),
    "nan": (with_nan, 1, "first differs at epoch 3: dense/bias[1]"),
    "nan loss": (with_nan_loss, 1, "first differs at epoch 3, batch 1: loss"),
}


@pytest.mark.parametrize(("change", "status", "match"), INCOMPARABLE.values(), ids=INCOMPARABLE)
@pytest.mark.parametrize("swapped", [False, True])
def test_diff_of_what_is_not_comparable_never_passes(
    parity: Parity, tmp_path: Path, change: Any, status: int, match: str, swapped: bool
) -> None:
    folders = [make_run(tmp_path / "a"), make_run(tmp_path / "b", change)]
    result = parity("diff", *(reversed(folders) if swapped else folders), "--json", "-")
    assert result.status == status
    (found,) = strict_json(result.out, "diff")["pairs"]
    assert match in found["reason"]
    assert match in result.err
    assert "Traceback" not in result.err


def test_the_same_nan_on_both_sides_is_no_agreement(parity: Parity, tmp_path: Path) -> None:
    assert parity("diff", make_run(tmp_path / "a", with_nan), make_run(tmp_path / "b", with_nan)).status == 1


def test_diff_across_dtypes_says_that_they_differ(parity: Parity, tmp_path: Path) -> None:
    def narrow(run: dict[str, Any]) -> None:
        run["loss"] = run["loss"].astype(np.float32)
        run["params"] = {name: values.astype(np.float32) for name, values in run["params"].items()}

    result = parity("diff", make_run(tmp_path / "a"), make_run(tmp_path / "b", narrow, dtype="float32"))
    assert result.status == 0
    assert "dtype differs: float64 and float32" in result.out


@pytest.mark.parametrize("lockstep", [None, 2])
def test_diff_compares_the_parameters_of_runs_whatever_they_say_of_it(
    parity: Parity, tmp_path: Path, lockstep: int | None
) -> None:
    def narrow(run: dict[str, Any]) -> None:
        run["loss"] = run["loss"].astype(np.float32)
        run["params"] = {name: values.astype(np.float32) for name, values in run["params"].items()}

    def apart(run: dict[str, Any]) -> None:
        narrow(run)
        run["params"]["dense/bias"][3] += 1

    meta = {"dtype": "float32", "float32_parameters": "lockstep", "lockstep": lockstep}
    result = parity("diff", make_run(tmp_path / "a", narrow, **meta), make_run(tmp_path / "b", apart, **meta))
    assert result.status == 1
    assert ("which no suite confirms" in result.out) == (lockstep is None)


def test_diff_says_that_a_newer_run_failed_or_was_not_finished(parity: Parity, pair: tuple[Path, Path]) -> None:
    a, b = pair
    begun = Writer(a, {"dtype": "float64"})
    whole = read(b)
    first = Chunk(whole.epochs[:1], whole.loss[:0], {name: value[:1] for name, value in whole.params.items()}, {})
    begun.add(first)
    begun.flush()
    result = parity("diff", a, b)
    assert result.status == 0
    assert f"{a} is an earlier run: a newer one was begun and not finished" in " ".join(result.out.split())
    keep_failure(b, "ValueError: no such layer")
    for command in ("diff", "explain"):
        result = parity(command, a, b)
        assert result.status == 3
        assert f"{b}: the last run failed: ValueError: no such layer" in result.out
    keep_failure(b, "")
    begun.finish()
    assert "earlier run" not in parity("diff", a, b).out


def test_diff_of_two_folders_of_runs_compares_what_both_hold(parity: Parity, tmp_path: Path) -> None:
    for root in ("first", "second"):
        for case in ("one", "two"):
            make_run(tmp_path / root / case / "numpy-float64-cpu")
    result = parity("diff", "first", "second", "--json", "-")
    assert result.status == 0
    assert len(strict_json(result.out, "diff")["pairs"]) == 2
    assert "counterpart" not in result.err
    (tmp_path / "second" / "two" / "numpy-float64-cpu").rename(tmp_path / "second" / "two" / "mine-floating-point")
    assert len(strict_json(parity("diff", "first", "second", "--json", "-").out, "diff")["pairs"]) == 2
    shutil.rmtree(tmp_path / "second" / "one")
    result = parity("diff", "first", "second")
    assert result.status == 3  # what was not compared never passes
    line = "not compared, for want of a counterpart: 1 of first (one/numpy-float64-cpu), 0 of second\n"
    assert result.out.endswith(line)
    (tmp_path / "second" / "two").rename(tmp_path / "second" / "three")
    result = parity("diff", "first", "second")
    assert result.status == 2
    assert "nothing was compared" in complaint(result)


def test_diff_names_three_of_many_runs_without_a_counterpart(parity: Parity, tmp_path: Path) -> None:
    alone = [f"numpy-float32-cpu-lockstep{length}" for length in range(1, 5)]
    for name in ("numpy-float64-cpu", "torch-float64-cpu", "numpy-checked-cpu", *alone):
        make_run(tmp_path / "runs" / "one" / name)
    result = parity("diff", "runs", "runs")
    named = ", ".join(f"one/{name}" for name in alone[:3])
    assert f"not compared, for want of a counterpart: 4 of runs ({named}, …)\n" in result.out
