"""A Ray cluster: the way to it, its nodes, and actors on them for jobs of an environment."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from parity.frameworks import FRAMEWORKS
from parity.running.executor import Environment, Resources, UnrunError
from parity.running.packages import HERE, Reach, clone, own_path
from parity.running.ray.actor import Actor, Wanted, installed
from parity.running.ray.requirements import is_requirements, lines_of
from parity.running.variables import variable
from parity.running.versions import PYTHON, Versions
from parity.running.workers.started import command

PORT = 6379
"""Where a cluster answers unless its address says another port."""
REACH = 10.0
"""Seconds in which a cluster must answer at all."""
STORE = 256 << 20
"""Bytes of memory for what travels, in a cluster that is begun here."""


class ClusterError(RuntimeError):
    """There is no such cluster, or no way to it; the message says what to do."""


class Cluster:
    """The cluster, and what is known of its nodes."""

    def __init__(self, address: str, pythons: Mapping[str, str], reach: Reach, root: Path | None) -> None:
        self._address, self._pythons, self._reach = address, pythons, reach
        self.root = str(root) if root is not None else ""
        self._versions = Versions(pythons, partial(installed_with, address))
        self._lock = threading.Lock()
        self._right: set[tuple[str, str, str]] = set()
        self._full: set[str] = set()
        self._mark: tuple[str, str] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        with self._stack:
            self._stack.enter_context(connected(self._address))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cores(self) -> int:
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def actor(self, environment: Environment, resources: Resources) -> Any:
        """A new actor for such jobs, on any node that has room, and room on its disk."""
        import ray

        python = self._pythons.get(environment.framework)
        mark, secret = self._marked()
        wanted = Wanted(
            command(environment, python, self._reach),
            is_requirements(python),
            resources.gpus > 0,
            self.root,
            mark,
            secret,
            os.getcwd(),
        )
        avoided = self._full if self._full < {node["NodeID"] for node in alive_nodes()} else set()
        kind: Any = ray.remote(Actor)
        return kind.options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_concurrency=2,  # a worker is ended while its answers are waited for
            memory=resources.memory or None,
            runtime_env=_runtime(python),
            label_selector={"ray.io/node-id": f"!in({','.join(sorted(avoided))})"} if avoided else None,
        ).remote(wanted)

    def python(self, environment: Environment) -> str:
        """The interpreter, or the file of packages, that is named for its workers; "" for this one's."""
        return self._pythons.get(environment.framework, "")

    def avoid(self, node: str) -> None:
        """Begin no actor on a node whose disk is full, as long as there is another."""
        with self._lock:
            self._full = self._full | {node}

    def could(self, resources: Resources) -> bool:
        """Whether any node has so much, be it in use."""
        wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory}
        return any(
            all(node["Resources"].get(name, 0) >= least for name, least in wanted.items()) for node in alive_nodes()
        )

    def check(self, actor: Any, node: str, environment: Environment) -> None:
        """Refuse a node that has other versions than this machine, which the recordings name: UnrunError."""
        import ray

        python = self._pythons.get(environment.framework)
        known = next(known for known in FRAMEWORKS if known.name == environment.framework)
        interpreter, path = python or sys.executable, () if python else own_path()
        if (node, interpreter, environment.framework) in self._right:
            return
        here = {PYTHON: self._versions.python(next(iter(known.packages)))}
        for label in known.packages:
            here |= self._versions.of(label)
        there = ray.get(actor.installed.remote(path))
        for name, version in here.items():
            if there[name] != version:
                raise UnrunError(
                    f"a node of the cluster has {f'{name} {there[name]}' if there[name] else f'no {name}'} in "
                    f"{interpreter} where this machine has {version}: install the same on every node"
                )
        self._right.add((node, interpreter, environment.framework))

    def _marked(self) -> tuple[str, str]:
        """The file by which a node knows the folder of results, and what it says; "" where none can be written."""
        with self._lock:
            if self._mark is None:
                self._mark = ("", "")
                with contextlib.suppress(OSError):
                    if self.root:
                        Path(self.root).mkdir(parents=True, exist_ok=True)
                        file = tempfile.NamedTemporaryFile("w", dir=self.root, prefix=".shared-")  # noqa: SIM115
                        self._stack.enter_context(file)
                        self._mark = file.name, secrets.token_hex()
                        file.write(self._mark[1])
                        file.flush()
            return self._mark


def _runtime(python: str | None) -> dict[str, Any] | None:
    """What an actor's process finds beside what its node has: this package, and those of a file of packages."""
    # A node finds this package where this machine does; Ray's own interpreter there must be told.
    search = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH", ""))))
    found: dict[str, Any] = {"env_vars": {"PYTHONPATH": search}} if clone() is not None else {}
    if python and is_requirements(python):
        found["pip"] = list(lines_of(python))
    return found or None


def installed_with(address: str, python: str) -> Mapping[str, str | None]:
    """The versions that a worker finds on a node of the cluster with the packages of a file, which are installed there.

    OSError, with what pip says, where they cannot be.
    """
    import ray

    try:
        with connected(address):
            asked: Any = ray.remote(installed)
            found: Mapping[str, str | None] = ray.get(asked.options(num_cpus=0, runtime_env=_runtime(python)).remote())
            return found
    except ClusterError as error:
        raise OSError(str(error)) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise OSError(uninstalled(python, error)) from error


def uninstalled(python: str, error: Exception) -> str:
    """What is said where the packages of a file cannot be installed: the last errors of pip, or of Ray."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return f"the packages of {python} cannot be installed on a node: {' '.join(said)}"


def alive_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster meanwhile; ClusterError where there is none. A connection that is there is used."""
    import ray

    # Ray puts what it brings of others before all that this process has, where workers would find it as well. All of
    # it is loaded by now.
    sys.path[:] = [
        entry for entry in sys.path if entry != os.path.join(os.path.dirname(ray.__file__), "thirdparty_files")
    ]
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    logs = ray._private.worker
    # As Ray's debugger does: else the last lines of a lost node's log would stand in what a command writes.
    logs._worker_logs_enabled = False
    try:
        try:
            _connect(address, quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"at {address}" if address else "that Ray finds, and none that can be begun here"
            raise ClusterError(f"there is no Ray cluster {where}: {error}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray takes it for its own
        yield
    finally:
        ray.shutdown()
        logs._worker_logs_enabled = True


def _connect(address: str, options: Mapping[str, Any]) -> None:
    import ray

    if address:
        ray.init(address=_reachable(address), **options)
        return
    try:
        ray.init(address="auto", **options)
    except ConnectionError:
        with variable("RAY_USAGE_STATS_ENABLED", "0"):
            ray.init(address="local", include_dashboard=False, object_store_memory=STORE, **options)


def _reachable(address: str) -> str:
    """HOST:PORT, if anybody answers there: Ray itself would try for minutes. ClusterError else."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port or PORT)), timeout=REACH):
            return f"{host}:{port or PORT}"
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"nobody answers at {host}:{port or PORT}: {error}; begin a cluster with 'ray start --head', or name its "
            "address, not that of a client's server, as --on ray://HOST:PORT"
        ) from error
