"""Two checkpoints are compared as they are read, with the verdict and the figures that comparing them whole gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from parity.judging import blocks, streamed
from parity.judging.checkpoints import Held, held, opened_checkpoints
from parity.judging.diff import Comparison, compare, compare_runs
from parity.judging.streamed import largest_of
from parity.judging.verdict import Verdict
from parity.recording.artefacts import open_run, read_artefact
from parity.recording.limits import Budget
from parity.tests.recording.safetensors_by_hand import write_safetensors
from parity.trajectory import TrajectoryError
from parity.typing import Array

SHAPES = [(), (1,), (0, 3), (5,), (3, 4), (1, 37), (2, 3, 5), (40, 3)]
VALUES = np.array([0.0, -0.0, 1.0, 1.5, -2.0, 1e-3, 3.0e-39, 65504.0])
ODD = np.array([np.nan, np.inf, -np.inf])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small tensors have many."""
    monkeypatch.setattr(streamed, "BYTES", 64)
    monkeypatch.setattr(streamed, "AT_ONCE", 2)
    monkeypatch.setattr(blocks, "BLOCK", 5)


def streamed_(a: Path, b: Path) -> Held | None:
    both = opened_checkpoints(a, b)
    assert both is not None
    assert both.fit
    return held(both)


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[dict[str, Array], dict[str, Array], bool, bool]:
    """Two checkpoints of equal names and shapes, and which of them is in bfloat16."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtypes = draw(st.lists(st.sampled_from(["float32", "float64", "float16"]), min_size=1, max_size=2))
    ours, theirs = {}, {}
    for number, shape in enumerate(draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))):
        values = generator.choice(VALUES, shape) + generator.integers(0, 2) * generator.normal(size=shape)
        other = values.copy()
        for _ in range(draw(st.integers(0, 3)) if values.size else 0):
            place = generator.integers(values.size)
            change = draw(st.sampled_from([1e-12, 1e-6, 0.01, 1.0, -3.0]))
            other.reshape(-1)[place] = values.reshape(-1)[place] * (1 + change) if change < 1 else change
        if draw(st.integers(0, 9)) == 0 and values.size:
            odd, both = draw(st.sampled_from(list(ODD))), draw(st.booleans())
            place = generator.integers(values.size)
            other.reshape(-1)[place] = odd
            values.reshape(-1)[place] = odd if both else values.reshape(-1)[place]
        kinds = draw(st.sampled_from(dtypes)), draw(st.sampled_from(dtypes))
        with np.errstate(all="ignore"):
            ours[f"t{number}"], theirs[f"t{number}"] = np.asarray(values, kinds[0]), np.asarray(other, kinds[1])
    return ours, theirs, draw(st.booleans()), draw(st.booleans())


@given(checkpoints())
@settings(max_examples=150, deadline=None)
def test_what_is_streamed_is_judged_as_what_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[dict[str, Array], dict[str, Array], bool, bool]
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    ours, theirs, *narrow = made
    a, b = (
        write_safetensors(folder / f"{name}.safetensors", tensors, of)
        for name, tensors, of in zip("ab", (ours, theirs), narrow, strict=True)
    )
    with np.errstate(all="ignore"):
        found, whole = streamed_(a, b), compare_runs(a, open_run(a), b, open_run(b))
    if found is None:
        return  # two tensors hold each other's values: those are matched, and compared whole
    assert [repr(one) for one in found.worst] == [repr(whole.absolute), repr(whole.relative), repr(whole.ulp)]
    if whole.judgement.verdict is Verdict.FAIL:
        assert found.judgement.verdict is Verdict.FAIL
        for each in ("epoch", "parameter", "reason", "tolerance", "source", "ratio", "difference"):
            assert repr(getattr(found.judgement, each)) == repr(getattr(whole.judgement, each)), each
    else:
        assert whole.judgement.reason.startswith("nothing was trained")
        assert found.judgement.verdict is not Verdict.FAIL
        assert found.judgement.verdict is Verdict.PASS or "would not see a gross mistake" in found.judgement.reason
        assert (found.judgement.ratio == 0) == (found.worst[0] is None)


def pair(folder: Path, ours: dict[str, Array], theirs: dict[str, Array]) -> Comparison:
    for name, tensors in (("a", ours), ("b", theirs)):
        write_safetensors(folder / f"{name}.safetensors", tensors)
    return compare(folder / "a.safetensors", folder / "b.safetensors")


def drawn(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_equal_checkpoints_pass_and_a_number_that_differs_is_found(tmp_path: Path) -> None:
    kernel = drawn(31, 7)
    other = kernel.copy()
    other[30, 6] += 1
    assert pair(tmp_path, {"k": kernel}, {"k": kernel}).judgement.verdict is Verdict.PASS
    found = pair(tmp_path, {"k": kernel}, {"k": other})
    assert found.judgement.reason.startswith("first differs at epoch 0: k[30, 6] is")
    assert found.absolute is not None
    assert found.absolute.index == (30, 6)


def test_equal_numbers_that_are_not_finite_fail(tmp_path: Path) -> None:
    kernel = drawn(31, 7)
    kernel[8, 3] = np.nan
    found = pair(tmp_path, {"k": kernel}, {"k": kernel}).judgement
    assert (found.verdict, "k[8, 3] is nan" in found.reason) == (Verdict.FAIL, True)


def test_integers_that_differ_fail(tmp_path: Path) -> None:
    ours = {"k": drawn(3), "ids": np.arange(100)}
    assert pair(tmp_path, ours, ours).judgement.verdict is Verdict.PASS
    found = pair(tmp_path, ours, {**ours, "ids": np.where(np.arange(100) == 77, 0, np.arange(100))}).judgement
    assert (found.verdict, found.reason) == (Verdict.FAIL, "integers differ: ids[77] is 77, the reference has 0")


def test_what_is_not_compared_never_passes(tmp_path: Path) -> None:
    ours = {"k": drawn(3), "ids": np.arange(4)}
    for theirs in ({"k": ours["k"]}, {**ours, "ids": np.arange(5)}, {**ours, "more": np.arange(2)}):
        found = pair(tmp_path, ours, theirs).judgement
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "not compared of the" in found.reason


@pytest.mark.parametrize("turn", ["other names", "transposed"])
def test_tensors_that_lie_otherwise_are_matched_by_value(tmp_path: Path, turn: str) -> None:
    one, other = drawn(6, 6), drawn(2, 6, 6)[1]
    theirs = {"0": other, "1": one} if turn == "other names" else {"0": one.T.copy(), "1": other.T.copy()}
    found = pair(tmp_path, {"0": one, "1": other}, theirs)
    assert found.matched is not None
    assert found.absolute is None


def test_bfloat16_that_is_off_by_a_rounding_does_not_pass(tmp_path: Path) -> None:
    kernel = drawn(50)
    a, b = write_safetensors(tmp_path / "a", {"k": kernel}), write_safetensors(tmp_path / "b", {"k": kernel}, True)
    found = compare(a, b)
    assert "dtype differs: float32 and bfloat16" in found.preflight
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "roundings of bfloat16 are" in found.judgement.reason


@given(st.lists(st.floats(width=32), min_size=1), st.sampled_from(["float16", "float32", "float64"]))
def test_the_largest_magnitude_is_that_of_the_bits(values: list[float], dtype: str) -> None:
    with np.errstate(all="ignore"):
        array = np.array(values).astype(dtype)
    found = largest_of(array)
    if np.isfinite(array).all():
        assert found == np.abs(array).max()
    else:
        assert not np.isfinite(found)


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"k": drawn(50)})
    both = opened_checkpoints(path, path)
    assert both is not None

    def begin(size: int) -> streamed.Progress:
        def told(read: int, name: str) -> None:
            os.utime(path, ns=(0, 0))

        return told

    with pytest.raises(TrajectoryError, match="was changed while it was read"):
        held(both, begin)


def test_an_error_of_one_thread_ends_all(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"k": drawn(5000)})
    both = opened_checkpoints(path, path)
    assert both is not None
    seen = []

    def begin(size: int) -> streamed.Progress:
        def told(read: int, name: str) -> None:
            seen.append(read)
            raise KeyboardInterrupt

        return told

    with pytest.raises(KeyboardInterrupt):
        held(both, begin)
    assert len(seen) <= streamed.THREADS


def hollow(path: Path, size: int) -> Path:
    """A safetensors file of so many bytes that is nearly all hole."""
    text = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    return path


def test_a_file_of_holes_is_refused(tmp_path: Path) -> None:
    """It would take an hour to read, and no byte to send."""
    path = hollow(tmp_path / "a.safetensors", 1 << 40)
    with pytest.raises(TrajectoryError, match=r"its tensors have 1.02e\+03 GiB, and .* lie on disk: if you trust"):
        compare(path, path)


def test_several_readings_spend_the_size_of_a_file_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"k": drawn(1000)})
    monkeypatch.setattr("parity.recording.limits.SIZE", int(2.5 * path.stat().st_size))
    budget = Budget()
    for _ in range(2):
        read_artefact(path, budget)
    with pytest.raises(TrajectoryError, match="takes more than"):
        read_artefact(path, budget)
    streams = Budget(streams=True)
    for _ in range(4):
        read_artefact(path, streams)
    assert 4000 <= streams.on_disk <= path.stat().st_size


def test_a_file_that_is_larger_than_a_reading_may_be_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"k": drawn(10_000)})
    other = write_safetensors(tmp_path / "b.safetensors", {"another name": drawn(10_000)})
    monkeypatch.setattr("parity.recording.limits.SIZE", 1000)
    assert compare(path, path).judgement.verdict is Verdict.PASS
    assert compare(path, other).judgement.verdict is Verdict.PASS
    # What is matched by its own values is streamed; what is not takes a look at all.
    write_safetensors(other, {"another name": drawn(10_000) + 1})
    with pytest.raises(TrajectoryError, match="takes more than 1000 bytes of shards"):
        compare(path, other)


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """Half a gigabyte on each side, in a process of its own: it may take what imports take, and a few blocks."""
    for name in ("a", "b"):
        os.makedirs(tmp_path / name)
        save_file({"k": np.zeros((1 << 13, 1 << 14), np.float32)}, tmp_path / name / "model.safetensors")
    code = (
        "import sys\nfrom pathlib import Path\nfrom parity.judging.diff import compare\n"
        "from parity.tests.memory import peak\n"
        "before = peak()\n"
        "assert compare(*map(Path, sys.argv[1:])).judgement.verdict == 'PASS'\n"
        "print(before, peak())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    before, after = map(int, done.stdout.split())
    assert after < 256 << 20
    assert after - before < 64 << 20
