"""The JSON schemas: what they are, that they describe all that is written, and that they refuse what is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from benchmarks import test_comparison, test_matching, test_startup
from parity.judging.diff import compare_folders
from parity.recorder import Recorder
from parity.recording.format import FLOATS, MANIFEST, OPTIONAL, SCHEMA, SHARD_OPTIONAL, VERSION
from parity.recording.writer import write
from parity.report.data import measured, shown, written
from parity.running.cells import Cell
from parity.spec import Sgd
from parity.suite import load_suite
from parity.tests.schemas import SCHEMAS, held, validator
from parity.tests.suites import strict_json

OUTPUTS = (
    *("bench", "diff", "explain", "field", "floor", "list", "match", "prove"),
    *("run", "sample", "semantics", "show", "sweep", "trajectory"),
)
OPEN = {"bench", "trajectory"}
"""The documents that others add to: pytest-benchmark, and whoever writes a recording."""


def objects(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a schema that is an object, and where it stands."""
    if isinstance(schema, dict):
        yield where, schema
        for name, part in schema.items():
            yield from objects(part, f"{where}/{name}")
    elif isinstance(schema, list):
        for place, part in enumerate(schema):
            yield from objects(part, f"{where}/{place}")


def test_every_output_has_its_schema() -> None:
    assert tuple(SCHEMAS) == OUTPUTS


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_is_one_and_says_what_it_describes(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{name}.json"
    for where, part in objects(schema):
        if "/if" in where or "/then" in where:
            continue
        for key, about in part.get("properties", {}).items():
            said = about["description"]
            assert said[0].isupper() or said[0] == "?" or said.split()[0].endswith(":"), f"{name}{where}/{key}"
            assert said.endswith("."), f"{name}{where}/{key}: {said}"
        if "properties" in part:
            closed = part.get("additionalProperties") is False
            assert closed or name in OPEN, f"{name}{where} lets anything in"
            assert set(part["required"]) <= set(part["properties"])
        if part.get("$ref", "").startswith("#"):
            assert part["$ref"].rpartition("/")[2] in schema["$defs"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_refuses_what_is_not_written(name: str) -> None:
    assert list(validator(name).iter_errors({})), "an empty document is none"
    with pytest.raises(AssertionError, match=f"not as {name}.json has it"):
        held(name, {})


def test_a_property_more_is_refused(tmp_path: Path) -> None:
    for label in "ab":
        write(tmp_path / label, np.arange(2), np.ones((1, 1)), {"dense/kernel": np.ones((2, 1))}, meta={})
    (found,) = (pair.as_json() for pair in compare_folders(tmp_path / "a", tmp_path / "b"))
    document = {"pairs": [found], "unpaired": []}
    held("diff", document)
    for wrong in ({"surprise": 1}, {"verdict": "MAYBE"}, {"ratio": "0.1"}):
        with pytest.raises(ValidationError):
            validator("diff").validate({"pairs": [found | wrong], "unpaired": []})


# What a recorded run says of itself


KINDS = {str: "string", int: "integer", float: "number", dict: "object", list: "array", type(None): "null"}


def test_the_schema_of_a_recording_agrees_with_what_readers_check() -> None:
    properties = SCHEMAS["trajectory"]["properties"]
    assert properties["schema"]["const"] == SCHEMA
    assert properties["version"]["const"] == VERSION
    assert set(properties["dtype"]["enum"]) == set(FLOATS)
    for name, kinds in OPTIONAL.items():
        said = properties[name]["type"]
        allowed = {KINDS[kind] for kind in kinds}
        # To a schema an integer is a number.
        wanted = allowed - ({"integer"} if "number" in allowed else set())
        assert ({said} if isinstance(said, str) else set(said)) == wanted, name
    shard = properties["shards"]["items"]
    assert set(shard["properties"]) - set(shard["required"]) == set(SHARD_OPTIONAL)


def test_what_a_recorder_writes_is_as_the_schema_says(tmp_path: Path) -> None:
    now = {"dense/kernel": np.zeros((2, 1), np.float32)}
    said: dict[str, Any] = {"implementation": "numpy", "case": "mine", "optimizer": Sgd(0.1)}
    with Recorder(tmp_path / "run", "float32", **said) as run:
        run.snapshot(now)
        run.step(1.0, rows=[0, 1])
        run.snapshot(now)
    meta = strict_json((tmp_path / "run" / MANIFEST).read_text(), "trajectory")
    assert set(meta) <= set(SCHEMAS["trajectory"]["properties"])
    write(tmp_path / "bare", np.arange(1), np.ones((0, 1)), {"dense/kernel": np.ones((1, 1))})
    strict_json((tmp_path / "bare" / MANIFEST).read_text(), "trajectory")


# What only a failure makes


def test_what_could_not_be_written_or_measured_is_as_the_schema_says() -> None:
    cell = Cell(load_suite("impls").entry("char-gru"), "torch", "float64", "cpu")
    wish = {"prime": "Th", "length": 2, "temperature": 0.8, "seed": 0}
    document = held("sample", written("char-gru", 30, wish, "", {cell: ValueError("no such file")}))
    assert document["texts"][0]["reason"] == "no such file"
    texts = held("sample", written("char-gru", 30, wish, "torch", {cell: "The "}))
    held("show", shown("char-gru", cell.entry.case, (), texts))
    floors = {Path("floors/toy.safetensors"): None, Path("floors/other.safetensors"): OSError("disk full")}
    document = held("floor", measured(floors))
    assert [floor["measured"] for floor in document["floors"]] == [True, False]


# What the benchmarks note


class Noted:
    """A benchmark fixture that keeps what it is told and takes no time."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, work: Any, *arguments: Any, **options: Any) -> None:
        pass


def noted(group: str, extra_info: dict[str, Any]) -> None:
    """Hold what a benchmark of a group notes against that group's schema."""
    benchmark = {"group": group, "name": "test", "params": None, "stats": {"data": [1.0]}, "extra_info": extra_info}
    part = validator("bench").evolve(schema={"$ref": "bench.json#/$defs/benchmark"})
    part.validate(json.loads(json.dumps(benchmark)))
    with pytest.raises(ValidationError):
        part.validate(benchmark | {"extra_info": extra_info | {"surprise": 1}})


@pytest.mark.parametrize("peer", test_comparison.PEERS)
def test_what_comparing_notes_is_as_the_schema_says(peer: str) -> None:
    one = Noted()
    test_comparison.timed(one, test_comparison.PEERS[peer], np.ones((10, 3)), np.ones((10, 3)))
    for group in ("comparison", "equal bytes", "scaling", "shapes"):
        noted(group, one.extra_info)


@pytest.mark.parametrize("command", ["parity list", "import numpy"])
def test_what_start_up_notes_is_as_the_schema_says(command: str) -> None:
    one = Noted()
    test_startup.test_startup(one, command, {"parity list": [0.1, 0.2], "import numpy": [0.1, 0.1]})
    noted("start-up", one.extra_info)


def test_what_matching_and_explaining_note_is_as_the_schema_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LAYERS": 6, "WIDTH": 8, "WRONG": 3}.items():
        monkeypatch.setattr(test_matching, name, value)
    one, other = Noted(), Noted()
    test_matching.test_matching(one, tmp_path, 10**4, quick=True)
    test_matching.test_explaining(other, tmp_path)
    assert one.extra_info["proven"] == one.extra_info["tensors"]
    assert "layer3 (Dense)" in other.extra_info["said"]
    noted("matching", one.extra_info)
    noted("explaining", other.extra_info)


def test_every_group_of_benchmarks_is_in_the_schema() -> None:
    sources = Path(test_startup.__file__).parent.glob("test_*.py")
    groups = {group for path in sources for group in re.findall(r'group="([^"]+)"', path.read_text(encoding="utf-8"))}
    assert groups == set(SCHEMAS["bench"]["$defs"]["benchmark"]["properties"]["group"]["enum"])


# The reference's examples

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "json.md"
PARTS = re.findall(r"^## (.*?)$\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_reference_names_every_schema() -> None:
    assert sorted(name for _, text in PARTS for name in re.findall(r"Schema: `(\w+)\.json`", text)) == sorted(OUTPUTS)


@pytest.mark.parametrize("text", [text for _, text in PARTS], ids=[title for title, _ in PARTS])
def test_the_example_of_the_reference_is_as_its_schema_says(text: str) -> None:
    (name,) = re.findall(r"Schema: `(\w+)\.json`", text)
    (example,) = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    strict_json(example, name)
