"""See the calls of flax's nnx modules, whatever transformation they are made within."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
from flax import nnx

from parity.watching.flow import as_plain, base_of
from parity.watching.jax.layers import name_of, through

if TYPE_CHECKING:
    from parity.watching.jax.layers import Layers

PATH = "parity_path"
"""The attribute that tells a copied module its path within the watched model. Transformations keep it."""


def mark(model: nnx.Module) -> None:
    """Tell each module of a copied model its path: what nnx transforms sees other objects than the model's own."""
    for path, module in nnx.iter_modules(model):
        setattr(module, PATH, "/".join(map(str, path)))


@contextmanager
def calls_seen(seen: Layers) -> Iterator[None]:
    """Let ``seen`` know of each call of a module.

    A module has no hooks, and each class its own ``__call__``. All that exist now are wrapped, and freed at the end.
    """
    watcher = _Calls(seen)
    classes: list[Any] = [cls for cls in _below(nnx.Module) if "__call__" in vars(cls)]
    originals = [vars(cls)["__call__"] for cls in classes]
    try:
        for cls, original in zip(classes, originals, strict=True):
            cls.__call__ = watcher.wrapped(cls, original)
        yield
    finally:
        for cls, original in zip(classes, originals, strict=True):
            cls.__call__ = original


class _Calls:
    """The calls that have begun and not ended."""

    def __init__(self, seen: Layers) -> None:
        self._seen = seen
        self._open: list[Any] = []
        self._paths: dict[int, str] = {}
        """The paths of modules below the outermost one that is called, if no mark tells them."""

    def wrapped(self, cls: type, original: Any) -> Callable[..., Any]:
        @functools.wraps(original)
        def called(module: Any, *arguments: Any, **named: Any) -> Any:
            following = original.__get__(module, cls) if hasattr(original, "__get__") else original
            # A class may call the one that it is derived from.
            if any(module is each for each in self._open):
                return following(*arguments, **named)
            self._open.append(module)
            try:
                return self._called(module, following, arguments, named)
            finally:
                self._open.pop()

        return called

    def _called(self, module: Any, following: Callable[..., Any], arguments: Any, named: Any) -> Any:
        outermost, below = len(self._open) == 1, list(nnx.iter_modules(module))
        if outermost:
            self._paths = {id(each): "/".join(map(str, path)) for path, each in below}
            leaves = jax.tree.leaves((arguments, named))
            arrays = [leaf for leaf in leaves if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
            self._seen.inputs += [leaf for leaf in arrays if self._seen.flow.known(leaf) is None]
        path = getattr(module, PATH, self._paths.get(id(module)))
        call = self._seen.flow.call(path or type(module).__name__, leaf=len(below) == 1)
        output = through(call, following, arguments, named)
        if outermost:
            self._seen.predicted(call)
        call.end(type(module).__name__, configuration(module) | base_of(type(module)))
        return output


def configuration(module: Any) -> dict[str, Any]:
    """Say how a module is set: every public attribute that is a plain value, or a function's name."""
    found = {name: as_plain(value, name_of) for name, value in vars(module).items()}
    return {k: value for k, value in found.items() if value is not None and not k.startswith("_") and k != PATH}


def _below(cls: type) -> list[type]:
    found: dict[type, None] = {}
    derived: list[type] = cls.__subclasses__()
    for each in derived:
        found |= dict.fromkeys((each, *_below(each)))
    return list(found)
