"""Outputs held against their JSON schemas, which lie in ``parity/report/schemas``."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, in which no name stands twice: the second would hide the first."""
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"said twice: {sorted({name for name in names if names.count(name) > 1})}"
    return dict(pairs)


SCHEMAS = {
    file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_said_once)
    for file in sorted((files("parity.report") / "schemas").iterdir(), key=lambda file: file.name)
}


@cache
def validator(name: str) -> Any:
    """What holds a document against the schema of that name; they refer to each other by file name."""
    # Imported where it is used: a machine that has a GPU may lack it.
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    registry = Registry().with_resources([(f"{name}.json", Resource.from_contents(s)) for name, s in SCHEMAS.items()])
    return Draft202012Validator(SCHEMAS[name], registry=registry)


def held(name: str, document: Any) -> Any:
    """The document, which is as its schema says."""
    complaints = [f"{error.json_path}: {error.message:.300}" for error in validator(name).iter_errors(document)]
    assert not complaints, f"not as {name}.json has it: {'; '.join(complaints)}"
    return document
