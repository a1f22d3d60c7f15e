"""Two ports with their own names and layouts are judged without a line about either: tensors are matched by value."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.running.executor import Environment
from parity.tests.command import Parity
from parity.tests.suites import strict_json
from parity.tests.warm import Warm
from parity.tests.watching import gpt


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gpt_in_torch_and_in_flax_is_matched_and_judged(
    dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory, parity: Parity
) -> None:
    folders = {}
    for label, framework in (("torch", "torch"), ("flax", "jax")):
        asked = warm.ask(
            gpt.trained,
            Environment(framework, "cpu"),
            {"label": label, "dtype": dtype},
            folder=lambda: tmp_path_factory.mktemp("gpt"),
        )
        folders[label] = Path(asked.result())
    result = parity("match", folders["torch"] / "right", folders["flax"] / "right", "--json", "map.json")
    found = strict_json(Path("map.json").read_text(), "match")
    assert result.status == 0
    assert found["alone"] == {"ours": [], "theirs": []}
    pairs = {frozenset(slot["framework"] for slot in each["ours"]): each for each in found["pairings"]}
    for block in range(gpt.BLOCKS):
        for own, role in (("weight", "kernel"), ("bias", "bias")):
            each = pairs[frozenset([f"h.{block}.attn.in_proj_{own}"])]
            assert each["proven"]
            said = [slot["framework"] for slot in each["theirs"]]
            layer = f"Layer_{block}/MultiHeadDotProductAttention_0"
            assert said == [f"{layer}/{name}/{role}" for name in ("query", "key", "value")]
    for wrong, status in (("right", 0), ("wrong", 1)):
        result = parity("diff", folders["torch"] / wrong, folders["flax"] / "right")
        assert result.status == status, result.out
        result = parity("diff", folders["torch"] / wrong, folders["flax"] / "right", "--map", "map.json")
        assert result.status == status, result.out
        result = parity("explain", folders["torch"] / wrong, folders["flax"] / "right")
        assert result.status == status, result.out
