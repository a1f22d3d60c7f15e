"""The porting mistakes that any model may make, a file for each family."""

from __future__ import annotations

import importlib

from parity.mistakes.catalogue import adam, batches, data, layers, losses, precision, recipe, updates
from parity.mistakes.mistake import Mistake
from parity.suite import Entry

CATALOGUE: tuple[Mistake, ...] = tuple(
    mistake
    for family in (batches, data, layers, precision, losses, adam, updates, recipe)
    for mistake in family.MISTAKES
)


def mistakes_for(entry: Entry) -> tuple[Mistake, ...]:
    """List the mistakes of the catalogue and, if the model's folder has a ``mistakes.py``, those of the model.

    Args:
        entry: A case of a suite.

    Returns:
        The mistakes, each once.

    Raises:
        ValueError: Two mistakes have the same name.
    """
    own: tuple[Mistake, ...] = ()
    if entry.implementations and entry.spec.with_name("mistakes.py").exists():
        package = next(iter(entry.implementations.values())).module.rpartition(".")[0]
        own = importlib.import_module(f"{package}.mistakes").MISTAKES
    found = (*CATALOGUE, *own)
    names = [mistake.name for mistake in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two mistakes of {entry.case.name} are called {twice!r}")
    return found
