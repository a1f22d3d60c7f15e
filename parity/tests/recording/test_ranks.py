"""Shards that ranks saved are joined as a user says; what cannot be joined, and replicas that differ, never pass."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.judging.diff import compare
from parity.judging.verdict import Verdict
from parity.recording.artefacts import ReplicasError, read_artefact
from parity.recording.artefacts.ranks import parsed_shards
from parity.tests.command import Parity
from parity.tests.judging.test_checkpoints import hollow
from parity.tests.recording.safetensors_by_hand import write_safetensors
from parity.tests.recording.test_distributed import block_by_block
from parity.tests.suites import strict_json
from parity.trajectory import TrajectoryError
from parity.typing import Array

RULES = "fc1.weight: (tp out) in; fc1.bias: out[tp]; fc2.weight: out (tp in)"


def model() -> dict[str, Array]:
    generator = np.random.default_rng(0)
    shapes = {"fc1.weight": (8, 6), "fc1.bias": (8,), "fc2.weight": (6, 8), "ln.weight": (6,), "scale": ()}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def by_rank(folder: Path, tensors: dict[str, Array], ranks: int = 2) -> Path:
    """The model in shards, as ``RULES`` says."""
    folder.mkdir()
    axes = {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 1}
    for rank in range(ranks):
        shard = {
            name: np.array_split(values, ranks, axes[name])[rank] if name in axes else values
            for name, values in tensors.items()
        }
        write_safetensors(folder / f"rank{rank}.safetensors", shard)
    return folder


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shards_of_a_model_are_joined(tmp_path: Path, ranks: int) -> None:
    """Three ranks have parts of other sizes."""
    found = read_artefact(by_rank(tmp_path / "a", model(), ranks), shards=RULES)
    assert found.kind == f"shards of {ranks} ranks"
    for name, values in model().items():
        assert np.array_equal(found.tensors[name], values)


@st.composite
def split(draw: st.DrawFn) -> tuple[Array, dict[str, int], tuple[tuple[str, ...], ...]]:
    """A tensor, a mesh, and over which axes of it those of the tensor are split."""
    mesh = {name: draw(st.integers(1, 3)) for name in ("dp", "tp", "ep")[: draw(st.integers(1, 3))]}
    left = draw(st.permutations(list(mesh)))
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, len(left)))
        axes.append(tuple(left[:count]))
        left = left[count:]
    shape = [math.prod(mesh[one] for one in over) * draw(st.integers(1, 3)) for over in axes]
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape), mesh, tuple(axes)


@given(split(), st.booleans(), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_a_tensor_split_over_any_mesh_is_joined(
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[Array, dict[str, int], tuple[tuple[str, ...], ...]],
    brackets: bool,
    most: int,
) -> None:
    values, mesh, axes = made
    folder = tmp_path_factory.mktemp("ranks")
    for rank, place in enumerate(itertools.product(*map(range, mesh.values()))):
        at = dict(zip(mesh, place, strict=True))
        part = values
        for axis, over in enumerate(axes):
            for one in over:
                part = np.split(part, mesh[one], axis)[at[one]]
        write_safetensors(folder / f"mp_rank_{rank:02}.safetensors", {"w": np.ascontiguousarray(part)})
    words = [
        (f"n{k}[{' '.join(over)}]" if brackets else f"({' '.join((*over, f'n{k}'))})") if over else f"n{k}"
        for k, over in enumerate(axes)
    ]
    said = " ".join(f"{name}={size}" for name, size in mesh.items()) + f"; w: {' '.join(words)}"
    assert parsed_shards(said)[1][0].axes == axes
    entry = read_artefact(folder, shards=said).tensors.entries["w"]
    assert np.array_equal(entry.load(), values)
    assert np.array_equal(block_by_block(entry, most), values)


def test_replicas_of_holes_are_refused(tmp_path: Path) -> None:
    """They would take an hour to be held against each other, and no byte to send."""
    for rank in range(2):
        hollow(tmp_path / f"rank{rank}.safetensors", 1 << 40)
    with pytest.raises(TrajectoryError, match="lie on disk: if you trust it"):
        compare(tmp_path, tmp_path, shards="nothing=2")


@pytest.mark.parametrize(("name", "where"), [("ln.weight", "[0]"), ("scale", "[]"), ("fc1.weight", "")])
def test_replicas_that_differ_fail_and_are_named(tmp_path: Path, name: str, where: str) -> None:
    whole = model()
    folder = by_rank(tmp_path / "a", whole)
    rank1 = read_artefact(folder / "rank1.safetensors").tensors
    values = np.array(rank1[name])
    values.reshape(-1)[0] += 1
    write_safetensors(folder / "rank1.safetensors", {**{one: np.array(rank1[one]) for one in rank1}, name: values})
    write_safetensors(tmp_path / "b.safetensors", whole)
    found = compare(folder, tmp_path / "b.safetensors", shards=RULES).judgement
    assert found.verdict is Verdict.FAIL
    if name == "fc1.weight":  # which is in one rank alone
        assert found.reason.startswith("first differs at epoch 0: fc1.weight[4, 0] is")
        return
    assert f"{name}{where} is {whole[name].reshape(-1)[0]!s} in rank0.safetensors, and" in found.reason
    with pytest.raises(ReplicasError, match=r"in rank1\.safetensors"):
        read_artefact(folder, shards=RULES)


def test_replicas_over_a_data_axis_are_held_against_each_other(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32)
    for rank in range(4):
        part = rows[4 * (rank % 2) :][:4] + (rank == 3)
        write_safetensors(tmp_path / f"rank{rank}.safetensors", {"w": part})
    with pytest.raises(ReplicasError, match=r"w\[0\] is 4.0 in rank1.safetensors, and 5.0 in rank3.safetensors"):
        read_artefact(tmp_path, shards="dp=2 tp=2; w: (tp n)")
    with pytest.raises(TrajectoryError, match="how long is the mesh along 'dp'"):
        read_artefact(tmp_path, shards="w: (dp tp n)")
    assert read_artefact(tmp_path, shards="dp=2 tp=2; w: (dp tp n)").tensors["w"].tolist()[-4:] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("shards", "match"),
    [
        ("fc9.*: (tp out) in", "no tensor in .* has such a name"),
        (f"{RULES}; fc1.*: out[tp] in", "names fc1.weight, which 'fc1.weight' names too"),
        ("fc1.weight: (tp out)", "has 1 axes, and fc1.weight in rank0.safetensors the shape"),
        ("fc1.weight: out (tp in)", "is one tensor in several ranks"),
        ("fc1.weight (tp out) in", "is neither the mesh"),
        ("tp=3; fc1.weight: (tp out) in", "has 2 ranks, and the mesh tp=3 has 3"),
        ("tp=2 tp=1; fc1.weight: (tp out) in", "an axis of the mesh is there twice"),
        ("dp=2 tp=1; fc1.weight: (pp out) in", "how long is the mesh along 'pp'"),
        ("fc1.weight: (tp out) (tp in)", "split once over an axis"),
        ("fc1.weight: (tp out in", "axes are names, with those of the mesh in brackets"),
        ("fc1.weight: (2 out) in", "axes are names"),
        ("fc1.weight: out in", "is one tensor in several ranks"),
    ],
)
def test_what_cannot_be_joined_is_an_error(tmp_path: Path, shards: str, match: str) -> None:
    folder = by_rank(tmp_path / "a", model())
    with pytest.raises(TrajectoryError, match=match) as caught:
        read_artefact(folder, shards=shards)
    assert str(caught.value).isprintable()


@given(st.text(alphabet="ab.*:;()[]= 12tp", max_size=40))
def test_any_text_is_a_specification_or_an_error_of_ours(text: str) -> None:
    try:
        _, rules = parsed_shards(text)
    except TrajectoryError:
        return
    assert all(rule.pattern for rule in rules)


def test_a_rank_that_is_missing_or_there_twice_is_an_error(tmp_path: Path) -> None:
    folder = by_rank(tmp_path / "a", model(), 3)
    (folder / "rank1.safetensors").rename(folder / "rank01.safetensors")
    read_artefact(folder, shards=RULES)
    write_safetensors(folder / "rank1.safetensors", model())
    with pytest.raises(TrajectoryError, match="rank 1 has 2 files, not one"):
        read_artefact(folder, shards=RULES)
    for name in ("rank1.safetensors", "rank01.safetensors"):
        (folder / name).unlink()
    with pytest.raises(TrajectoryError, match="rank 1 has 0 files, not one"):
        read_artefact(folder, shards=RULES)


def test_a_tensor_that_a_rank_lacks_is_an_error(tmp_path: Path) -> None:
    folder = by_rank(tmp_path / "a", model())
    write_safetensors(folder / "rank1.safetensors", {"ln.weight": model()["ln.weight"]})
    with pytest.raises(TrajectoryError, match=r"is in one of rank0.safetensors and rank1.safetensors alone: not"):
        read_artefact(folder, shards=RULES)


def test_a_shard_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = by_rank(tmp_path / "a", model())
    (folder / "rank1.safetensors").rename(tmp_path / "elsewhere")
    (folder / "rank1.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrajectoryError, match="a link that leaves the folder"):
        read_artefact(folder, shards=RULES)


def test_the_commands_join_shards(parity: Parity, tmp_path: Path) -> None:
    folder = by_rank(tmp_path / "a", model())
    whole = write_safetensors(tmp_path / "b.safetensors", model())
    assert parity("diff", folder, whole, "--shards", RULES).status == 0
    assert parity("match", folder, whole, "--shards", RULES).status in (0, 3)  # 'scale' alone has one number
    four = by_rank(tmp_path / "four", model(), 4)
    assert parity("diff", folder, four, "--shards", RULES).status == 0
    assert parity("diff", four, whole, "--shards", "fc1.weight: (tp out) in", "--json", "pairs.json").status == 1
    (found,) = strict_json(Path("pairs.json").read_text(), "diff")["pairs"]
    assert "fc1.bias is one tensor in several ranks" in found["reason"]
    for said, words in (
        (
            ("diff", folder, whole),
            "holds shards of ranks, as 'rank0.safetensors': say how they are joined, with --shards",
        ),
        (("diff", whole, whole, "--shards", RULES), "neither holds shards of ranks"),
        (("diff", tmp_path, tmp_path, "--shards", RULES), "--shards belongs to two checkpoints"),
    ):
        result = parity(*said)
        assert (result.status, words in result.err) == (2, True), result.err


def test_optimizer_states_are_not_joined(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {"model/w": np.zeros(2, np.float32), "optimizer/m": np.zeros(2, np.float32)}
    for rank in range(2):
        write_safetensors(tmp_path / f"rank{rank}.safetensors", tensors)
    found = read_artefact(tmp_path, shards="w: (tp n)")
    assert list(found.tensors) == ["w"]
    assert list(found.state) == ["rank0.safetensors/optimizer/m", "rank1.safetensors/optimizer/m"]
