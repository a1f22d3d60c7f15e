"""Say what an optax optimizer is: the transformations that it chains, with their numbers, and its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.watching.flow import as_plain, as_written
from parity.watching.jax.state import named

RATES = ("scale", "scale_by_schedule")
"""What optax makes of a learning rate: a factor below zero, or a schedule of such."""
CLIPS = ("clip", "adaptive_grad_clip")
"""How the names begin of what changes gradients before the optimizer proper gets them."""
NOTHING = ("identity", "stateless")
WRAPPERS = {"apply_if_finite": "inner_state", "MultiSteps": "inner_opt_state"}
"""What makes the updates of another transformation or none, and where in its own state the other's is."""


@dataclass(frozen=True)
class Part:
    """One transformation of a chain."""

    name: str
    held: Mapping[str, Any]
    """What its update function keeps, by the names of its arguments."""
    update: Callable[..., Any]
    place: tuple[int | str, ...]
    """Where its state lies in the chain's."""
    group: str = ""
    """The label of the parameters that it is for, if several optimizers have some each."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its arguments that are plain values."""
        found = {name: as_plain(_number(value)) for name, value in self.held.items()}
        return {name: value for name, value in found.items() if value is not None}


def parts_of(transformation: Any) -> list[Part]:
    """List what a transformation chains.

    Optax keeps arguments in closures alone, under the names that they have in its documentation.

    Examples:
        >>> import optax
        >>> [part.name for part in parts_of(optax.adamw(0.1))]
        ['scale_by_adam', 'add_decayed_weights', 'scale']
    """
    return list(_parts(_update_of(transformation), ()))


def _update_of(transformation: Any) -> Any:
    # What watches an update stands in the place of the attribute.
    return tuple.__getitem__(transformation, 1) if isinstance(transformation, tuple) else transformation.update


def _parts(update: Any, place: tuple[int | str, ...]) -> Iterator[Part]:
    code = getattr(update, "__code__", None)
    cells = getattr(update, "__closure__", None) or ()
    held = {} if code is None else dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    name = getattr(update, "__qualname__", type(update).__name__).split(".<locals>")[0]
    own = getattr(update, "__self__", None)
    if own is not None and type(own).__name__ == "MultiSteps":
        name, held = "MultiSteps", {"inner": own.inner_opt, "every_k": _every(own)}
    if name == "with_extra_args_support":
        yield from _parts(_update_of(held["tx"]), place)
    elif name == "chain":
        for k, inner in enumerate(held["update_fns"]):
            yield from _parts(inner, (*place, k))
    elif name == "named_chain":
        for label, inner in held["transforms"]:
            yield from _parts(_update_of(inner), (*place, label))
    elif name == "masked":  # it is for some of the parameters
        for part in _parts(_update_of(held["inner"]), (*place, "inner_state")):
            yield replace(part, name=f"masked_{part.name}")
    elif name == "partition":  # which is multi_transform too
        for label, inner in held["transforms"].items():
            for part in _parts(_update_of(inner), (*place, "inner_states", label, "inner_state")):
                yield replace(part, group="/".join(filter(None, (str(label), part.group))))
    elif name in WRAPPERS:
        yield Part(name, held, update, place)
        yield from _parts(_update_of(held["inner"]), (*place, WRAPPERS[name]))
    elif name not in NOTHING:
        yield Part(name, held, update, place)


def _every(steps: Any) -> int | None:
    """Say of how many gradients ``MultiSteps`` makes an update, if it is a number and no schedule."""
    cells = getattr(steps._every_k_schedule, "__closure__", None) or ()
    found = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, int)]
    return found[0] if len(cells) == len(found) == 1 else None


def clips(transformation: Any) -> bool:
    """Say whether a transformation clips gradients and does nothing else, as some do before they call the optimizer."""
    return all(part.name.startswith(CLIPS) for part in parts_of(transformation))


def clipped(parts: list[Part], gradients: Any, state: Any, params: Any) -> Any:
    """Give the gradients as the optimizer proper gets them: changed by what clips, at the head of the chain."""
    for part in parts:
        if not part.name.startswith(CLIPS) or part.group:
            break
        own = state
        for k in part.place:
            own = getattr(own, k) if isinstance(k, str) and hasattr(own, k) else own[k]
        gradients, _ = part.update(gradients, own, params)
    return gradients


def learning_rate(parts: list[Part], state: Callable[[], Any]) -> float | None:
    """Say the learning rate of the update that comes; None if the chain does not tell one.

    Args:
        parts: The chain's.
        state: Gives trees, the chain's state among them. A schedule is asked with the count that is there, and where
            the state has hyper-parameters in it, they tell.
    """
    rates = {_rate_of(group, state) for group in _groups(parts).values()}
    return rates.pop() if len(rates) == 1 else None


def unknown_rate(parts: list[Part]) -> str:
    """Say in a sentence that the optimizer tells no learning rate, or several."""
    rates = {label: _rate_of(group, tuple) for label, group in _groups(parts).items()}
    told = ", ".join(f"{rate} for {label}" for label, rate in rates.items() if rate is not None)
    name = f"optax.{' '.join(part.name for part in parts)}"
    if len(rates) > 1:
        return f"no learning rate is recorded: each group of parameters has its own ({told or 'unknown'}) in {name}"
    return f"no learning rate is recorded: it is unknown what that of {name} is"


def _groups(parts: list[Part]) -> dict[str, list[Part]]:
    """List the parts of each group of parameters, with those that are for all."""
    labels = list(dict.fromkeys(part.group for part in parts if part.group)) or [""]
    return {label: [part for part in parts if part.group in ("", label)] for label in labels}


def _rate_of(parts: list[Part], state: Callable[[], Any]) -> float | None:
    """Say the learning rate of parts that follow each other; None if they do not tell one."""
    injected = [part for part in parts if part.name == "inject_hyperparams"]
    found = [part for part in parts if part.name in RATES]
    if len(injected) == 1 and not found:
        return _injected(injected[0], state)
    if len(found) != 1 or injected:
        return None
    if found[0].name == "scale":
        return _rate(found[0].held["step_size"])
    counts = set(map(int, _last(state(), "count")))
    return _rate(found[0].held["step_size_fn"](np.int32(counts.pop()))) if len(counts) == 1 else None


def _injected(part: Part, state: Callable[[], Any]) -> float | None:
    """Say the learning rate that is among a state's hyper-parameters."""
    schedule = part.held.get("sched_hps", {}).get("learning_rate")
    if schedule is None:
        rates = _last(state(), "learning_rate")
        return float(_number(rates[0])) if len(rates) == 1 else None
    # What the state holds is the rate of the update before: the schedule is asked anew in each.
    plain, counts = getattr(schedule, "schedule_fn", None), set(map(int, _last(state(), "count")))
    return float(_number(plain(np.int32(counts.pop())))) if plain is not None and len(counts) == 1 else None


def _last(tree: Any, name: str) -> list[Any]:
    """The single numbers in a tree whose own key is a name; those of the optimizer's state if it is told apart."""
    leaves = [(path, leaf) for _, path, leaf in named(tree) if path and path[-1] == name and not np.ndim(leaf)]
    return [leaf for path, leaf in leaves if "opt_state" in path] or [leaf for _, leaf in leaves]


def described(parts: list[Part]) -> dict[str, Any]:
    """Say what the recording is to keep of an optimizer: see ``Adapter.describe``."""
    groups = []
    for label, own in _groups(parts).items():
        group: dict[str, Any] = {"group": label} if label else {}
        for part in own:
            group |= {} if part.name in RATES else part.settings
        if [part.name for part in own if part.name in RATES] == ["scale"]:
            group["learning_rate"] = _rate_of(own, tuple)
        groups.append(group)
    said: dict[str, Any] = {"optimizer": {"class": f"optax.{' '.join(part.name for part in parts)}", "groups": groups}}
    words = optimizer_in_words(parts)
    return said | ({"hyper_parameters": {"optimizer": repr(words)}} if words is not None else {})


def optimizer_in_words(parts: list[Part]) -> Optimizer | None:
    """Say which optimizer a chain is in the words of ``parity.spec``; None if it has none for it.

    Examples:
        >>> import optax
        >>> optimizer_in_words(parts_of(optax.sgd(0.1, momentum=0.9)))
        Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
        >>> optimizer_in_words(parts_of(optax.adam(0.1, eps_root=1e-8))) is None
        True
    """
    if any(part.group for part in parts):
        return None
    # Of how many gradients an update is the mean, the updates themselves tell; but not how that is clipped.
    whole = [part.name for part in parts]
    if "MultiSteps" in whole and any(name.startswith(CLIPS) for name in whole[whole.index("MultiSteps") :]):
        return None
    own = [part for part in parts if not part.name.startswith((*CLIPS, "MultiSteps"))]
    said, names = {part.name: part.settings for part in own}, [part.name for part in own]
    rate = learning_rate(own, tuple) if names and names[-1] == "scale" else None
    decay = said.get("add_decayed_weights", {}).get("weight_decay", 0.0)
    if rate is None or not isinstance(decay, float | int):
        return None
    if names in (["scale"], ["add_decayed_weights", "scale"]):
        return Sgd(rate, 0.0, float(decay))
    if names in (["trace", "scale"], ["add_decayed_weights", "trace", "scale"]) and not said["trace"].get("nesterov"):
        return Sgd(rate, float(said["trace"]["decay"]), float(decay))
    adam = said.get("scale_by_adam", {})
    if names[0] != "scale_by_adam" or adam.get("eps_root") or adam.get("nesterov") or own[0].held["mu_dtype"]:
        return None
    numbers = rate, float(adam["b1"]), float(adam["b2"]), float(adam["eps"])
    if names == ["scale_by_adam", "add_decayed_weights", "scale"]:
        return AdamW(*numbers, float(decay))
    return Adam(*numbers) if names == ["scale_by_adam", "scale"] else None


def _rate(step_size: Any) -> float:
    return -float(_number(step_size))


def _number(value: Any) -> Any:
    """A scalar of JAX or NumPy as Python's, anything else as it is."""
    scalar = isinstance(value, jax.Array | np.ndarray | np.generic) and not np.ndim(value)
    return as_written(value) if scalar else value
