"""Where jobs are done, as ``--on`` says it: by processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from parity.running.ray.requirements import Installed, is_requirements, nowhere

if TYPE_CHECKING:
    from parity.running.deadlines import Deadlines
    from parity.running.executor import Executor
    from parity.running.packages import Reach
    from parity.running.workers.pool import OnChanged

LOCAL, RAY = "local", "ray"


class OnError(ValueError):
    """Jobs cannot be done there; the message says what can be asked for, or what to install."""


def cores() -> int:
    """The cores of this machine that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def check(on: str) -> None:
    """Refuse a place that there is not, or that an extra is missing for: OnError."""
    if on == LOCAL:
        return
    scheme, separator, address = on.partition("://")
    if scheme != RAY or bool(separator) != bool(address):
        raise OnError(f"--on takes {LOCAL}, {RAY} or {RAY}://HOST:PORT, not {on!r}")
    if find_spec("ray") is None:
        raise OnError("--on ray needs Ray: python -m pip install 'cross-framework-parity[ray]'")


def installed_on(on: str) -> Installed:
    """What says which versions workers find there that have packages of their own."""
    if on == LOCAL:
        return nowhere
    from parity.running.ray.cluster import installed_with

    return partial(installed_with, on.partition("://")[2])


def executor(
    on: str = LOCAL,
    jobs: int | None = None,
    pythons: Mapping[str, str] | None = None,
    reach: Reach | None = None,
    deadlines: Deadlines | None = None,
    on_changed: OnChanged = lambda job, changes: None,
    root: Path | None = None,
) -> Executor:
    """What does jobs there, at most so many at a time, or as many as there are cores.

    ``root`` is the folder below which they read and write. ``parity.running.workers.pool.Pool`` has the other
    arguments. OnError where ``on`` is no such place, or cannot be reached.
    """
    from parity.running.workers.pool import Pool

    check(on)
    if on == LOCAL:
        if files := [python for python in (pythons or {}).values() if is_requirements(python)]:
            raise OnError(f"the packages of {files[0]} are installed on a Ray cluster alone: add --on {RAY}")
        return Pool(jobs or cores(), pythons, reach, deadlines, on_changed)
    from parity.running.ray.cluster import ClusterError
    from parity.running.ray.executor import RayExecutor

    try:
        return RayExecutor(on.partition("://")[2], jobs, pythons, reach, deadlines, on_changed, root)
    except ClusterError as error:
        raise OnError(str(error)) from error
