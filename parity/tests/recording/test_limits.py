"""What a reading may take: bytes, tensors, memory, time and open files, whatever the folder holds."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.recording import limits
from parity.recording.format import MANIFEST
from parity.recording.limits import Budget
from parity.recording.mapped import OPEN
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.recording.writer import Writer
from parity.tests.recording.runs import make, manifest, refused, rewrite, save_run, seal
from parity.trajectory import Chunk, TrajectoryError

SHARDS = 150


def many_shards(folder: Path, shards: int, last: float = 0.0) -> Path:
    """A run of as many shards, each with a step that was recorded deeply."""
    with Writer(folder, {"dtype": "float32"}) as writer:
        for k in range(shards):
            params = {"dense/kernel": np.full((1, 40, 40), k, np.float32)}
            params["dense/kernel"][-1, -1, -1] += last
            losses = np.full((min(k, 1), 1), 1.0)
            deep = {"rows": np.arange(2), "prediction": np.ones(2), "loss": np.ones(()), "trained": np.ones(())}
            deep["gradients/dense/kernel"] = deep["params/dense/kernel"] = params["dense/kernel"][0]
            writer.add(Chunk(np.array([k]), losses, params, {}), {f"{k}/{name}": value for name, value in deep.items()})
            writer.flush()
    return folder


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_two_long_runs_are_read_with_few_open_files(tmp_path: Path) -> None:
    a, b = (many_shards(tmp_path / name, SHARDS, last) for name, last in (("a", 0.0), ("b", 0.5)))
    before = open_files()
    runs = [read(folder) for folder in (a, b)]
    assert [len(run.epochs) for run in runs] == [SHARDS, SHARDS]
    assert open_files() <= before + OPEN
    found = compare(a, b)
    assert found.judgement.verdict == "FAIL"
    assert found.absolute is not None
    assert found.absolute.absolute == 0.5
    for run in runs:
        assert [float(step.gradients["dense/kernel"][0, 0]) for step in steps_of(run)] == list(range(SHARDS - 1))
    assert open_files() <= before + OPEN


@pytest.mark.slow
def test_two_long_runs_are_read_where_few_files_may_be_open(tmp_path: Path) -> None:
    a, b = (many_shards(tmp_path / name, SHARDS) for name in "ab")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + OPEN + 50, hard))
    try:
        assert compare(a, b).judgement.verdict == "PASS"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_shard_that_changes_after_it_was_checked_is_refused(tmp_path: Path) -> None:
    many_shards(tmp_path / "run", OPEN + 2)
    run = read(tmp_path / "run")
    first = tmp_path / "run" / "00000.safetensors"
    # All others are asked for, so that it is not mapped any more: a reading maps them in the order of its threads.
    run.params["dense/kernel"][1:]
    # The same bytes, and by its time alone another file. Two seconds, for a file system may keep no less.
    os.utime(first, ns=(0, first.stat().st_mtime_ns + 2_000_000_000))
    with pytest.raises(TrajectoryError, match="was changed while it was read"):
        run.params["dense/kernel"][:1]
    first.unlink()
    with pytest.raises(TrajectoryError, match="cannot be read any more"):
        run.params["dense/kernel"][:1]


def test_one_shard_named_many_times_is_refused_at_the_second(folder: Path) -> None:
    first = manifest(folder)["shards"][0]
    rewrite(folder, shards=[first] * 50_000)
    refused(folder, "names the shard 00000.safetensors twice")


def test_files_are_not_multiplied_by_links_within_the_folder(folder: Path) -> None:
    first = manifest(folder)["shards"][0]
    names = [f"x{k}.safetensors" for k in range(100)]
    for name in names:
        (folder / name).symlink_to(first["file"])
    rewrite(folder, shards=[first, *(first | {"file": name} for name in names)])
    refused(folder, "begins at epoch 0 where the shard before ends at 0")


@pytest.mark.parametrize("budget", [None, Budget(limits.FOLDER)], ids=["alone", "in a folder of runs"])
def test_a_sparse_file_is_not_read(folder: Path, budget: Budget | None) -> None:
    shard = folder / "00000.safetensors"
    size = 20 << 30
    with shard.open("r+b") as file:
        file.truncate(size)
    first, *others = manifest(folder)["shards"]
    rewrite(folder, shards=[first | {"bytes": size}, *others])
    match = "more than 4 GiB of shards: if you trust the folder, set PARITY_LIMITS=N for N times as much"
    refused(folder, match, budget=budget)


@pytest.mark.parametrize(
    ("spent", "match"),
    [
        ({"size": limits.SIZE + 1}, "4 GiB of shards"),
        ({"tensors": limits.TENSORS + 1}, "1,000,000 tensors"),
        ({"kept": limits.KEPT + 1}, "512 MiB of losses and metrics"),
    ],
)
def test_more_than_the_budget_is_refused_with_the_remedy(
    spent: dict[str, int], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    with pytest.raises(TrajectoryError, match=rf"run: with it this reading takes more than {match}: .* PARITY_LIMITS"):
        Budget().spend(Path("run"), **spent)
    monkeypatch.setenv(limits.VARIABLE, "1.5")
    Budget().spend(Path("run"), **spent)
    Budget(runs=2).spend(Path("run"), **spent)


def test_several_readings_of_one_budget_spend_it_together(folder: Path) -> None:
    budget = Budget()
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    budget.spend(folder, size=limits.SIZE - 3 * size // 2)
    read(folder, budget=budget)
    with pytest.raises(TrajectoryError, match="more than 4 GiB of shards"):
        read(folder, budget=budget)
    assert len(read(folder).epochs) == 6


def test_time_is_limited(folder: Path) -> None:
    budget = Budget()
    budget.seconds = 0.0
    with pytest.raises(TrajectoryError, match="more than 0 seconds"):
        read(folder, budget=budget)


@pytest.mark.parametrize("said", ["0", "-1", "many", "nan", "1e9"])
def test_a_limit_that_is_no_number_is_refused(folder: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, said)
    refused(folder, "PARITY_LIMITS must be a number above 0")


@pytest.mark.parametrize(
    "settings",
    [
        "[" + "{}," * 5_000_000 + "{}]",
        '{"a": [' + "[]," * 5_000_000 + "[]]}",
        "{" + ",".join(f'"{k}":0' for k in range(1_000_000)) + "}",
    ],
    ids=["objects", "arrays", "keys"],
)
def test_a_manifest_of_very_many_values_is_not_parsed(folder: Path, settings: str) -> None:
    text = json.dumps(manifest(folder))[:-1] + f', "settings": {settings}}}'
    (folder / MANIFEST).write_text(text)
    tracemalloc.start()
    try:
        refused(folder, r"is no valid JSON \(more than 524,288 values\)|is larger than 16 MiB")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lockstep": 10**300}, "an integer of 997 bits: it may have 64"),
        ({"lockstep": -1}, "lockstep must be an integer from 0 on"),
        ({"deep": -1}, "deep must be an integer from 0 on"),
        ({"threads": -(2**63)}, "threads must be an integer from 0 on"),
        ({"seconds": 10**400}, "an integer of 1329 bits"),
        ({"settings": {"a": "\ud800"}}, r"the text '\\ud800', which cannot be encoded"),
        ({"settings": {"\ud800": 1}}, "which cannot be encoded"),
        ({"versions": {"\udcff": "1"}}, "which cannot be encoded"),
        ({"case": "\udcff"}, "which cannot be encoded"),
        ({"anything": [[[{"a": 10**30}]]]}, "an integer of 100 bits"),
        ({"anything": eval("[" * 100 + "]" * 100)}, "a value in more than 16 objects and arrays"),
    ],
    ids=[
        "huge lockstep",
        "negative lockstep",
        "negative deep",
        "negative threads",
        "huge seconds",
        "surrogate in a setting",
        "surrogate in the name of a setting",
        "surrogate in a package's name",
        "surrogate in the case",
        "huge number anywhere",
        "depth",
    ],
)
def test_a_manifest_holds_what_any_program_can_read(folder: Path, changes: dict, match: str) -> None:
    rewrite(folder, **changes)
    refused(folder, match)


def test_a_number_that_is_infinite_as_a_float_is_refused(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"threads": 1', '"seconds": 1e999'))
    refused(folder, "a number that is not finite")


def test_a_single_bfloat16_number_is_a_tensor_of_a_step(tmp_path: Path) -> None:
    save_run(tmp_path / "run", make(2, dtype="bfloat16"))
    path = tmp_path / "run" / "00000.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    header["steps/0/loss"] = {"dtype": "BF16", "shape": [], "data_offsets": [end, end + 2]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :] + b"\x80\x3f")
    seal(tmp_path / "run")
    assert read(tmp_path / "run").steps["0/loss"].tolist() == 1.0
