"""Copy and restore what an update changes beside torch's module, and tell one call of a closure from the next."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Settings = dict[tuple[int, str], Any]
"""An optimizer's settings: the number of the group and the setting's name, and its value."""


PLAIN = (bool, int, float, str, type(None))
"""What is never changed in place."""


@dataclass(frozen=True)
class Saved:
    """All that an update changes: what the module, the optimizer and its scalers hold, but for random numbers."""

    tensors: Mapping[str, Tensor]
    slots: Mapping[str, dict[str, Any]]
    gradients: Mapping[str, Tensor | None]
    settings: Settings
    scalers: Sequence[tuple[Any, Any]]


@dataclass
class Call:
    """One update that ``step`` was handed: what its repetitions begin with, and by what they are told from it."""

    settings: Settings
    scalers: list[tuple[Any, Any]]
    given: list[Tensor] | None = None
    """What the module was given in its first call."""
    changed: set[tuple[int, str]] = field(default_factory=set)
    """The settings that the closure changed, and not the optimizer."""
    left: Settings | None = None

    def departs(self, changed: set[tuple[int, str]], left: Settings) -> str | None:
        """Name a setting that a repetition has left otherwise than the run did; None if there is none."""
        if self.left is None:
            return None
        apart = (self.changed | changed) & differing(self.left, left)
        return min(apart)[1] if apart else None


def settings_of(optimizer: torch.optim.Optimizer) -> Settings:
    """Copy all that an optimizer's groups hold beside their parameters."""
    return {
        (number, name): value if _is_plain(value) else copy.deepcopy(value)
        for number, group in enumerate(optimizer.param_groups)
        for name, value in group.items()
        if name != "params"
    }


def set_settings(optimizer: torch.optim.Optimizer, settings: Settings) -> None:
    """Bring the settings of an optimizer's groups back. A tensor stays the same object, which a scheduler may hold."""
    for number, group in enumerate(optimizer.param_groups):
        saved = {name: value for (of, name), value in settings.items() if of == number}
        if not saved:  # a group that was added since
            continue
        for name in [name for name in group if name != "params" and name not in saved]:
            del group[name]
        for name, value in saved.items():
            if isinstance(group.get(name), Tensor) and isinstance(value, Tensor):
                group[name].copy_(value)
            else:
                group[name] = copy.deepcopy(value)


def differing(one: Settings, other: Settings) -> set[tuple[int, str]]:
    """The settings that two have not alike."""
    both = one.keys() & other.keys()
    return (one.keys() ^ other.keys()) | {key for key in both if not _same(one[key], other[key])}


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN or (type(value) is tuple and all(type(each) in PLAIN for each in value))


def _same(one: Any, other: Any) -> bool:
    if _is_plain(one) and type(one) is type(other) and one == other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    return bool(np.all(one == other))


def state_of_scaler(scaler: Any) -> Any:
    """Copy what a gradient scaler changes: its scale, how long that has held, and which optimizers it has unscaled."""
    held = {name: None if getattr(scaler, name) is None else getattr(scaler, name).clone() for name in SCALER}
    return held, _stages(scaler)


def set_scaler(scaler: Any, state: Any) -> None:
    """Bring a gradient scaler back to a copied state."""
    held, stages = state
    for name, value in held.items():
        now = getattr(scaler, name)
        if now is not None and value is not None:
            now.copy_(value)
        else:
            setattr(scaler, name, None if value is None else value.clone())
    scaler._per_optimizer_states.clear()
    for key, stage in stages.items():
        scaler._per_optimizer_states[key].update(stage | {FOUND: dict(stage[FOUND])})


SCALER = ("_scale", "_growth_tracker")
FOUND = "found_inf_per_device"


def _stages(scaler: Any) -> dict[int, dict[str, Any]]:
    return {key: {**stage, FOUND: dict(stage[FOUND])} for key, stage in scaler._per_optimizer_states.items()}


def another_batch(given: Sequence[Tensor], again: Sequence[Tensor]) -> bool:
    """Say whether a module was given other tensors than before, by more than rounding makes of what it computed itself.

    Examples:
        >>> one = torch.tensor([1.0, 2.0])
        >>> another_batch([one], [one + 1e-6]), another_batch([one], [one + 0.1])
        (False, True)
    """
    if len(given) != len(again):
        return True
    for one, other in zip(given, again, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return True
        if one.requires_grad or one.layout is not torch.strided or not one.numel():
            continue
        if not one.is_floating_point():
            if not torch.equal(one, other):
                return True
            continue
        slack = torch.finfo(one.dtype).eps ** 0.5
        one, other = (each.detach().to(torch.promote_types(each.dtype, torch.float32)) for each in (one, other))
        size = one.abs().nan_to_num(0.0, 0.0, 0.0).max()
        near = (one == other) | ((one - other).abs() <= slack * size) | (one.isnan() & other.isnan())
        if not near.all():
            return True
    return False


def random_state() -> Any:
    """Say where torch, NumPy and Python draw random numbers from next."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def set_random_state(state: Any) -> None:
    """Draw random numbers from there on, as ``random_state`` has said it."""
    mine, cuda, numpys, pythons = state
    torch.set_rng_state(mine)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpys)
    random.setstate(pythons)


def drawing_from(device: torch.device) -> bytes | None:
    """Give the state from which layers on a device draw next; None of a device that is neither a CPU nor of CUDA."""
    if device.type not in ("cpu", "cuda"):
        return None
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return bytes(state.numpy().tobytes())
