"""What a job puts in the place of something else, and puts back before it ends, is no change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parity.running.executor import Environment, Job
from parity.running.packages import DOCUMENTS, reach_of
from parity.running.workers.pool import Pool
from parity.tests.running.test_pool import WAIT
from parity.tests.running.test_process import Do
from parity.tests.warm import Ask

WHILE_IMPORTED = """
import inspect, logging, sys
assert "jsonschema" not in sys.modules
kept = logging.captureWarnings, logging.basicConfig.__defaults__, inspect.FullArgSpec.args
logging.captureWarnings, logging.basicConfig.__defaults__ = (lambda *given: None), (1,)
logging.Logger.mine = lambda self: None
inspect.FullArgSpec.args = property(lambda self: [])  # a field of a named tuple is no function
import jsonschema
"""
PUT_BACK = """
logging.captureWarnings, logging.basicConfig.__defaults__, inspect.FullArgSpec.args = kept
del logging.Logger.mine
"""


def changed_by(job: Job[Any]) -> list[str]:
    """What a job leaves changed in its process, a line each."""
    told: list[str] = []
    with Pool(1, reach=reach_of(DOCUMENTS), on_changed=lambda job, changes: told.extend(changes)) as pool:
        pool.submit(job).result(WAIT)
    return told


@pytest.mark.parametrize("put_back", [True, False])
def test_what_was_changed_while_a_package_was_imported_may_be_put_back(put_back: bool) -> None:
    """As ``watch`` does, while torch imports what it had not needed before."""
    told = changed_by(Do(Environment("numpy"), WHILE_IMPORTED + PUT_BACK * put_back))
    seen = {change.partition(" ")[0] for change in told}
    functions = {"logging.captureWarnings", "logging.basicConfig", "logging.Logger.mine"}
    assert seen == (set() if put_back else functions | {"inspect.FullArgSpec.args"})


def test_watching_leaves_a_process_as_it_was(tmp_path: Path) -> None:
    arguments = {"mistake": "relu-for-relu6", "wrong": False, "dtype": "float32", "folder": str(tmp_path)}
    recorded = "parity.tests.explaining.layers.planted:recorded"
    assert changed_by(Ask(Environment("torch"), recorded, arguments)) == []
