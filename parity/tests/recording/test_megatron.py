"""What Megatron-LM saves, a folder a rank with all of its training, is joined, and none of its objects is made."""

from __future__ import annotations

import argparse
import enum
import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.verdict import Verdict
from parity.recording.artefacts import ReplicasError, ranks_in, read_artefact
from parity.tests.command import Parity
from parity.tests.recording.safetensors_by_hand import write_safetensors
from parity.trajectory import TrajectoryError

torch = pytest.importorskip("torch")

RULES = "*fc1.weight: (tp out) in; *fc2.weight: out (tp in); embedding*: (tp words) features"


class Kind(enum.Enum):
    ENCODER = 1


class Made:
    """An object whose making would be seen."""

    made = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return make, ("x",)


def make(word: str) -> str:
    Made.made += 1
    return word


def model() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    shapes = {
        "embedding.word_embeddings.weight": (10, 4),
        "decoder.layers.0.mlp.fc1.weight": (8, 4),
        "decoder.layers.0.mlp.fc2.weight": (4, 8),
        "decoder.final_layernorm.weight": (4,),
    }
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def saved(folder: Path, ranks: int = 2, suffix: str = "", **changed: Any) -> Path:
    """A folder as Megatron-LM writes it, with what its training holds beside the model."""
    axes = {"embedding.word_embeddings.weight": 0, "decoder.layers.0.mlp.fc1.weight": 0}
    axes["decoder.layers.0.mlp.fc2.weight"] = 1
    for rank in range(ranks):
        weights = {
            name: torch.from_numpy(np.split(values, ranks, axes[name])[rank].copy() if name in axes else values)
            for name, values in model().items()
        }
        weights["decoder.layers.0.mlp.fc1._extra_state"] = io.BytesIO(b"scales")
        moments = {number: {"exp_avg": torch.ones(3), "step": 1} for number in range(2)}
        states = {"random_rng_state": random.getstate(), "np_rng_state": np.random.get_state()}
        whole = {
            "args": argparse.Namespace(rank=rank, kind=Kind.ENCODER, dtype=torch.float32, sizes={1, 2}, made=Made()),
            "checkpoint_version": 3.0,
            "iteration": 100,
            "model": weights,
            "optimizer": {"state": moments, "by_dtype": {torch.bfloat16: [Made()]}, "kinds": frozenset({1})},
            "rng_state": [states | {"torch_rng_state": torch.get_rng_state()}],
        } | changed
        (folder / f"mp_rank_{rank:02d}{suffix}").mkdir(parents=True)
        torch.save(whole, folder / f"mp_rank_{rank:02d}{suffix}" / "model_optim_rng.pt")
    return folder


@pytest.mark.parametrize("suffix", ["", "_000", "_000_000"])
def test_the_ranks_of_tensor_parallelism_are_joined(tmp_path: Path, suffix: str) -> None:
    Made.made = 0
    folder = saved(tmp_path / "iter_0000100", suffix=suffix)
    (folder / f"mp_rank_00{suffix}" / "distrib_optim.pt").write_bytes(b"not looked at")
    assert ranks_in(folder) == {rank: [f"mp_rank_{rank:02d}{suffix}/model_optim_rng.pt"] for rank in range(2)}
    found = read_artefact(folder, shards=RULES)
    assert set(found.tensors) == set(model())
    for name, values in model().items():
        assert np.array_equal(found.tensors[name], values)
    assert found.notes == ()
    assert {name.split("/")[2] for name in found.state} == {"optimizer", "rng_state"}
    assert len({name for name in found.state if name.endswith("/0/exp_avg")}) == 2
    assert Made.made == 0


def test_it_is_compared_with_a_whole_checkpoint(parity: Parity, tmp_path: Path) -> None:
    saved(tmp_path / "ranks")
    write_safetensors(tmp_path / "whole.safetensors", model())
    result = parity("diff", "ranks", "whole.safetensors", "--shards", RULES)
    assert result.status == 0, result.out + result.err
    assert "the model's tensors are compared, and not the optimizer's state" in result.out
    other = model() | {"decoder.final_layernorm.weight": np.full(4, 2, np.float32)}
    write_safetensors(tmp_path / "other.safetensors", other)
    judgement = compare("ranks", "other.safetensors", shards=RULES).judgement
    assert judgement.verdict is Verdict.FAIL
    assert judgement.parameter == "decoder.final_layernorm.weight"
    assert parity("diff", "ranks", "whole.safetensors").status == 2


def test_replicas_that_differ_name_the_files_of_their_ranks(tmp_path: Path) -> None:
    folder = saved(tmp_path / "ranks")
    with pytest.raises(
        ReplicasError, match=r"mp_rank_00/model_optim_rng\.pt, and .* in mp_rank_01/model_optim_rng\.pt"
    ):
        read_artefact(folder, shards="*fc1.weight: (tp out) in; *fc2.weight: out (tp in)")


@pytest.mark.parametrize("suffix", ["_001", "_000_001"])
def test_stages_and_experts_that_name_alike_what_they_hold_are_refused(tmp_path: Path, suffix: str) -> None:
    folder = saved(tmp_path / "ranks", suffix="_000")
    saved(folder, ranks=2, suffix=suffix)
    with pytest.raises(TrajectoryError, match="of a later stage of a pipeline, or of some of the experts"):
        read_artefact(folder, shards=RULES)


def test_a_rank_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "ranks", ranks=2)
    (folder / "mp_rank_00" / "model_optim_rng.pt").unlink()
    with pytest.raises(TrajectoryError, match="rank 0 has 0 files, not one"):
        read_artefact(folder, shards=RULES)


def test_an_object_among_the_weights_is_refused(tmp_path: Path) -> None:
    """A tensor in it would not be seen."""
    weights = {"weight": torch.ones(2), "inner": argparse.Namespace(weight=torch.ones(2))}
    folder = saved(tmp_path / "ranks", model=weights)
    with pytest.raises(TrajectoryError, match=r"'model/inner' is a argparse\.Namespace, which is not looked into"):
        read_artefact(folder, shards="weight: (tp out)")
    # Where nothing tells the model from the rest, all is the model's.
    for rank in range(2):
        torch.save(weights, folder / f"mp_rank_{rank:02d}" / "model_optim_rng.pt")
    with pytest.raises(TrajectoryError, match=r"'inner' is a argparse\.Namespace, which is not looked into"):
        read_artefact(folder, shards="weight: (tp out)")


def test_a_file_outside_such_a_folder_may_hold_weights_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "ranks")
    (folder / "mp_rank_00" / "model_optim_rng.pt").rename(tmp_path / "rank0.pt")
    with pytest.raises(TrajectoryError, match=r"argparse\.Namespace.*is more than weights take, and is not run"):
        read_artefact(tmp_path / "rank0.pt")


@pytest.mark.parametrize(
    "data",
    [b".", b"0.", b"R.", b"\x81.", b"\x92.", b"\x90.", b"\x91.", b"(\x90.", b"]}\x81.", b"N}R.", b"\x8f(K\x01\x90b."],
)
def test_no_pickle_that_is_damaged_ends_in_another_error(tmp_path: Path, data: bytes) -> None:
    folder = saved(tmp_path / "ranks", ranks=1)
    with zipfile.ZipFile(folder / "mp_rank_00" / "model_optim_rng.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + data)
    with pytest.raises(TrajectoryError):
        read_artefact(folder, shards=RULES)
    with pytest.raises(Exception, match=r"."):
        pickle.loads(b"\x80\x02" + data)
