"""Say what an optax optimizer is: the transformations that it chains, with their numbers, and its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.watching.flow import as_plain, as_written

RATES = ("scale", "scale_by_schedule")
"""What optax makes of a learning rate: a factor below zero, or a schedule of such."""
CLIPS = ("clip", "adaptive_grad_clip")
"""How the names begin of what changes gradients before the optimizer proper gets them."""
NOTHING = ("identity", "stateless")


@dataclass(frozen=True)
class Part:
    """One transformation of a chain."""

    name: str
    held: Mapping[str, Any]
    """What its update function keeps, by the names of its arguments."""
    update: Callable[..., Any]
    place: tuple[int, ...]
    """Where its state lies in the chain's."""

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
    return list(_parts(tuple.__getitem__(transformation, 1), ()))


def _parts(update: Any, place: tuple[int, ...]) -> Iterator[Part]:
    code = getattr(update, "__code__", None)
    cells = getattr(update, "__closure__", None) or ()
    held = {} if code is None else dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    name = getattr(update, "__qualname__", type(update).__name__).split(".<locals>")[0]
    if name == "with_extra_args_support":
        yield from _parts(tuple.__getitem__(held["tx"], 1), place)
    elif name == "chain":
        for k, inner in enumerate(held["update_fns"]):
            yield from _parts(inner, (*place, k))
    elif name == "masked":  # it is for some of the parameters
        for part in _parts(tuple.__getitem__(held["inner"], 1), place):
            yield replace(part, name=f"masked_{part.name}")
    elif name not in NOTHING:
        yield Part(name, held, update, place)


def clips(transformation: Any) -> bool:
    """Say whether a transformation clips gradients and does nothing else, as some do before they call the optimizer."""
    return all(part.name.startswith(CLIPS) for part in parts_of(transformation))


def clipped(parts: list[Part], gradients: Any, state: Any, params: Any) -> Any:
    """Give the gradients as the optimizer proper gets them: changed by what clips, at the head of the chain."""
    for part in parts:
        if not part.name.startswith(CLIPS):
            break
        own = state
        for k in part.place:
            own = own[k]
        gradients, _ = part.update(gradients, own, params)
    return gradients


def learning_rate(parts: list[Part], state: Callable[[], Any]) -> float | None:
    """Say the learning rate of the update that comes; None if the chain does not tell one.

    Args:
        parts: The chain's.
        state: Gives trees, the chain's state among them. A schedule is asked with the count that is there, and where
            the state has hyper-parameters in it, they tell.
    """
    names, found = [part.name for part in parts], [part for part in parts if part.name in RATES]
    if names == ["inject_hyperparams"]:
        rates = _last(state(), "learning_rate")
        return float(_number(rates[0])) if len(rates) == 1 else None
    if len(found) != 1:
        return None
    if found[0].name == "scale":
        return _rate(found[0].held["step_size"])
    counts = set(map(int, _last(state(), "count")))
    return _rate(found[0].held["step_size_fn"](np.int32(counts.pop()))) if len(counts) == 1 else None


def _last(tree: Any, name: str) -> list[Any]:
    """The single numbers in a tree whose own key is a name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(getattr(path[-1], "name", getattr(path[-1], "key", "")), leaf) for path, leaf in leaves if path]
    return [leaf for key, leaf in named if key == name and not np.ndim(leaf)]


def described(parts: list[Part]) -> dict[str, Any]:
    """Say what the recording is to keep of an optimizer: see ``Adapter.describe``."""
    group: dict[str, Any] = {}
    for part in parts:
        group |= {} if part.name in RATES else part.settings
    if [part.name for part in parts if part.name in RATES] == ["scale"]:
        group["learning_rate"] = learning_rate(parts, tuple)
    said: dict[str, Any] = {"optimizer": {"class": f"optax.{' '.join(part.name for part in parts)}", "groups": [group]}}
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
    own = [part for part in parts if not part.name.startswith(CLIPS)]
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
