"""``parity sketch``: what it writes is compared by ``parity diff`` as a checkpoint is, without the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from parity.tests.command import Parity, complaint
from parity.tests.suites import strict_json


@pytest.fixture
def model(tmp_path: Path) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    found = {f"h.{n}.weight": draw.normal(size=(8, 6)).astype(np.float32) for n in range(3)}
    save_file(found, tmp_path / "model.safetensors")
    return found


def test_two_machines_compare_by_sketches_alone(parity: Parity, model: dict[str, np.ndarray]) -> None:
    made = parity("sketch", "model.safetensors", "--out", "a.sketch")
    assert (made.status, made.err) == (0, "")
    assert made.out.startswith("a.sketch: 3 tensors in ")
    np.savez("b.npz", **model)
    parity("sketch", "b.npz", "--out", "b.sketch")
    for other in ("b.sketch", "b.npz"):
        found = parity("diff", "a.sketch", other)
        assert (found.status, found.out.splitlines()[0]) == (0, "PASS"), found.out
        assert "3 of 3 tensors have equal SHA-256" in found.out


@pytest.mark.parametrize(
    ("times", "status", "verdict", "said"),
    [
        (1.01, 1, "FAIL", "1 of 3 tensors differ by more than is allowed: h.1.weight"),
        (1.000001, 3, "INCONCLUSIVE", "send the tensors themselves"),
    ],
)
def test_what_differs_is_named(
    parity: Parity, model: dict[str, np.ndarray], times: float, status: int, verdict: str, said: str
) -> None:
    parity("sketch", "model.safetensors", "--out", "a.sketch")
    save_file(model | {"h.1.weight": model["h.1.weight"] * np.float32(times)}, "b.safetensors")
    found = parity("diff", "a.sketch", "b.safetensors", "--json", "found.json")
    assert (found.status, found.out.splitlines()[0]) == (status, verdict)
    assert said in found.out
    assert "note: h.1.weight: root mean square difference about" in found.out
    (pair,) = strict_json(Path("found.json").read_text(), "diff")["pairs"]
    assert (pair["verdict"], pair["parameter"], pair["ratio"] > 1) == (verdict, "h.1.weight", status == 1)


def test_shards_are_joined_before_they_are_sketched(parity: Parity, model: dict[str, np.ndarray]) -> None:
    Path("ranks").mkdir()
    for rank in range(2):
        save_file({name: one[4 * rank :][:4].copy() for name, one in model.items()}, f"ranks/rank{rank}.safetensors")
    said = ("--shards", "h.*.weight: (tp out) in")
    assert parity("sketch", "ranks", *said, "--out", "a.sketch").status == 0
    assert parity("diff", "a.sketch", "model.safetensors").status == 0
    parity("sketch", "model.safetensors", "--out", "b.sketch")
    assert parity("diff", "ranks", "b.sketch", *said).status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sketch", "nowhere", "--out", "a.sketch"], "nowhere"),
        (["sketch", "model.safetensors"], "--out"),
        (["sketch", "model.safetensors", "--out", "folder"], "is a folder, name a file"),
        (["sketch", "model.safetensors", "--out", "no/where"], "no is no folder"),
        (["sketch", "model.safetensors", "--out", "b", "--shards", "k: (tp a) b"], "belongs to a folder of shards"),
        (["sketch", "ready.sketch", "--out", "b"], "is a sketch of a checkpoint"),
        (["sketch", "log.csv", "--out", "b"], "holds no tensor of a model"),
        (["match", "ready.sketch", "model.safetensors"], "is a sketch of a checkpoint, and holds no tensors"),
        (["diff", "ready.sketch", "log.csv"], "holds no tensor of a model"),
        (["diff", "ready.sketch", "folder"], "takes it beside a checkpoint or another sketch"),
        (["diff", "ready.sketch", "model.safetensors", "--noise", "folder"], "is a sketch, which takes no --noise"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_wrong_use_is_said_in_a_line_and_writes_nothing(
    parity: Parity, model: dict[str, np.ndarray], tmp_path: Path, words: list[str], said: str
) -> None:
    Path("folder").mkdir()
    Path("log.csv").write_text("step,loss\n1,0.5\n")
    assert parity("sketch", "model.safetensors", "--out", "ready.sketch").status == 0
    before = sorted(path.name for path in tmp_path.rglob("*"))
    found = parity(*words)
    assert found.status == 2, found.out
    assert said in complaint(found)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
