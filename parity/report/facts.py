"""What a run says of itself, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parity.trajectory import Trajectory

LONG = 400
"""A fact from a trajectory is cut to this many characters."""
MANY = 40
"""Of a group of facts so many are shown."""


def count_values(run: Trajectory) -> int:
    """How many numbers one snapshot of a run holds."""
    return sum(math.prod(stack.shape[1:]) for stack in run.params.values())


def facts_of(run: Trajectory) -> dict[str, str]:
    """What a run says of itself, as texts of bounded length: a stranger may have written them.

    Args:
        run: The run.

    Returns:
        Facts by name: dtype, device, versions, settings, hyper-parameters, and how much was recorded.
    """
    meta = run.meta
    facts: dict[str, Any] = {"dtype": meta.get("dtype"), "device": meta.get("device"), "threads": meta.get("threads")}
    groups: dict[str, Mapping[str, Any]] = {key: meta.get(key) or {} for key in ("versions", "platform", "settings")}
    hyper = meta.get("hyper_parameters")
    facts |= {name: value for group in groups.values() for name, value in list(group.items())[:MANY]}
    facts |= {
        "hyper-parameters": ", ".join(map(str, hyper.values())) if isinstance(hyper, dict) else hyper,
        "batch order, SHA-256": meta.get("batch_order"),
        "epochs": len(run.loss),
        "snapshots": len(run.epochs),
        "parameters": count_values(run),
    }
    return {str(name)[:LONG]: str(value)[:LONG] for name, value in facts.items() if value is not None}
