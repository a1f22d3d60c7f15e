"""Files that travel to a machine without the folder of results and back: whole, and nowhere else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.running.ray import carried
from parity.running.ray.carried import Piece, changed, moved, named, pieces, put, settle, staged, states

NAMES = st.sampled_from(["a", "b", "case/numpy", "case/torch", "floors/x.safetensors"])
FOLDERS = st.dictionaries(st.sampled_from(["x", "y", "z/x"]), st.binary(max_size=20), max_size=3)
TREES = st.dictionaries(NAMES, st.one_of(st.binary(max_size=20), FOLDERS), max_size=4)


def write(root: Path, tree: dict) -> None:
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        for inner, data in content.items() if isinstance(content, dict) else [("", content)]:
            (root / name / inner).parent.mkdir(parents=True, exist_ok=True)
            (root / name / inner).write_bytes(data)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@settings(deadline=None)  # a disk may be busy
@given(old=TREES, new=TREES, size=st.integers(1, 30))
def test_what_is_carried_arrives_as_it_was_and_leaves_what_it_does_not_name(old: dict, new: dict, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(carried, "PIECE", size)
        there, here = Path(folder, "there"), Path(folder, "here")
        for root, tree in ((here, old), (there, new)):
            root.mkdir()
            write(root, tree)
        before = files(here)
        brought = {name for name, content in new.items() if content != {}}
        kept = {path: data for path, data in before.items() if not any(Path(path).is_relative_to(n) for n in brought)}
        with staged(here) as stage:
            for piece in pieces(there, new):
                put(stage, piece)
            assert {path: data for path, data in files(here).items() if not path.startswith(".")} == before
            settle(stage, here, new)
        assert files(here) == kept | files(there)


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x"])
def test_no_file_is_put_elsewhere(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ValueError, match="is no path below a folder"):
        put(root, Piece(path, b"", True))
    assert list(tmp_path.rglob("*")) == [root]


def test_no_link_is_followed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "run").mkdir(parents=True)
    (tmp_path / "secret").write_text("mine")
    (there / "run" / "link").symlink_to(tmp_path / "secret")
    (there / "folder").symlink_to(tmp_path)
    assert list(pieces(there, ["run", "folder", "absent"])) == []


def test_what_has_changed_is_known_also_beside_what_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"floors/x": b"1", "floors/y": b"1", "case/run": {"x": b"1"}, "case/other": {"x": b"1"}})
    names = ["floors/x", "case/run"]
    before = states(tmp_path, names)
    assert changed(before, states(tmp_path, names)) == []
    write(tmp_path, {"floors/new": b"2", "floors/.hidden": b"2", "case/run": {"y": b"2"}, "elsewhere": b"2"})
    write(tmp_path, {"case/third": {"x": b"1"}})
    assert changed(before, states(tmp_path, names)) == ["floors/new", "case/run"]


def test_a_task_names_its_paths_and_they_are_moved_whatever_else_looks_like_them() -> None:
    task = {"folder": "/out/case/run", "inner": [{"path": "/out/floors/x"}, "/output/y"], "n": 1, "said": "see /out/z"}
    text = json.dumps(task)
    assert named(text, "/out") == ("case/run", "floors/x")
    assert json.loads(moved(text, "/out", "/scratch")) == task | {
        "folder": "/scratch/case/run",
        "inner": [{"path": "/scratch/floors/x"}, "/output/y"],
    }
