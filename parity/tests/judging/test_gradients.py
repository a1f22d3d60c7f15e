"""Gradients that part by little, or in one row alone, are heard although every distance is within its tolerance."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.verdict import Judgement, Verdict
from parity.recorder import Recorder
from parity.tests.command import Parity
from parity.tolerance import FACTOR
from parity.typing import Array

RATE = np.float32(2.0**-10)
SLOPES = {"table/embedding": ((1.0, -0.5), (0.25, 0.5), (-2.0, 1.0)), "head/kernel": ((0.75,), (2.0,))}
EMBEDDING = {"name": "table", "kind": "Embed", "configuration": {}}
STRAYED = 2.0**-23


def record(
    folder: Path,
    off: dict[str, Array] | None = None,
    at: Collection[int] = range(100),
    *,
    deep: int = 6,
    updates: int = 12,
    kept: Collection[int] = range(100),
    layers: Collection[object] = (),
    activation: Array | None = None,
) -> Path:
    """Descend a slope beside shadows; ``at`` some updates gradients are ``off`` by factors."""
    params = {name: np.ones(np.shape(slope), np.float32) for name, slope in SLOPES.items()}
    with Recorder(folder, "float32", deep=deep) as run:
        run.describe(unit="update", layers=list(layers))
        run.snapshot(params)
        for update in range(updates):
            gradients = {name: np.array(slope, np.float32) for name, slope in SLOPES.items()}
            if update in at:
                gradients |= {name: gradients[name] * np.asarray(f, np.float32) for name, f in (off or {}).items()}
            strays = {f"gradients/{name}": np.array([STRAYED]) for name in SLOPES}
            strays |= {f"params/{name}": np.array([STRAYED]) for name in SLOPES}
            run.step(
                4.0,
                rows=[update],
                prediction=[0.0],
                gradients=gradients,
                params=params,
                strays=strays,
                activations=None if activation is None else {"gelu": activation},
            )
            params = {name: value - RATE * gradients[name] for name, value in params.items()}
            if update + 1 in kept or update + 1 == updates:
                run.snapshot(params, update + 1)
    return folder


def judged(tmp_path: Path, **changes: object) -> Judgement:
    return compare(record(tmp_path / "b", **changes), record(tmp_path / "a")).judgement  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factor", "at", "verdict"),
    [
        (1 + 1e-4, range(12), Verdict.FAIL),
        (1 + 1e-4, (0, 2, 4, 5), Verdict.FAIL),
        (1 + 1e-4, (0,), Verdict.PASS),
        (1 + 1e-4, (3, 4, 5), Verdict.PASS),
        (1 + FACTOR * 2.0**-23, range(12), Verdict.PASS),
    ],
)
def test_gradients_beyond_what_shadows_strayed_keep_a_pass_away(
    factor: float, at: Collection[int], verdict: Verdict, tmp_path: Path
) -> None:
    found = judged(tmp_path, off={"table/embedding": factor}, at=at)
    assert found.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "the gradient of table/embedding parts at the first update" in found.reason


def test_two_updates_beyond_what_shadows_strayed_are_a_doubt(tmp_path: Path) -> None:
    factor = {"table/embedding": np.float32(1 + 1e-4)}
    a, b = record(tmp_path / "a", deep=2), record(tmp_path / "b", factor, deep=2)
    found = compare(b, a).judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "let one run follow the other" in found.reason


@pytest.mark.parametrize("layers", [[EMBEDDING], []])
def test_a_padding_s_row_that_one_run_does_not_train_fails(layers: list[object], tmp_path: Path) -> None:
    """Its id is in the first batch alone. Of no layer that is known to be an embedding, a kink may do it once."""
    row = {"table/embedding": np.array([[0.0], [1.0], [1.0]])}
    b = record(tmp_path / "b", row, layers=layers)
    a = record(tmp_path / "a", row, range(1, 12))
    found = compare(b, a)
    assert found.judgement.verdict is (Verdict.FAIL if layers else Verdict.INCONCLUSIVE)
    said = "row 0 of table/embedding has no gradient in the first run, as with padding_idx"
    assert any(said in each for each in (found.judgement.reason, *found.notes)) is bool(layers)


def test_a_row_that_is_not_trained_again_and_again_fails_whatever_it_is_of(tmp_path: Path) -> None:
    found = judged(tmp_path, off={"head/kernel": np.array([[0.0], [1.0]])})
    assert found.verdict is Verdict.FAIL
    notes = compare(tmp_path / "b", tmp_path / "a").notes
    assert any("row 0 of head/kernel has no gradient in the first run" in n and "padding" not in n for n in notes)


def test_no_kink_is_spoken_of_where_recorded_layers_show_none(tmp_path: Path) -> None:
    away = np.array([0.5, -2.0], np.float32)
    off = {"table/embedding": np.array([[1.5], [1.0], [1.0]])}
    b = record(tmp_path / "b", off, (2,), activation=away)
    found = compare(b, record(tmp_path / "a", activation=away)).judgement
    assert "in update 2 the gradient of table/embedding parts at once" in found.reason
    assert "kink" not in found.reason


def test_runs_of_other_deep_recordings_pass_by_what_both_hold(tmp_path: Path, parity: Parity) -> None:
    a = record(tmp_path / "a", deep=3, kept=(1, 2, 3, 4, 8))
    b = record(tmp_path / "b", deep=6, kept=(1, 2, 4, 6, 8))
    found = compare(b, a)
    assert found.judgement.verdict is Verdict.PASS
    assert any("7 and 7 snapshots, 6 of them after the same updates" in note for note in found.notes)
    for command in (("diff",), ("explain", "--page", tmp_path / "page.html"), ("match",)):
        assert parity(*command, b, a).status == 0


def test_a_mistake_is_explained_across_other_deep_recordings(tmp_path: Path, parity: Parity) -> None:
    a = record(tmp_path / "a", deep=3, kept=(1, 2, 3, 4, 8))
    b = record(tmp_path / "b", {name: np.float32(2) for name in SLOPES}, deep=6, kept=(1, 2, 4, 6, 8))
    for one, other in ((a, b), (b, a)):
        result = parity("explain", one, other, "--page", tmp_path / "page.html")
        assert result.status == 1
        assert "first differs at update 0, gradient" in result.out


def test_runs_of_other_lengths_do_not_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, updates=10)
    assert found.verdict is Verdict.INCONCLUSIVE
