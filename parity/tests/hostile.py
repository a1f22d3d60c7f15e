"""A folder of hostile recordings: each is what somebody could send who wants time, memory, files or a verdict."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from parity.recording.format import MANIFEST
from parity.recording.places import failure_path, partial_path
from parity.tests.recording.runs import alter, make, manifest, reseal_header, rewrite, save_run

CASE = "made-up"
FIRST = "00000.safetensors"


def named_often(run: Path) -> None:
    """A shard of 55,000 tensors, listed 100 times."""
    _many_tensors(run, 55_000)
    first = manifest(run)["shards"][0]
    rewrite(run, shards=[first] * 100)


def linked_often(run: Path) -> None:
    """The same by links within the folder."""
    _many_tensors(run, 20_000)
    first = manifest(run)["shards"][0]
    for k in range(100):
        (run / f"x{k}.safetensors").symlink_to(FIRST)
    rewrite(run, shards=[first, *(first | {"file": f"x{k}.safetensors"} for k in range(100))])


def _many_tensors(run: Path, count: int) -> None:
    save_run(run, make(1))
    path, one = run / FIRST, np.zeros(1, np.float32)
    data = save(load(path.read_bytes()) | {f"params/p{k}": one for k in range(count)})
    path.write_bytes(data)
    rewrite(run, shards=[{"file": FIRST, "sha256": hashlib.sha256(data).hexdigest()}])


def full_of_objects(run: Path) -> None:
    """A manifest of 14 MiB that is empty objects."""
    text = json.dumps(manifest(run))[:-1] + ', "settings": {"a": [' + "{}," * (14 << 20 >> 2) + "{}]}}"
    (run / MANIFEST).write_text(text)


def full_of_shards(run: Path) -> None:
    """A manifest of 100,000 shards."""
    rewrite(run, shards=manifest(run)["shards"] * 100_000)


def sparse(run: Path) -> None:
    """A shard of 20 GB that takes no room."""
    with (run / FIRST).open("r+b") as file:
        file.truncate(20 << 30)
    first, *others = manifest(run)["shards"]
    rewrite(run, shards=[first | {"bytes": 20 << 30}, *others])


def endless(run: Path) -> None:
    """A shard that is a device."""
    (run / FIRST).unlink()
    (run / FIRST).symlink_to("/dev/zero")


def silent(run: Path) -> None:
    """A shard that waits for a writer."""
    (run / FIRST).unlink()
    os.mkfifo(run / FIRST)


def silent_manifest(run: Path) -> None:
    (run / MANIFEST).unlink()
    os.mkfifo(run / MANIFEST)


def silent_mark(run: Path) -> None:
    os.mkfifo(failure_path(run))


def silent_beginning(run: Path) -> None:
    """A newer attempt, whose manifest waits for a writer."""
    partial_path(run).mkdir()
    os.mkfifo(partial_path(run) / MANIFEST)


def telling_mark(run: Path) -> None:
    """The reason of a failure that is another file."""
    failure_path(run).symlink_to("/etc/passwd")


def elsewhere(run: Path) -> None:
    """A run that is a link."""
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    run.symlink_to("/etc")


def deep(run: Path) -> None:
    (run / MANIFEST).write_text("[" * 100_000)


def huge_numbers(run: Path) -> None:
    rewrite(run, lockstep=10**300, seconds=10**300)


def half_a_pair(run: Path) -> None:
    rewrite(run, settings={"a": "\ud800"}, case="\udcff")


def painting(run: Path) -> None:
    """Texts that tell a terminal what to do."""
    paint = "\x1b[2J\x1b[1;1H\x1b[32m1 cells: 1 PASS\x1b]0;owned\x07"
    rewrite(run, case=CASE, implementation=paint, settings={paint: paint}, versions={paint: paint}, device=paint)


def not_a_number(run: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["params/dense/kernel"] = np.full_like(tensors["params/dense/kernel"], np.nan)

    alter(run, change)


def lenient(run: Path) -> None:
    """Says that it need not be compared."""
    rewrite(run, float32_parameters="lockstep", floor="mark")


def impossible(run: Path) -> None:
    reseal_header(run, lambda header: header.replace(b"[6,0,2]", b"[6,0,9223372036854775807]"))


HOSTILE: dict[str, Callable[[Path], None]] = {
    change.__name__.replace("_", "-"): change
    for change in (
        *(named_often, linked_often, full_of_objects, full_of_shards, sparse, endless),
        *(silent, silent_manifest, silent_mark, silent_beginning, telling_mark, elsewhere),
        *(deep, huge_numbers, half_a_pair, painting, not_a_number, lenient, impossible),
    )
}
"""Each by its name: what turns an honest run into it."""


def hostile_run(root: Path, name: str) -> Path:
    """Make one of them below a folder of runs."""
    run = root / CASE / f"{name}-float32-cpu"
    save_run(run, make())
    HOSTILE[name](run)
    return run


def hostile_folder(root: Path) -> Path:
    """Make all of them beside an honest reference, with names that a terminal or a page may take for more."""
    save_run(root / CASE / "numpy-float64-cpu", make(dtype="float64"))
    for name in HOSTILE:
        hostile_run(root, name)
    for name in ("a[", ":x:", "\x1b[2J", os.fsdecode(b"\xff"), "a\nb", "<img src=x>", "%s{0}", "-rf"):
        save_run(root / CASE / f"{name}-float32-cpu", make())
        (root / f"{name}@{name}" / "numpy-float64-cpu").mkdir(parents=True)
    return root
