"""The versions installed for each implementation, by interpreter, and the GPU that each framework sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace

from parity.frameworks import CORE_PACKAGES, FRAMEWORKS, framework_of, packages_of
from parity.running.executor import Environment
from parity.running.jobs import FindDevice
from parity.running.packages import own_path
from parity.running.ray.requirements import Installed, is_requirements, nowhere
from parity.running.workers.pool import Pool
from parity.running.workers.started import foreign_environment

PYTHON = "the interpreter"


@dataclass(frozen=True)
class Availability:
    """An implementation, and whether it can run here.

    If it cannot, ``reason`` says why and what to do. ``find_devices`` puts the name of a GPU that it found there.
    """

    implementation: str
    framework: str
    available: bool
    reason: str = ""


class Versions:
    """Installed versions. Each interpreter is asked once, and no framework is imported.

    ``installed`` says them of a file of packages: see ``parity.running.ray.requirements``.
    """

    def __init__(self, pythons: Mapping[str, str], installed: Installed = nowhere) -> None:
        self.pythons, self._installed = pythons, installed
        self._known: dict[str | None, dict[str, str | None]] = {}

    def of(self, implementation: str) -> dict[str, str | None]:
        """Distribution to version, None if it is not installed. OSError if the interpreter cannot be run."""
        found = self._of(implementation)
        return {package: found.get(package) for package in (*CORE_PACKAGES, *packages_of(implementation))}

    def python(self, implementation: str) -> str | None:
        """The version of the interpreter itself. OSError if it cannot be run."""
        return self._of(implementation).get(PYTHON)

    def _of(self, implementation: str) -> dict[str, str | None]:
        python = self.pythons.get(framework_of(implementation).name)
        if python not in self._known:
            known = self._installed(python) if python and is_requirements(python) else _versions(python)
            self._known[python] = dict(known)
        return self._known[python]

    def availability(self, implementation: str) -> Availability:
        framework = framework_of(implementation)
        try:
            missing = [package for package, version in self.of(implementation).items() if version is None]
        except OSError as error:
            return Availability(implementation, framework.name, False, str(error))
        if not missing:
            return Availability(implementation, framework.name, True)
        where = self.pythons.get(framework.name, sys.executable)
        hint = f"'{where} -m pip install {' '.join(missing)}'"
        if is_requirements(where):
            hint = f"add {' and '.join(missing)} to {where}"
        return Availability(implementation, framework.name, False, f"{', '.join(missing)} not installed: {hint}")


def find_devices(versions: Versions, labels: Sequence[str]) -> dict[str, Availability]:
    """Ask each implementation's framework, in a worker of its own, for the name of its CUDA device."""
    found = {label: _before_asking(versions, label) for label in labels}
    trainers = {before.framework: framework_of(label).trainer for label, before in found.items() if before.available}
    with Pool(1, versions.pythons) as pool:
        asked = {
            name: pool.submit(FindDevice(Environment(name, "cuda"), trainer)) for name, trainer in trainers.items()
        }
        wait(asked.values())
    for label, before in found.items():
        if before.available:
            error = asked[before.framework].exception()
            reason = str(error or asked[before.framework].result()).removeprefix("ValueError: ")
            found[label] = replace(before, available=error is None, reason=reason)
    return found


def _before_asking(versions: Versions, label: str) -> Availability:
    """The availability of an implementation, as far as it is known without asking its framework for a GPU."""
    availability, never = versions.availability(label), framework_of(label).never.get("cuda")
    return replace(availability, available=False, reason=never) if never else availability


def _versions(python: str | None) -> dict[str, str | None]:
    """The versions installed where workers look: in the interpreter ``python``, or in this one if it is None."""
    if python is None:
        return versions_in(sys.executable, own_path(), os.environ)
    return versions_in(python, (), foreign_environment(os.environ))


def versions_in(interpreter: str, path: Sequence[str], variables: Mapping[str, str]) -> dict[str, str | None]:
    """The versions installed in an interpreter and in the folders of ``path``; OSError if it cannot be run."""
    packages = sorted({*CORE_PACKAGES, *(p for f in FRAMEWORKS for names in f.packages.values() for p in names)})
    code = (
        "import json, platform, sys, importlib.metadata as m\n"
        "sys.path += json.loads(sys.argv[1])\n"
        "def version(p):\n"
        "    try: return m.version(p)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({p: version(p) for p in sys.argv[3:]} | {sys.argv[2]: platform.python_version()}))"
    )
    command = [interpreter, "-P", "-c", code, json.dumps(list(path)), PYTHON, *packages]
    try:
        done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=True, timeout=60)
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError) as error:
        raise OSError(f"the interpreter {interpreter} cannot be run: {error}") from error
    except ValueError as error:
        raise OSError(f"{interpreter} is no Python interpreter: it answers {done.stdout[:40]!r}") from error
