"""A Ray cluster on this machine, begun and ended by a process of its own.

Ray forks its daemons, and runs Python in them before they are others. Where JAX is imported, as by tests, it may hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

SERVER = """
import json
import sys

answers, sys.stdout = sys.stdout, sys.stderr  # where Ray may print
from ray.cluster_utils import Cluster

cluster, nodes = Cluster(), {}
for line in sys.stdin:
    does, given = json.loads(line)
    if does == "add":
        node = cluster.add_node(**given)
        nodes[node.node_id] = node
    else:
        node = nodes.pop(given)
        cluster.remove_node(node, allow_graceful=False)
    print(json.dumps([node.node_id, cluster.address]), file=answers, flush=True)
cluster.shutdown()
"""
ENDED = 60
"""Seconds in which a cluster must be gone."""


class Nodes:
    """The cluster: its address, and its nodes, by their ids."""

    def __init__(self) -> None:
        self.address = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )

    def add(self, **node: Any) -> str:
        """Begin a node; the first is the head. Returns its id."""
        return self._ask("add", node)

    def remove(self, node: str) -> None:
        """Kill a node."""
        self._ask("remove", node)

    def shutdown(self) -> None:
        """End the cluster."""
        self._process.communicate(timeout=ENDED)

    def _ask(self, does: str, given: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([does, given]) + "\n")
        self._process.stdin.flush()
        node, self.address = json.loads(self._process.stdout.readline())
        return str(node)
