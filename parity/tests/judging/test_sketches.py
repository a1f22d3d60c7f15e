"""Sketches of checkpoints: equal for equal numbers, however those are stored and read; right in what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from parity.dtypes import packed, rounded
from parity.judging import sketching
from parity.judging.diff import compare
from parity.judging.sketches import SHOWN, held_by_sketches, sketch_at
from parity.judging.verdict import Verdict
from parity.recording.artefacts import read_artefact
from parity.recording.artefacts.sketched import SCHEMA, Sketch, is_sketch, read_sketch
from parity.tests.recording.safetensors_by_hand import write_safetensors
from parity.trajectory import TrajectoryError
from parity.typing import Array


def same(one: Sketch, other: Sketch) -> None:
    assert list(one.tensors) == list(other.tensors)
    for name, ours in one.tensors.items():
        theirs = other.tensors[name]
        assert ours[:-1] == theirs[:-1], name
        assert ours.projection.tobytes() == theirs.projection.tobytes(), name


@given(
    st.lists(st.sampled_from([(), (0, 3), (5,), (3, 4), (1, 137), (2, 3, 5), (40, 3)]), min_size=1, max_size=4),
    st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool"]),
    st.integers(1, 50),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_equal_tensors_have_equal_sketches_whatever_the_blocks_and_the_format(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], dtype: str, block: int, seed: int
) -> None:
    folder, draw = tmp_path_factory.mktemp("same"), np.random.default_rng(seed)
    tensors = {f"t{n}": np.asarray(draw.normal(size=shape) * 9).astype(dtype) for n, shape in enumerate(shapes)}
    expected = sketch_at(write_safetensors(folder / "a.safetensors", tensors))
    np.savez(folder / "a.npz", **{name: np.array(values, order="F") for name, values in tensors.items()})
    np.savez_compressed(folder / "packed.npz", **tensors)
    swapped = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in tensors.items()}
    np.savez(folder / "swapped.npz", **swapped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketching, "BYTES", 8 * block)
        for name in ("a.safetensors", "a.npz", "packed.npz", "swapped.npz"):
            same(sketch_at(folder / name), expected)
    for name, values in tensors.items():
        one = expected.tensors[name]
        assert one.digest == hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).digest()
        assert one.largest == np.abs(values.astype(np.float64)).max(initial=0)
    (folder / "a.sketch").write_bytes(expected.as_file())
    same(read_sketch(folder / "a.sketch"), expected)


def test_bfloat16_is_hashed_by_its_bits_in_any_format(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = rounded(np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32), "bfloat16")
    torch.save({"k": torch.from_numpy(values).to(torch.bfloat16)}, tmp_path / "a.pt")
    torch.save({"k": torch.from_numpy(values.T.copy()).to(torch.bfloat16).T}, tmp_path / "turned.pt")
    expected = sketch_at(write_safetensors(tmp_path / "a.safetensors", {"k": values}, narrow=True))
    assert expected.tensors["k"].dtype == "bfloat16"
    assert expected.tensors["k"].digest == hashlib.sha256(packed(values).tobytes()).digest()
    same(sketch_at(tmp_path / "a.pt"), expected)
    same(sketch_at(tmp_path / "turned.pt"), expected)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def judged(folder: Path, ours: dict[str, Array], theirs: dict[str, Array]) -> Any:
    """The verdict on two sketches, which must be that on a sketch and a checkpoint, either way round."""
    for name, tensors in (("a", ours), ("b", theirs)):
        path = write_safetensors(folder / f"{name}.safetensors", tensors)
        (folder / f"{name}.sketch").write_bytes(sketch_at(path).as_file())
    found = held_by_sketches(folder / "a.sketch", folder / "b.sketch")
    assert held_by_sketches(folder / "a.sketch", folder / "b.safetensors") == found
    assert compare(folder / "a.safetensors", folder / "b.sketch").judgement == found.judgement
    return found


def test_equal_hashes_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, {"k": drawn(30, 40), "ids": np.arange(9)}, {"k": drawn(30, 40), "ids": np.arange(9)})
    assert found.judgement.verdict is Verdict.PASS
    assert found.notes == ("2 of 2 tensors have equal SHA-256, and so are equal to the bit",)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_within_the_tolerance_never_fail(tmp_path: Path, seed: int) -> None:
    """Each number is off by as much as it may be: that is the most that the norm may be."""
    kernel = drawn(60, 70, seed=seed)
    allowed = 2 * 64 * 2.0**-24 * float(np.abs(kernel).max())
    signs = np.random.default_rng(seed).choice([-1, 1], kernel.shape)
    found = judged(tmp_path, {"k": kernel}, {"k": (kernel + signs * 0.99 * allowed).astype(np.float32)})
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "send the tensors themselves" in found.judgement.reason
    assert 0.3 < found.judgement.ratio < 1


def test_tensors_that_are_far_apart_fail_by_most_first(tmp_path: Path) -> None:
    ours = {f"k{n}": drawn(50, 60, seed=n) for n in range(30)}
    theirs = {name: values * np.float32(1 + 1e-4 * 1.3**n * (n > 0)) for n, (name, values) in enumerate(ours.items())}
    found = judged(tmp_path, ours, theirs)
    assert found.judgement.verdict is Verdict.FAIL
    assert found.judgement.reason.startswith("29 of 30 tensors differ by more than is allowed: k29, k28,")
    assert found.judgement.ratio > 1
    assert [note.partition(":")[0] for note in found.notes[:SHOWN]] == [f"k{n}" for n in range(29, 29 - SHOWN, -1)]
    assert found.notes[SHOWN].startswith(f"{29 - SHOWN} more")


def changed(kernel: Array, change: Any) -> Array:
    kernel = kernel.copy()
    kernel[3, 3] = change
    return kernel


def test_one_number_of_many_is_not_told_from_rounding_and_does_not_pass(tmp_path: Path) -> None:
    kernel = drawn(300, 300)
    found = judged(tmp_path, {"k": kernel}, {"k": changed(kernel, kernel[3, 3] + 1e-4)})
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors").judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_fails_as_in_checkpoints(tmp_path: Path, odd: float, both: bool) -> None:
    kernel = drawn(8, 8)
    found = judged(tmp_path, {"k": changed(kernel, odd) if both else kernel}, {"k": changed(kernel, odd)})
    assert found.judgement.verdict is Verdict.FAIL
    assert "1 of 64 numbers are not finite" in found.notes[0]


def test_integers_that_differ_fail(tmp_path: Path) -> None:
    found = judged(tmp_path, {"ids": np.arange(9)}, {"ids": np.arange(9)[::-1].copy()})
    assert (found.judgement.verdict, found.judgement.parameter) == (Verdict.FAIL, "ids")


def test_what_is_not_compared_never_passes(tmp_path: Path) -> None:
    ours = {"k": drawn(8, 8), "b": drawn(5)}
    for theirs, said in (
        ({"k": ours["k"]}, "b"),
        ({"k": ours["k"], "c": ours["b"]}, "b (the other has its numbers in c)"),
        ({**ours, "b": drawn(6)}, "b (float32 (5,), the other is float32 (6,))"),
        ({**ours, "b": np.arange(5)}, "b (float32 (5,), the other is int64 (5,))"),
        ({"x": drawn(2)}, "no tensor of one has the name"),
        ({"k": ours["b"], "b": ours["k"]}, "no tensor of one has the name"),
    ):
        found = judged(tmp_path, ours, theirs)
        assert found.judgement.verdict is Verdict.INCONCLUSIVE, said
        assert said in found.judgement.reason
    found = judged(tmp_path, {"a": drawn(5), "b": drawn(5, seed=1)}, {"b": drawn(5), "a": drawn(5, seed=1)})
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "under each other's names" in found.judgement.reason


def test_other_dtypes_are_compared_by_their_projections(tmp_path: Path) -> None:
    kernel = drawn(40, 40)
    near = judged(tmp_path, {"k": kernel}, {"k": kernel.astype(np.float64)})
    assert near.judgement.verdict is Verdict.INCONCLUSIVE
    assert near.preflight == ("dtype differs: float32 and float64",)
    far = judged(tmp_path, {"k": kernel}, {"k": kernel.astype(np.float64) * 1.01})
    assert far.judgement.verdict is Verdict.FAIL


def test_tensors_without_a_number_are_equal_in_any_dtype(tmp_path: Path) -> None:
    found = judged(tmp_path, {"k": np.zeros((0, 3), np.float32)}, {"k": np.zeros((0, 3))})
    assert found.judgement.verdict is Verdict.PASS


Parts = dict[str, Any]


def again(parts: Parts, about: str) -> Parts:
    return {**parts, "about": np.frombuffer(about.encode(), np.uint8)}


KERNEL = '["k", "float32", [2, 3]]'
HOSTILE: dict[str, Callable[[Parts], Parts]] = {
    "a tensor too few": lambda parts: {name: one for name, one in parts.items() if name != "largest"},
    "a tensor too many": lambda parts: {**parts, "more": np.zeros(1)},
    "another dtype": lambda parts: {**parts, "largest": np.zeros(1, np.float32)},
    "fewer digests": lambda parts: {**parts, "digests": parts["digests"][:, :5].copy()},
    "more rows": lambda parts: {**parts, "projections": np.zeros((2, 4, 64))},
    "largest is nan": lambda parts: {**parts, "largest": np.array([np.nan])},
    "largest is negative": lambda parts: {**parts, "largest": np.array([-1.0])},
    "more that are not finite than there are": lambda parts: {**parts, "nonfinite": np.array([7])},
    "no JSON": lambda parts: again(parts, "{"),
    "a list": lambda parts: again(parts, "[]"),
    "no notes": lambda parts: again(parts, f'{{"tensors": [{KERNEL}]}}'),
    "a note that is no text": lambda parts: again(parts, f'{{"tensors": [{KERNEL}], "notes": [1]}}'),
    "no tensors": lambda parts: again(parts, '{"tensors": [], "notes": []}'),
    "twice": lambda parts: again(
        {name: np.concatenate([one, one]) for name, one in parts.items()},
        f'{{"tensors": [{KERNEL}, {KERNEL}], "notes": []}}',
    ),
    **{
        what: partial(again, about=f'{{"tensors": [{said}], "notes": []}}')
        for what, said in (
            ("a shape that is negative", '["k", "float32", [-2, 3]]'),
            ("a shape of terabytes", '["k", "float32", [99999999999999, 99999999999999]]'),
            ("a shape of texts", '["k", "float32", ["2", 3]]'),
            ("an unknown dtype", '["k", "object", [2, 3]]'),
            ("a dtype that is a list", '["k", ["float32"], [2, 3]]'),
            ("a name that moves the cursor", '["k\\u001b[2J", "float32", [2, 3]]'),
            ("no triple", '["k"]'),
            ("a number", "5"),
        )
    },
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_sketch_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    honest = sketch_at(write_safetensors(tmp_path / "a.safetensors", {"k": drawn(2, 3)})).as_file()
    path = tmp_path / "bad.sketch"
    path.write_bytes(save(HOSTILE[what](load(honest)), {"schema": SCHEMA, "version": "1"}))
    assert is_sketch(path)
    with pytest.raises(TrajectoryError, match=r"bad\.sketch") as error:
        read_sketch(path)
    assert "\n" not in str(error.value)


def test_other_versions_and_damage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sketch_at(write_safetensors(tmp_path / "a.safetensors", {"k": drawn(2, 3)})).as_file()
    path = tmp_path / "bad.sketch"
    path.write_bytes(save(load(honest), {"schema": SCHEMA, "version": "2"}))
    with pytest.raises(TrajectoryError, match="is version 2 of a sketch, this program reads 1: update it"):
        read_sketch(path)
    for length in (0, 4, 100, len(honest) - 1):
        path.write_bytes(honest[:length])
        with pytest.raises(TrajectoryError):
            compare(path, tmp_path / "a.safetensors")
    path.write_bytes(honest)
    with pytest.raises(TrajectoryError, match="is a sketch of a checkpoint, and holds no tensors"):
        read_artefact(path)
    monkeypatch.setenv("PARITY_LIMITS", "1e-6")
    with pytest.raises(TrajectoryError, match="--limits N"):
        read_sketch(path)


def test_a_sketch_that_was_changed_at_random_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever its numbers and words say, a comparison ends with a verdict or with an error of ours."""
    draw = np.random.default_rng(5)
    checkpoint = write_safetensors(tmp_path / "a.safetensors", {"k": drawn(2, 3), "ids": np.arange(3)})
    honest = sketch_at(checkpoint)
    data = Sketch(honest.tensors, ("a note",)).as_file()
    words = [
        b"null",
        b"-1",
        b"1e999",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\x00",
        b"\xff" * 8,
        b"\x7f\xf0" * 4,
        b"99999999999999999999",
    ]
    path, ends, errors = tmp_path / "bad.sketch", set(), []
    for _ in range(400):
        bad = bytearray(data)
        for _ in range(draw.integers(1, 4)):
            # The header and what is said in words are a small part of it, and are changed as often as the numbers.
            at = int(draw.integers(len(bad) if draw.integers(2) else 700))
            word = words[draw.integers(len(words))] if draw.integers(2) else draw.bytes(1)
            bad[at : at + len(word)] = word
        path.write_bytes(bad)
        try:
            found = held_by_sketches(path, tmp_path / "a.safetensors") if is_sketch(path) else None
            read_sketch(path)
        except TrajectoryError as error:
            errors.append(str(error))
        else:
            assert found is not None
            ends.add(str(found.judgement.verdict))
    assert errors
    assert not any("\n" in error for error in errors)
    assert "FAIL" in ends
