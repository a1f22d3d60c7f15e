"""Small suites of a user's own, written to a folder: the toy case and implementations of it that misbehave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import FRAMEWORKS
from parity.tests import schemas

CASE = "toy-sgd"
HONEST = "from parity.tests.toy import build\n"
WRONG = """
from parity.tests import planted, toy
build = planted.learning_rate(toy.build)
"""
NAN = """
from parity.tests import planted, toy
build = planted.nan_parameter_at_the_end(toy.build)
"""
RAISES = """
def build(case, dtype, device):
    raise ValueError("no such layer")
"""
ABORTS = """
import os
import resource

def build(case, dtype, device):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()
"""
# Trains until it is stopped, and says which process it is.
STUCK = """
import os
import time
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    trainer = toy.build(case, dtype, device)
    def train(segments, inputs=()):
        scratch = Path(__file__).with_name("pid.partial")
        scratch.write_text(str(os.getpid()))
        scratch.replace(scratch.with_name("pid"))
        time.sleep(600)
    trainer.train = train
    return trainer
"""
# Says something and then nothing more, in a process of its own as well.
HANGS = """
import subprocess
import sys
import time
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(__file__).with_name("children").write_text(str(child.pid))
    print("waiting for a lock that nobody gives back", flush=True)
    while True:
        time.sleep(0.01)
"""
# Asks whoever sits there for a word.
ASKS = """
from parity.tests import toy

def build(case, dtype, device):
    input("shall I go on? ")
    return toy.build(case, dtype, device)
"""
STOPS = ASKS.replace('input("shall I go on? ")', "breakpoint()")
# Trains an epoch at a time, and takes its time over each.
SLOW = """
import time
from parity import trainer
from parity.tests import toy

trainer.CHUNK_EPOCHS = 1

def build(case, dtype, device):
    slow = toy.build(case, dtype, device)
    honest = slow.train
    def train(segments, inputs=()):
        time.sleep(0.3)
        return honest(segments, inputs)
    slow.train = train
    return slow
"""
# Prints much, and ends its process.
TALKS = """
import os

def build(case, dtype, device):
    print("words " * 100_000)
    print("the last line", flush=True)
    os._exit(3)
"""
# Appends the number of its process to a file each time it is built.
COUNTED = """
import os
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    with Path(__file__).with_name("pids").open("a") as file:
        print(os.getpid(), file=file)
    return toy.build(case, dtype, device)
"""


def write_suite(root: Path, **implementations: str) -> str:
    """Write a package ``suite_of_<root's name>`` beside ``numpy`` with more implementations; its name.

    Names differ from test to test because a package is imported only once.
    """
    package = "suite_of_" + "".join(letter if letter.isalnum() else "_" for letter in root.name)
    model = root / package / "toy"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    (model / "__init__.py").touch()
    (model / "spec.py").write_text("from parity.tests import toy\nCASES = (toy.MOMENTUM,)\n")
    for name, source in ({"numpy": HONEST} | implementations).items():
        (model / f"toy_{name}.py").write_text(source)
    return package


def strict_json(text: str, schema: str = "") -> Any:
    """JSON as others read it: NaN and Infinity are no numbers there. With ``schema``, held against that one too."""

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON number")

    document = json.loads(text, parse_constant=refuse)
    return schemas.held(schema, document) if schema else document


def each_framework(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``framework`` once for each framework, or for those that the session names."""
    if "framework" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or [framework.name for framework in FRAMEWORKS]
        metafunc.parametrize("framework", [framework.name for framework in FRAMEWORKS if framework.name in chosen])
