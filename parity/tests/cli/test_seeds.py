"""``parity diff --seeds … --against …``: many runs with other seeds, and what they say together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.recording.writer import write
from parity.tests.command import Parity, complaint
from parity.tests.suites import strict_json

UPDATES = 30


def side(folder: Path, count: int, seed: int, rate: float = 0.1) -> list[Path]:
    """Runs of one implementation: a loss that falls, and a kernel that moves."""
    found = []
    for k in range(count):
        draw = np.random.default_rng((seed, k))
        way = np.exp(-rate * np.arange(UPDATES + 1))
        loss = way[:-1] * draw.normal(1, 0.05) + draw.normal(0, 0.01, UPDATES)
        kernel = draw.normal(size=(1, 6)) + (1 - way[:, None]) * (1 + draw.normal(0, 0.05, (1, 6)))
        found.append(folder / f"{k}")
        write(found[-1], np.arange(UPDATES + 1), loss[:, None], {"dense/kernel": kernel}, meta={"unit": "update"})
    return found


def test_two_implementations_that_are_the_same_pass(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = side(tmp_path / "a", 14, 1), side(tmp_path / "b", 14, 2)
    result = parity("diff", "--seeds", *ours, "--against", *theirs, "--json", "seeds.json")
    assert result.status == 0, result.out + result.err
    assert result.out.startswith("PASS\nno difference was found (p = ")
    assert "14 and 14 runs would have shown a learning rate that is" in result.out
    found = strict_json(Path("seeds.json").read_text(), "diff")
    assert found["pairs"] == []
    assert found["seeds"]["runs"] == [14, 14]
    assert set(found["seeds"]["quantities"]) == {"loss", "size of dense/kernel", "movement of dense/kernel"}


def test_another_learning_rate_fails(parity: Parity, tmp_path: Path) -> None:
    ours = side(tmp_path / "a", 8, 1, rate=0.12)
    side(tmp_path / "b", 8, 2)
    result = parity("diff", "--against", tmp_path / "b" / "*", "--seeds", *ours)
    assert result.status == 1
    assert "loss differs in distribution (p = " in result.out
    assert "between seeds" in result.out


def test_too_few_runs_are_inconclusive_and_say_how_many_it_takes(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = side(tmp_path / "a", 2, 1), side(tmp_path / "b", 2, 2)
    result = parity("diff", "--seeds", *ours, "--against", *theirs, "--json", "-")
    assert result.status == 3
    found = strict_json(result.out, "diff")["seeds"]
    assert f"about {found['needed']} runs a side would say" in found["reason"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "a"), "--seeds and --against belong together"),
        (("--seeds", "a", "--against"), "--against"),
        (("--seeds", "a", "--against", "b"), "a/trajectory.json: is missing"),
        (("--seeds", "a", "--against", "b", "--noise", "c"), "--noise belongs to two recordings"),
        (("--seeds", "a-*", "--against", "b"), "no run is called a-*"),
        ((), "name two recordings, A and B, or several with --seeds and --against"),
        (("a",), "name two recordings, A and B"),
    ],
)
def test_wrong_use_is_said(parity: Parity, words: tuple[str, ...], said: str) -> None:
    result = parity("diff", *words)
    assert result.status == 2
    assert said in (complaint(result) if said != "--against" else result.err)
