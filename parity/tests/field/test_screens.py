"""What people see: the other places on the screen, and what a report of recordings of one's own says."""

from __future__ import annotations

from pathlib import Path

from parity.spec import Sgd
from parity.tests.command import Parity, complaint
from parity.tests.field.port import run, sgd
from parity.tests.suites import strict_json


def test_every_other_place_is_on_the_screen(parity: Parity, tmp_path: Path) -> None:
    said = Sgd(0.1)
    wrong = run(tmp_path / "a", step=sgd(0.2), said=said, change=lambda loss, gradients: (loss * (1 + 1e-9), gradients))
    right = run(tmp_path / "b", step=sgd(), said=said)
    result = parity("explain", wrong, right, "--json", "found.json")
    assert result.status == 1
    assert "parts by itself, too: epoch 1, batch 0, loss, by" in result.out
    (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
    assert found["others"][0].startswith("epoch 1, batch 0, loss")


def test_a_report_of_recordings_of_ones_own_says_what_to_do(parity: Parity, tmp_path: Path) -> None:
    for name in ("flax", "torch"):
        run(tmp_path / "runs" / name, step=sgd())
    result = parity("report", tmp_path / "runs")
    assert result.status == 2
    assert "holds recordings of your own (flax, torch)" in complaint(result)
    assert f"'parity diff {tmp_path / 'runs' / 'flax'} {tmp_path / 'runs' / 'torch'}'" in complaint(result)
