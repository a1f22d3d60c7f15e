"""The versions installed for each implementation, by interpreter, and the GPU that each framework sees."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from parity.frameworks import FRAMEWORKS, framework_of, packages_of
from parity.running.pool import Pool

CORE_PACKAGES = ("numpy", "safetensors")


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
    """Installed versions. Each interpreter is asked once, and no framework is imported."""

    def __init__(self, pythons: Mapping[str, str]) -> None:
        self.pythons = pythons
        self._known: dict[str, dict[str, str | None]] = {}

    def of(self, implementation: str) -> dict[str, str | None]:
        """Distribution to version, None if it is not installed. OSError if the interpreter cannot be run."""
        python = self.pythons.get(framework_of(implementation).name, sys.executable)
        if python not in self._known:
            self._known[python] = _versions(python)
        return {package: self._known[python].get(package) for package in (*CORE_PACKAGES, *packages_of(implementation))}

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
        return Availability(implementation, framework.name, False, f"{', '.join(missing)} not installed: {hint}")


def find_devices(versions: Versions, labels: Sequence[str]) -> dict[str, Availability]:
    """Ask each implementation's framework, in a worker of its own, for the name of its CUDA device."""
    found = {}
    with Pool(1, versions.pythons, sys.path, "cuda") as pool:
        asked = {}
        for label in labels:
            framework = framework_of(label)
            if versions.availability(label).available and "cuda" not in framework.never and framework.name not in asked:
                asked[framework.name] = pool.submit(framework.name, {"do": "find", "trainer": framework.trainer})
        for label in labels:
            availability = versions.availability(label)
            if never := framework_of(label).never.get("cuda"):
                availability = replace(availability, available=False, reason=never)
            elif availability.available:
                error = asked[availability.framework].exception()
                reason = str(error or asked[availability.framework].result()["result"]).removeprefix("ValueError: ")
                availability = replace(availability, available=error is None, reason=reason)
            found[label] = availability
    return found


def _versions(python: str) -> dict[str, str | None]:
    packages = sorted({*CORE_PACKAGES, *(p for f in FRAMEWORKS for names in f.packages.values() for p in names)})
    code = (
        "import json, sys, importlib.metadata as m\n"
        "def version(p):\n"
        "    try: return m.version(p)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({p: version(p) for p in sys.argv[1:]}))"
    )
    try:
        done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True, timeout=60)
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError) as error:
        raise OSError(f"the interpreter {python} cannot be run: {error}") from error
    except ValueError as error:
        raise OSError(f"{python} is no Python interpreter: it answers {done.stdout[:40]!r}") from error
