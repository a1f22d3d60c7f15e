"""How a worker begins. Run as a file, for an interpreter that need not have this package among its own.

Its argument is JSON: the fields of a ``parity.running.packages.Reach`` and of the ``Environment`` of its jobs.
"""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> None:
    """Take this very package, whatever the interpreter has under its name, then the suite's, and do what it is told."""
    folder = Path(__file__).parents[2]
    spec = spec_from_file_location("parity", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["parity"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["parity"])

    from parity.running.executor import Environment
    from parity.running.packages import Reach
    from parity.running.workers import worker

    told = json.loads(sys.argv.pop())
    reach = Reach(told["packages"], tuple(told["folders"]))
    reach.extend()
    worker.main(reach, Environment(told["framework"], told["device"]))


if __name__ == "__main__":
    main()
