"""Implementations that do what none should: each costs its own cell, and every honest one comes out as without them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from parity.recording.manifest import read_manifest
from parity.recording.places import failure_path
from parity.tests.command import Parity
from parity.tests.suites import CASE, HONEST, strict_json, write_suite

pytestmark = pytest.mark.slow  # each starts processes of its own

DOES = """
import ctypes, faulthandler, os, signal, subprocess, sys, threading, time
import numpy as np
from dataclasses import replace
from pathlib import Path
from parity.tests import toy
from parity.trainer import verbs

def build(case, dtype, device):
    trainer = verbs(toy.build(case, dtype, device))
{does}
    return trainer
"""
# What it does in its build, the verdict, and what its reason says.
DEEDS: dict[str, tuple[str, str, str]] = {
    # Ends.
    "exits": ("os._exit(0)", "INCONCLUSIVE", "ended with status 0"),
    "leaves": ("sys.exit('enough')", "INCONCLUSIVE", "enough"),
    "interrupts": ("raise KeyboardInterrupt", "INCONCLUSIVE", "the numpy worker"),
    "aborts": ("nocore(); os.abort()", "INCONCLUSIVE", "SIGABRT"),
    "segfaults": ("nocore(); ctypes.string_at(0)", "INCONCLUSIVE", "SIGSEGV"),
    "terminates": ("os.kill(os.getpid(), signal.SIGTERM)", "INCONCLUSIVE", "SIGTERM"),
    "kills_its_group": ("os.killpg(0, signal.SIGKILL)", "INCONCLUSIVE", "SIGKILL"),
    # Hangs.
    "hangs": ("time.sleep(1000)", "INCONCLUSIVE", "not done within"),
    "spins": ("while True: pass", "INCONCLUSIVE", "not done within"),
    "stops": ("os.kill(os.getpid(), signal.SIGSTOP)", "INCONCLUSIVE", "not done within"),
    "hangs_deaf": (
        "[signal.signal(n, signal.SIG_IGN) for n in (15, 1, 2)]; time.sleep(1000)",
        "INCONCLUSIVE",
        "not done",
    ),
    "waits_for_its_thread": ("threading.Thread(target=time.sleep, args=(1000,)).start()", "PASS", ""),
    # Takes much.
    "takes_memory": ("np.ones(1 << 50)", "INCONCLUSIVE", "MemoryError"),
    "fills_memory": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "    kept = []\n    while True: kept.append(bytearray(1 << 28))",
        "INCONCLUSIVE",
        "MemoryError",
    ),
    "recurses": ("(f := lambda: f())()", "INCONCLUSIVE", "RecursionError"),
    "opens": ("kept = [os.open('/dev/null', 0) for _ in range(100_000)]", "INCONCLUSIVE", "Too many open files"),
    # Says too much.
    "prints": ("print('word ' * 1_000_000); sys.stderr.write('x' * 1_000_000)", "PASS", ""),
    "prints_bytes": ("os.write(1, bytes(range(256)) * 100); os.write(2, bytes(range(256)) * 100)", "PASS", ""),
    "answers_garbage": (
        "for n in range(3, 9): say(n, b'\\xff\\xfe garbage\\n')",
        "INCONCLUSIVE",
        "cannot be understood",
    ),
    "answers_half": ("for n in range(3, 9): say(n, b'{\"__type__\": ')", "INCONCLUSIVE", "cannot be understood"),
    "answers_another": ("for n in range(3, 9): say(n, other())", "INCONCLUSIVE", "answered another job"),
    "closes_everything": ("os.closerange(0, 100)", "INCONCLUSIVE", "the numpy worker"),
    "raises_half_a_character": ("raise ValueError('\\ud800 and \\x1b[31m')", "INCONCLUSIVE", "\\ud800 and"),
    "raises_no_words": ("raise type('E', (Exception,), {'__str__': lambda self: 1})", "INCONCLUSIVE", "E"),
    # Forks.
    "forks": ("os.fork()", "PASS", ""),
    "forks_and_waits": ("os.fork() or time.sleep(1000)", "PASS", ""),
    "forks_in_training": ("trainer = replace(trainer, train=lambda *a: (os.fork(), toy_train(*a))[1])", "PASS", ""),
    "forks_without_end": ("[os.fork() for _ in range(4)]", "PASS", ""),
    # Goes elsewhere.
    "goes_elsewhere": ("os.chdir('/')", "PASS", ""),
    "takes_its_folder_away": ("os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')", "PASS", ""),
    # Hands out what nobody can use.
    "gives_wrong_shapes": (
        "trainer = replace(trainer, train=lambda *a: cut(toy_train(*a)))",
        "INCONCLUSIVE",
        "ValueError",
    ),
    "gives_nothing": ("trainer = replace(trainer, train=lambda *a: None)", "INCONCLUSIVE", "Error"),
    "gives_nan": ("trainer = replace(trainer, train=lambda *a: nan(toy_train(*a)))", "FAIL", "not finite"),
    "gives_objects": ("trainer = replace(trainer, export=lambda: object())", "INCONCLUSIVE", "AttributeError"),
    "is_nothing": ("return None", "INCONCLUSIVE", "AttributeError"),
    # Changes what it is given.
    "changes_its_data": ("case.data().x[:] = 0", "INCONCLUSIVE", "read-only"),
    "changes_its_start": ("case.initial()['dense/bias'][:] = 9", "INCONCLUSIVE", "read-only"),
}
HELP = """
import json, resource

def nocore():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def say(number, data):
    try:
        os.write(number, data)
    except OSError:
        pass

def other():
    done = {"__type__": "parity.running.workers.messages:Done", "id": 0, "result": None, "changed": []}
    return json.dumps(done).encode() + b"\\n"

def cut(trained):
    return trained._replace(params={name: value[:, :1] for name, value in trained.params.items()})

def nan(trained):
    trained.losses[:] = np.nan
    return trained
"""
SPEC = """
from dataclasses import replace
from functools import cache
from parity.tests import toy
CASES = (replace(toy.MOMENTUM, data=cache(toy.data), initial=cache(toy.initial)),)
"""
QUICK = ("exits", "segfaults", "spins", "answers_another", "forks", "goes_elsewhere", "changes_its_data", "gives_nan")
TIMEOUT = 6


def does(deed: str) -> str:
    code = DOES.format(does=f"    toy_train = trainer.train\n    {deed}")
    return code.replace("\ndef build", f"{HELP}\ndef build", 1)


def cells_of(result: Any) -> dict[str, dict[str, Any]]:
    assert result.out, result.err
    return {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}


def run_with(parity: Parity, root: Path, deeds: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], float]:
    """A cell of each deed, each between two honest ones, done by two workers; the cells and the seconds."""
    root.mkdir()
    implementations = {}
    for place, deed in enumerate(deeds):
        implementations |= {f"numpy_{place:02d}_a": HONEST, f"numpy_{place:02d}_b": does(DEEDS[deed][0])}
    package = write_suite(root, **implementations, numpy_z=HONEST)
    (root / package / "toy" / "spec.py").write_text(SPEC)
    package_folder = root / package
    package_folder.rename(root.parent / package)
    command = ("run", "--suite", package, "--out", str(root / "out"), "--dtype", "float64", "--no-report")
    begun = time.monotonic()
    result = parity(*command, "--jobs", "2", "--timeout", str(TIMEOUT), "--json", "-")
    return cells_of(result), time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("deeds", [QUICK, tuple(DEEDS)], ids=["some", "all"])
def test_what_an_implementation_does_costs_its_own_cell_alone(
    parity: Parity, tmp_path: Path, deeds: tuple[str, ...]
) -> None:
    # A package is imported once only: each has a name of its own.
    hostile, honest_alone = (tmp_path / f"{tmp_path.name}_{name}" for name in ("hostile", "alone"))
    cells, seconds = run_with(parity, hostile, deeds)
    for place, deed in enumerate(deeds):
        _, verdict, reason = DEEDS[deed]
        found = cells[f"numpy-{place:02d}-b"]
        assert (found["verdict"], deed) == (verdict, deed), found["reason"]
        assert reason in found["reason"], deed
    honest = {name: cell for name, cell in cells.items() if not name.endswith("-b")}
    assert {cell["verdict"] for cell in honest.values()} == {"PASS"}
    # As without the others, to the bit.
    alone, _ = run_with(parity, honest_alone, ())
    assert set(alone) == {"numpy", "numpy-z"}
    wanted = shards(honest_alone / "out", "numpy-z")
    for name in honest:
        assert shards(hostile / "out", name) == wanted, name
        assert honest[name]["ratio"] == alone["numpy" if name == "numpy" else "numpy-z"]["ratio"]
        assert not failure_path(folder_of(hostile / "out", name)).exists()
    # What hangs is given up after its time; no more than two can hang at once.
    hanging = sum("not done" in DEEDS[deed][2] for deed in deeds)
    assert seconds < 60 + 4 * len(deeds) + hanging * TIMEOUT
    # A worker that is ended while it writes leaves its run unfinished, and half a file in it: the next try sweeps both.
    left = [path for path in (hostile / "out").rglob("*") if path.name.endswith((".lock", ".tmp"))]
    assert not [path for path in left if not path.parent.name.endswith(".partial")]


def folder_of(out: Path, name: str) -> Path:
    return out / CASE / f"{name}-float64-cpu"


def shards(out: Path, name: str) -> list[str]:
    return [shard["sha256"] for shard in read_manifest(folder_of(out, name))["shards"]]


# A recording that lies there


ELSEWHERE = """
import os
from pathlib import Path
from parity.recording import writer
from parity.tests import planted, toy

def build(case, dtype, device):
    if not Path(__file__).with_name("wrong").exists():
        return toy.build(case, dtype, device)
    os.chdir(Path(__file__).parent)
    return planted.learning_rate(toy.build)(case, dtype, device)
"""


def test_an_earlier_recording_is_not_judged_for_one_that_went_elsewhere(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_a=ELSEWHERE, numpy_b=HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-", "--fresh")
    assert parity(*command).status == 0
    (tmp_path / package / "toy" / "wrong").touch()
    verdicts = {name: cell["verdict"] for name, cell in cells_of(parity(*command)).items()}
    assert verdicts == {"numpy": "PASS", "numpy-a": "FAIL", "numpy-b": "PASS"}
    assert not list((tmp_path / package).rglob("trajectory.json"))


# Says that its run is done, and has written nothing.
CLAIMS = """
from pathlib import Path
from parity.recording.writer import Writer
from parity.tests import planted, toy

def build(case, dtype, device):
    if Path(__file__).with_name("wrong").exists():
        Writer.finish = lambda self, **meta: setattr(self, "_finished", True)
        return planted.learning_rate(toy.build)(case, dtype, device)
    return toy.build(case, dtype, device)
"""
# Puts its own recording in the place of another's.
OVERWRITES = """
import shutil
from pathlib import Path
from parity.recording.writer import Writer
from parity.tests import planted, toy

def build(case, dtype, device):
    finish = Writer.finish
    def everywhere(self, **meta):
        finish(self, **meta)
        other = self.folder.with_name(self.folder.name.replace("numpy-b", "numpy-a"))
        shutil.rmtree(other)
        shutil.copytree(self.folder, other)
    Writer.finish = everywhere
    return planted.learning_rate(toy.build)(case, dtype, device)
"""


def test_what_lies_there_must_be_what_the_run_has_written(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_a=CLAIMS)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-", "--fresh")
    assert parity(*command).status == 0
    (tmp_path / package / "toy" / "wrong").touch()
    found = cells_of(parity(*command))["numpy-a"]
    assert found["verdict"] == "INCONCLUSIVE"
    assert "what lies there is not what this run has written" in found["reason"]


def test_what_another_has_put_there_since_is_not_judged(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_a=HONEST, numpy_b=OVERWRITES)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    found = cells_of(parity(*command))
    assert found["numpy-b"]["verdict"] == "FAIL"
    # Judged before or after that: never as what it is not.
    assert found["numpy-a"]["verdict"] in ("PASS", "INCONCLUSIVE")
    # The next call sees whose it is.
    assert cells_of(parity(*command, "--impl", "numpy-a"))["numpy-a"]["verdict"] == "PASS"


def test_last_words_that_cannot_be_encoded_lose_no_other_cell(parity: Parity, tmp_path: Path) -> None:
    raises = "def build(case, dtype, device):\n    raise ValueError('half \\ud800 of a character')\n"
    package = write_suite(tmp_path, numpy_a=raises, numpy_b=HONEST)
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "cells.json")
    assert result.status == 3
    cells = strict_json((tmp_path / "cells.json").read_text(), "run")["cells"]
    assert [cell["verdict"] for cell in cells] == ["PASS", "INCONCLUSIVE", "PASS"]
    assert cells[1]["reason"] == "ValueError: half \\ud800 of a character"
    assert parity("report", "out", "--suite", package, "--format", "md").status == 3
