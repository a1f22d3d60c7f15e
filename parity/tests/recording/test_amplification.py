"""A few kilobytes that would take gigabytes or minutes: sparse files, hard links, many names of one file."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.floors import floor as floors
from parity.judging.floors.floor import FLOOR_BYTES, Floor, checksum, load, mark_of, recorded_floor
from parity.judging.floors.floor import save as save_floors
from parity.recording.checkpoint import unpack
from parity.recording.limits import Budget, LimitError
from parity.recording.reader import read
from parity.recording.writer import write
from parity.running.reading import dependencies
from parity.running.reading.dependencies import fresh
from parity.trajectory import TrajectoryError

HUGE = 3 << 30
E = 8


def sparse(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], int]], about: dict[str, str]) -> Path:
    """A safetensors file of tensors ``(dtype, shape, bytes)`` that are all zeros and take no room on the disk."""
    header: dict[str, Any] = {"__metadata__": about}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header |= {name: {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def little(call: Callable[[], Any]) -> Any:
    """What a call gives, which must take little memory."""
    tracemalloc.start()
    try:
        return call()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


# Floors


@pytest.mark.parametrize("mark", ["it", "another"])
def test_a_floor_of_another_size_than_any_floor_is_not_read(tmp_path: Path, mark: str) -> None:
    values = FLOOR_BYTES // 4
    path = sparse(tmp_path / "a.safetensors", {"float64/loss": ("F32", (values, 1), 4 * values)}, {"fingerprint": mark})
    with pytest.raises(LimitError, match=r"larger than 32 MiB: .* PARITY_LIMITS=N .* --limits N"):
        little(lambda: load(path, "it"))


def test_the_header_of_a_floor_decides_whether_it_is_read(tmp_path: Path) -> None:
    values = FLOOR_BYTES // 8
    path = tmp_path / "a.safetensors"
    tensors = {"float64/loss": ("F32", (E, 1), 4 * E), "float64/params/w": ("F32", (values,), 4 * values)}
    sparse(path, tensors, {"fingerprint": "it"})
    assert little(lambda: load(path, "another")) is None
    assert little(lambda: mark_of(path)) == "it"
    with pytest.raises(TrajectoryError, match=rf"float64/params/w has {values} snapshots of {E} epochs"):
        little(lambda: load(path, "it"))
    sparse(path, {"float64/loss": ("F32", (values, 1), 4 * values)}, {"fingerprint": "it"})
    assert little(lambda: load(path, "it", fit=lambda shapes: False)) is None


def test_floors_spend_what_they_keep(tmp_path: Path) -> None:
    path, budget = tmp_path / "a.safetensors", Budget()
    save_floors({"float64": Floor(np.ones((1 << 20, 1)), {"w": np.ones(9)})}, path, "it")
    with pytest.raises(LimitError, match="512 MiB of losses and metrics"):
        [load(path, "it", budget=budget) for _ in range(65)]


@pytest.fixture
def stretched(tmp_path: Path) -> Path:
    """A run in lockstep of one epoch, whose floor ends before it, and the floors of two of its stretches."""
    params = {"w": np.linspace(1, 3, E + 1)[:, None] * np.ones((1, 4))}
    meta = {"case": "a", "dtype": "float64", "lockstep": 1, "floor": "it"}
    run = tmp_path / "a" / "torch-float64-cpu-lockstep1"
    write(run, np.arange(E + 1), np.linspace(5, 1, E).reshape(E, 1), params, meta=meta)
    place = tmp_path / "floors"
    small = Floor(np.full((4, 1), 1e-14), {"w": np.full(5, 1e-14)})
    save_floors({"float64": small}, place / "a-lockstep1.safetensors", "it")
    for start in (5, 6):
        one = {"float64": small.until(1, 1)}
        save_floors(one, place / f"a-lockstep1-from{start}.safetensors", "it")
    return run


def test_stretches_are_those_of_the_run_and_each_has_one_file(stretched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = stretched.parents[1] / "floors"
    for name in ("05", "006", "\u0665", "99", "9" * 40, "x"):
        os.link(place / "a-lockstep1-from5.safetensors", place / f"a-lockstep1-from{name}.safetensors")
    # As long as the whole run, where a stretch has one epoch.
    os.link(place / "a-lockstep1.safetensors", place / "a-lockstep1-from1.safetensors")
    read_at_all = []
    monkeypatch.setattr(floors, "checksum", lambda *of: read_at_all.append(of) or checksum(*of))
    found = recorded_floor(stretched, read(stretched))
    assert found is not None
    assert sorted(found.stretches) == [5, 6]
    assert len(read_at_all) == 3


def test_all_floors_of_a_run_share_what_one_reading_may_take(stretched: Path) -> None:
    budget, run = Budget(), read(stretched)
    # That of the run itself, and of one of its two stretches.
    budget.most["kept"] = budget._left["kept"] = 8.0 * (9 + 2)
    with pytest.raises(LimitError, match="losses and metrics"):
        recorded_floor(stretched, run, budget=budget)


# Checkpoints


def test_a_checkpoint_of_another_run_is_not_read(tmp_path: Path) -> None:
    tensors = {"params/w": ("F64", (HUGE >> 3,), HUGE)}
    path = sparse(tmp_path / "checkpoint.safetensors", tensors, {"key": "theirs", "epoch": "1"})
    assert little(lambda: unpack(path, "ours")) is None
    assert little(lambda: unpack(path, "ours", {"w": (HUGE >> 3,)})) is None


@pytest.mark.parametrize("slots", [0, HUGE >> 3])
def test_a_checkpoint_that_the_run_does_not_need_is_not_read(tmp_path: Path, slots: int) -> None:
    tensors = {"params/w": ("F64", (4,), 32), "slots/m/w": ("F64", (slots,), 8 * slots)}
    if not slots:
        tensors = {"params/w": ("F64", (HUGE >> 3,), HUGE)}
    path = sparse(tmp_path / "checkpoint.safetensors", tensors, {"key": "ours", "epoch": "1"})
    assert little(lambda: unpack(path, "ours", {"w": (4,)})) is None
    assert little(lambda: unpack(path, "ours")) is None


# What a run depends on


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    paths: list[str] = []
    whole = dependencies._hashed
    monkeypatch.setattr(dependencies, "_hashed", lambda path, *of: paths.append(path) or whole(path, *of))
    return paths


def test_a_file_of_many_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    os.link(file, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(file)
    paths, known = hashed(monkeypatch), dependencies.hash_of("content")
    names = ["file", "./file", "../" + tmp_path.name + "/file", "hard", "soft", f"{tmp_path}//file", str(file)]
    assert fresh({"files": dict.fromkeys(names, known), "variables": {}}, {}, [str(tmp_path)])
    assert len(paths) == 1
    # Two names of one file that claim two contents.
    claimed = {"file": known, "soft": "0" * 32}
    assert not fresh({"files": claimed, "variables": {}}, {}, [str(tmp_path)])


def test_a_run_that_depends_on_more_than_may_be_read_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = hashed(monkeypatch)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(5 << 30)
    assert not fresh({"files": {"sparse": "0" * 32}, "variables": {}}, {}, [str(tmp_path)])
    assert not paths
    budget = Budget()
    budget.spend(tmp_path, size=4 << 30)
    (tmp_path / "small").write_bytes(b"1")
    small = {"files": {"small": dependencies.hash_of("1")}, "variables": {}}
    assert not fresh(small, {}, [str(tmp_path)], budget=budget)
    assert fresh(small, {}, [str(tmp_path)])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["/proc/kmsg", "/proc/self/mem", "/dev/../proc/kmsg", "link"])
def test_no_run_depends_on_what_the_system_makes_up(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = hashed(monkeypatch)
    (tmp_path / "link").symlink_to("/proc/kmsg")
    assert not fresh({"files": {name: "0" * 32}, "variables": {}}, {}, [str(tmp_path)])
    assert not paths
