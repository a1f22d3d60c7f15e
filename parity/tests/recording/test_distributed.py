"""Checkpoints in chunks are put together as they were, and none that lacks a number, or has one twice, passes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.dtypes import rounded, unpacked
from parity.judging.checkpoints import held, opened_checkpoints
from parity.judging.verdict import Verdict
from parity.recording.artefacts import read_artefact
from parity.recording.artefacts.artefact import Entry
from parity.recording.placed import blocks_of
from parity.tests.recording.distributed_by_hand import Global, Object, boxes, info, meta, size, write_distributed
from parity.tests.recording.foreign_files import Said, of_torch_distributed
from parity.trajectory import TrajectoryError
from parity.typing import Array


def distributed_files(folder: str) -> tuple[str, Said]:
    return folder, of_torch_distributed(folder)


def block_by_block(entry: Entry, most: int) -> Array:
    """A tensor as it is read in small blocks."""
    placed = entry.placed()
    flat = np.zeros(int(np.prod(placed.shape)), placed.dtype)
    for block in blocks_of(placed.shape, most):
        out = np.empty(block.size, placed.dtype)
        placed.read(block, out)
        flat[block.start : block.start + block.size] = out
    return (unpacked(flat) if placed.narrow else flat).reshape(placed.shape)


@pytest.mark.asks(question=distributed_files, framework="torch")
def test_what_two_processes_of_torch_save_is_read_without_it(answer: tuple[str, Said]) -> None:
    folder, said = Path(answer[0]), answer[1]
    for path in (folder / "checkpoint", folder / "checkpoint" / ".metadata"):
        found = read_artefact(path)
        assert found.kind == "PyTorch distributed checkpoint"
        assert set(found.tensors) == set(said)
        for name, values in found.tensors.items():
            assert values.tolist() == said[name], name
            assert block_by_block(found.tensors.entries[name], 3).tolist() == said[name], name
        assert list(found.state) == ["optim/step"]


SHAPES = st.lists(st.integers(1, 6), max_size=3).map(tuple)


@st.composite
def cut_tensors(draw: st.DrawFn) -> dict[str, tuple[Array, list[Any]]]:
    found = {}
    for number in range(draw(st.integers(1, 3))):
        shape = draw(SHAPES)
        values = np.arange(np.prod(shape), dtype=draw(st.sampled_from(["float32", "float64"]))).reshape(shape)
        cuts = [sorted(draw(st.sets(st.integers(1, axis - 1), max_size=3)) if axis > 1 else ()) for axis in shape]
        found[f"t{number}"] = (values, draw(st.permutations(boxes(shape, cuts))))
    return found


@given(cut_tensors(), st.booleans(), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_chunks_are_joined_wherever_a_tensor_was_cut(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], narrow: bool, most: int
) -> None:
    folder = write_distributed(tmp_path_factory.mktemp("cut"), tensors, narrow=narrow)
    found = read_artefact(folder).tensors
    assert set(found) == set(tensors)
    for name, (values, _) in tensors.items():
        assert np.array_equal(found[name], values)
        assert np.array_equal(block_by_block(found.entries[name], most), values)


@given(cut_tensors(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_chunk_that_is_missing_moved_or_there_twice_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], data: st.DataObject
) -> None:
    def change(said: dict[str, Any]) -> None:
        about = said["state_dict_metadata"][data.draw(st.sampled_from(sorted(tensors)))].state
        chunks = about["chunks"]
        number = data.draw(st.integers(0, len(chunks) - 1))
        what = data.draw(st.sampled_from(["missing", "twice", "moved", "larger"]))
        if what == "missing":
            del chunks[number]
        elif what == "twice":
            chunks.append(chunks[number])
        elif what == "moved" and about["size"].arguments[0]:
            state = dict(chunks[number].state)
            axes = list(state["offsets"].arguments[0])
            axes[data.draw(st.integers(0, len(axes) - 1))] += data.draw(st.sampled_from([-1, 1, 2**40]))
            chunks[number] = meta("ChunkStorageMetadata", {**state, "offsets": size(axes)})
        else:
            about["size"] = size([*about["size"].arguments[0], 2])

    folder = write_distributed(tmp_path_factory.mktemp("wrong"), tensors, change=change)
    with pytest.raises(TrajectoryError, match="save the checkpoint again"):
        read_artefact(folder)


def half(folder: Path, change: Callable[[dict[str, Any]], None] = lambda said: None) -> Path:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    return write_distributed(folder, {"w": (values, boxes((4, 3), [[2], []]))}, change=change)


def places(said: dict[str, Any]) -> list[tuple[Object, Object]]:
    return list(said["storage_data"].items())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda said: places(said)[1][1].state.update(relative_path="../a"), "no plain file beside it"),
        (lambda said: places(said)[1][1].state.update(relative_path="__7_0.distcp"), "is not there: copy the folder"),
        (lambda said: places(said)[1][1].state.update(length=2**50), "ends before byte"),
        (lambda said: places(said)[1][1].state.update(length=10), "no sound zip archive"),
        (lambda said: places(said)[1][1].state.update(offset=-1), "at an impossible place"),
        (lambda said: places(said)[2][0].state.update(offset=size((0, 0))), "at \\(0, 0\\) twice"),
        (lambda said: places(said)[2][1].state.update(relative_path="__0_0.distcp"), "chunks that overlap in"),
        (lambda said: places(said)[1][1].state.update(transform_descriptors=["zstd"]), "or is packed"),
        (
            lambda said: said["storage_data"].pop(places(said)[2][0]),
            "says nowhere where the chunk of 'w' at \\(2, 0\\)",
        ),
        (
            lambda said: said["storage_data"].update({meta("MetadataIndex", {"fqn": "v"}): info("x", 0, 0)}),
            "a chunk of 'v' at None that belongs to no tensor",
        ),
        (lambda said: said.update(storage_data=[]), "does not say where its chunks lie"),
        (lambda said: said.update(state_dict_metadata={"w": 3}), "lacks a TensorStorageMetadata"),
        (lambda said: said.update(version=Object(Global("os", "system"), arguments=("ls",))), "names 'os.system'"),
        (lambda said: said.update(version=Object(Global("os", "system"))), "names 'os.system'"),
    ],
    ids=itertools.count(),
)
def test_metadata_that_lie_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str) -> None:
    assert read_artefact(half(tmp_path / "sound")).tensors["w"].shape == (4, 3)
    with pytest.raises(TrajectoryError, match=match) as caught:
        read_artefact(half(tmp_path / "wrong", change))
    assert str(caught.value).isprintable()


def test_chunks_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    folder = half(tmp_path / "a")
    (folder / "__1_0.distcp").rename(tmp_path / "elsewhere")
    (folder / "__1_0.distcp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrajectoryError, match="a link that leaves the folder"):
        read_artefact(folder)


def test_one_checkpoint_in_other_chunks_and_other_formats_is_equal(tmp_path: Path) -> None:
    """Chunks of rows against chunks of columns, against one file."""
    values = rounded(np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32), "bfloat16")
    rows = write_distributed(tmp_path / "rows", {"w": (values, boxes((64, 48), [[10, 33], []]))})
    columns = write_distributed(tmp_path / "columns", {"w": (values, boxes((64, 48), [[5], [1, 40]]))}, files=3)
    np.savez(tmp_path / "w.npz", w=values)
    for other in (columns, tmp_path / "w.npz"):
        both = opened_checkpoints(rows, other)
        assert both is not None
        found = held(both)
        assert found is not None
        assert found.judgement.verdict is Verdict.PASS


def test_importing_and_reading_runs_no_torch(tmp_path: Path) -> None:
    half(tmp_path / "a")
    code = (
        "import sys\nfrom parity.recording.artefacts import read_artefact\n"
        "read_artefact(sys.argv[1]).tensors['w']\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True, env=os.environ)
