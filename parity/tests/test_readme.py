"""What the README tells people to do works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from parity.mistakes.catalogue import mistakes_for
from parity.suite import load_suite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


LISTINGS = {"my-model/numpy": "kernel -=", "my-model/torch": "import torch", "my-run": "hashlib"}
"""Where each listing writes a run, and a word that it alone has."""


def diff(a: str, b: str, tmp_path: Path) -> None:
    """Record what two listings record, and expect them to agree."""
    listings = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(listings) == len(LISTINGS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for folder in {a, b}:
        (listing,) = (text for text in listings if LISTINGS[folder] in text)
        subprocess.run([sys.executable, "-c", listing], cwd=tmp_path, env=environment, check=True, timeout=60)
    command = [sys.executable, "-m", "parity", "diff", a, b]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("PASS")


def test_a_run_recorded_as_the_readme_says_can_be_compared(tmp_path: Path) -> None:
    diff("my-run", "my-run", tmp_path)


def test_the_two_runs_of_the_readme_agree(tmp_path: Path) -> None:
    diff("my-model/numpy", "my-model/torch", tmp_path)


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`parity ([a-z]+)", README)) | set(re.findall(r"^parity ([a-z]+)", README, re.MULTILINE))
    command = [sys.executable, "-m", "parity", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    offered = set(re.findall(r"^  ([a-z]+)  ", shown, re.MULTILINE))
    assert named
    assert named <= offered, f"the README names {named - offered}, 'parity --help' does not"


def test_the_mistakes_are_as_many_as_is_said() -> None:
    entries = load_suite("impls").entries.values()
    known = {hypothesis.name for entry in entries for hypothesis in mistakes_for(entry)}
    said = re.findall(r"catalogue, (\d+) of them", README)
    said += re.findall(r"which of (\d+) porting\s+mistakes", (ROOT / "CHANGELOG.md").read_text())
    assert said == [str(len(known))] * 2
