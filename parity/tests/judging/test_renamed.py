"""Checkpoints too large to be looked at whole, under other names: they agree by value, or it is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.judging import streamed
from parity.judging.checkpoints import opened_checkpoints
from parity.judging.diff import Comparison, compare
from parity.judging.renamed import held_under_other_names
from parity.judging.tensors.correspondence import How
from parity.judging.verdict import Verdict
from parity.layout import to_canonical
from parity.recording.limits import LimitError
from parity.tests.command import Parity
from parity.tests.recording.safetensors_by_hand import write_safetensors


def model() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    shapes = {"fc1.weight": (40, 30), "fc1.bias": (40,), "conv.weight": (4, 3, 2, 2), "square.weight": (20, 20)}
    drawn = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {"ln1.weight": np.ones(8, np.float32), "ln2.weight": np.ones(8, np.float32)}


def renamed(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same model as another framework has it."""
    return {
        "Conv/kernel": tensors["conv.weight"].transpose(2, 3, 1, 0).copy(),
        "Dense/kernel": tensors["fc1.weight"].T.copy(),
        "Dense/bias": tensors["fc1.bias"],
        "Square/kernel": tensors["square.weight"].T.copy(),
        "Norm_0/scale": tensors["ln1.weight"],
        "Norm_1/scale": tensors["ln2.weight"],
    }


@pytest.fixture(autouse=True)
def too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensors fit into what a reading may take."""
    monkeypatch.setattr("parity.recording.limits.SIZE", 3000)


def pair(tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any], halves: bool = False) -> Comparison:
    a = write_safetensors(tmp_path / "a.safetensors", ours)
    return compare(a, write_safetensors(tmp_path / "b.safetensors", theirs, halves))


def test_tensors_under_other_names_and_transposed_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BYTES", 256)
    monkeypatch.setattr("parity.judging.renamed.BYTES", 256)
    found = pair(tmp_path, model(), renamed(model()))
    assert found.judgement.verdict is Verdict.PASS
    assert found.absolute is None
    assert found.matched is not None
    partners = {
        pairing.names[0][0]: (pairing.names[1][0], pairing.how, pairing.proven) for pairing in found.matched.pairings
    }
    assert partners == {
        "fc1.weight": ("Dense/kernel", How.VALUE, True),
        "fc1.bias": ("Dense/bias", How.VALUE, True),
        "conv.weight": ("Conv/kernel", How.VALUE, True),
        "square.weight": ("Square/kernel", How.VALUE, True),
        "ln1.weight": ("Norm_0/scale", How.ORDER, False),
        "ln2.weight": ("Norm_1/scale", How.ORDER, False),
    }
    # The layouts that are told bring both to the same tensors.
    ours, theirs = to_canonical(found.matched.ours, model()), to_canonical(found.matched.theirs, renamed(model()))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("place", ["fc1.weight", "square.weight", "ln2.weight"])
def test_a_tensor_that_differs_has_no_partner_and_keeps_a_pass_away(tmp_path: Path, place: str) -> None:
    wrong = model()
    wrong[place] = wrong[place].copy()
    wrong[place].flat[3] += 0.5
    found = pair(tmp_path, model(), renamed(wrong))
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "not compared of the first checkpoint: " in found.judgement.reason
    assert found.matched is not None
    assert len(found.matched.alone[0]) == len(found.matched.alone[1]) == 1


def test_numbers_that_are_not_finite_fail(tmp_path: Path) -> None:
    ours = model()
    ours["fc1.bias"][7] = np.nan
    found = pair(tmp_path, ours, renamed(ours)).judgement
    assert (found.verdict, found.parameter) == (Verdict.FAIL, "fc1.bias")


def test_values_in_another_order_are_no_partner(tmp_path: Path) -> None:
    """They have the same sums, and are no transposition of each other."""
    ours = model()
    theirs = renamed(ours)
    theirs["Dense/bias"] = ours["fc1.bias"][::-1].copy()
    found = pair(tmp_path, ours, theirs)
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert found.matched is not None
    assert found.matched.alone == (("fc1.bias",), ("Dense/bias",))


def test_a_narrower_copy_agrees_where_its_dtype_can_tell(tmp_path: Path) -> None:
    """Of bfloat16 numbers the tolerance would hide a mistake, as it would under the same names."""
    found = pair(tmp_path, model(), renamed(model()), True)
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "roundings of bfloat16" in found.judgement.reason
    assert found.matched is not None
    assert found.matched.alone == ((), ())


def test_where_nothing_matches_the_limit_is_said(tmp_path: Path) -> None:
    with pytest.raises(LimitError):
        pair(tmp_path, {"a": np.arange(1000.0)}, {"b": np.arange(1000.0) + 1})


def test_integers_are_compared_by_name(tmp_path: Path) -> None:
    ids = {"ids": np.arange(5)}
    assert pair(tmp_path, model() | ids, renamed(model()) | ids).judgement.verdict is Verdict.PASS
    other = pair(tmp_path, model() | ids, renamed(model()) | {"ids": np.arange(5)[::-1].copy()})
    assert other.judgement.verdict is Verdict.FAIL


def test_the_commands_say_which_is_which(parity: Parity, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a.safetensors", model())
    write_safetensors(tmp_path / "b.safetensors", renamed(model()))
    found = parity("match", "a.safetensors", "b.safetensors")
    assert found.status == 3  # two layers are told apart by their order alone
    assert "ln1.weight, ln2.weight: equal to each other" in found.out
    assert "'fc1.weight', axes=(1, 0)" in found.out or 'fc1.weight", axes=(1, 0)' in found.out
    found = parity("diff", "a.safetensors", "b.safetensors")
    assert found.status == 0, found.out


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=4), st.randoms(), st.booleans()
)
def test_any_checkpoint_agrees_with_itself_renamed_and_turned(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], random: Any, constant: bool
) -> None:
    folder = tmp_path_factory.mktemp("renamed")
    draw = np.random.default_rng(random.randrange(100))
    ours = {
        str(number): np.array(np.ones(shape) if constant else draw.normal(size=shape), np.float32)
        for number, shape in enumerate(shapes)
    }
    turned = {}
    for name in sorted(ours, key=lambda name: random.random()):
        axes = list(range(ours[name].ndim))
        random.shuffle(axes)
        turned[f"x{name}"] = np.array(ours[name].transpose(axes), order="C")
    files = [
        write_safetensors(folder / f"{name}.safetensors", tensors) for name, tensors in (("a", ours), ("b", turned))
    ]
    both = opened_checkpoints(*files)
    assert both is not None
    found = held_under_other_names(both)
    assert found is not None
    held, matched = found
    assert held.judgement.verdict is Verdict.PASS
    assert matched.alone == ((), ())
    for pairing in matched.pairings:
        (one,), (other,) = pairing.ours, pairing.theirs
        assert np.array_equal(
            to_canonical([one], {one.framework: ours[one.framework]})[one.canonical], turned[other.framework]
        )
