"""What is written comes back, bit for bit, and without being loaded before it is asked for."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from parity.dtypes import KNOWN, smallest, unpacked
from parity.judging.compare import differences, distance
from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.recording.writer import Writer, write
from parity.tests.recording.runs import META, assert_same, chunks_of, exhaustive, make, manifest, save_run
from parity.trajectory import Shards, Widened, gather


@exhaustive
@given(st.data())
def test_a_run_comes_back_bit_for_bit_however_it_was_cut(tmp_path_factory, data):
    snapshots = data.draw(st.integers(1, 8))
    dtype = data.draw(st.sampled_from(KNOWN))
    run = make(snapshots, data.draw(st.integers(1, 4)), dtype)
    run.params["scale"].flat[0] = data.draw(st.sampled_from([np.nan, -np.inf, -0.0, smallest(dtype)]))
    cuts = sorted(data.draw(st.sets(st.integers(1, snapshots - 1)))) if snapshots > 1 else []
    chunks = chunks_of(run, cuts)
    assert_same(gather(chunks), run)
    path = tmp_path_factory.mktemp("round") / "run"
    with Writer(path, run.meta) as writer:
        for chunk in chunks:
            writer.add(chunk)
            if data.draw(st.booleans()):
                writer.flush()
    back = read(path)
    assert_same(back, run)
    again = path.with_name("again")
    write(again, back.epochs, back.loss, back.params, back.metrics, back.meta)
    assert_same(read(again), run)
    assert META.items() <= read(again).meta.items()


@exhaustive
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_shards_are_sliced_like_the_array_that_they_make(lengths, data):
    pieces = [np.arange(2 * n).reshape(n, 2) + 100 * i for i, n in enumerate(lengths)]
    whole, stack = np.concatenate(pieces), Shards(pieces)
    assert (stack.shape, stack.dtype, len(stack)) == (whole.shape, whole.dtype, len(whole))
    key = data.draw(st.one_of(st.slices(len(whole)), st.integers(-len(whole), len(whole) - 1)))
    np.testing.assert_array_equal(stack[key], whole[key])
    np.testing.assert_array_equal(np.asarray(stack), whole)
    with pytest.raises(IndexError):
        stack[len(whole)]
    for number, piece in enumerate(pieces):
        start = sum(lengths[:number])
        assert np.shares_memory(stack[start : start + len(piece)], piece)
        assert np.shares_memory(stack[start], piece)


def test_a_tiny_run_is_two_files(tmp_path):
    run = make(11)
    with Writer(tmp_path / "run", META) as writer:
        for chunk in chunks_of(run, range(1, 11)):
            writer.add(chunk)
    assert sorted(os.listdir(tmp_path / "run")) == ["00000.safetensors", MANIFEST]
    assert os.listdir(tmp_path) == ["run"]
    assert_same(read(tmp_path / "run"), run)


def test_large_or_old_chunks_become_shards_at_once(tmp_path, monkeypatch):
    first, second = chunks_of(make(4), (2,))
    monkeypatch.setattr("parity.recording.writer.SHARD_BYTES", 1)
    writer = Writer(tmp_path / "run", META)
    writer.add(first)
    assert len(manifest(writer.partial)["shards"]) == 1
    monkeypatch.setattr("parity.recording.writer.SHARD_BYTES", 1 << 30)
    monkeypatch.setattr("parity.recording.writer.SHARD_SECONDS", 0)
    writer.add(second)
    assert len(manifest(writer.partial)["shards"]) == 2


def test_a_folder_written_with_safetensors_alone_is_read(tmp_path):
    tensors = {
        "epochs": np.arange(3),
        "loss": np.ones((2, 1)),
        "params/dense/kernel": np.ones((3, 2, 1)),
        "slots/momentum/dense/kernel": np.ones((3, 2, 1)),
        "steps/1/prediction": np.ones(7, np.float32),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"note": "by hand"})
    shard = {"file": "a.safetensors", "sha256": hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()}
    meta = {"schema": "parity-trajectory", "version": 1, "complete": True, "dtype": "float64", "shards": [shard]}
    (tmp_path / MANIFEST).write_text(json.dumps(meta))
    run = read(tmp_path)
    assert set(run.params) == {"dense/kernel"}
    assert run.metrics == {}


@exhaustive
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_bfloat16_is_widened_slice_by_slice(lengths, data):
    bits = data.draw(hnp.arrays(np.uint16, (sum(lengths), 2)))
    whole = unpacked(bits)
    stack = Shards([Widened(piece) for piece in np.split(bits, np.cumsum(lengths)[:-1])])
    assert (stack.shape, stack.dtype, len(stack)) == (whole.shape, np.float32, len(whole))
    key = data.draw(st.one_of(st.slices(len(whole)), st.integers(-len(whole), len(whole) - 1)))
    np.testing.assert_array_equal(stack[key], whole[key])
    np.testing.assert_array_equal(np.asarray(stack), whole)


def test_two_bytes_a_value_are_written_and_any_other_number_is_refused(tmp_path):
    run = make(40, dtype="bfloat16")
    for folder, meta in (("half", run.meta), ("whole", META)):
        with Writer(tmp_path / folder, meta) as writer:
            for chunk in chunks_of(run, ()):
                writer.add(chunk)
    header, other = (header_of(tmp_path / folder / "00000.safetensors") for folder in ("half", "whole"))
    assert (header["params/dense/kernel"]["dtype"], other["params/dense/kernel"]["dtype"]) == ("BF16", "F32")
    for folder, name, change in (("a", "loss", "losses"), ("b", "dense/bias", "params")):
        (chunk,) = chunks_of(make(3, dtype="bfloat16"), ())
        (chunk.losses if change == "losses" else chunk.params[name])[-1] += np.float32(1e-6)
        with pytest.raises(ValueError, match=f"{name} cannot be stored as the run declares: not every value"):
            Writer(tmp_path / folder, run.meta).add(chunk)


def header_of(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_opening_a_run_does_not_load_it(folder):
    run = read(folder)
    piece = run.params["dense/kernel"][1:3]
    assert not piece.flags.owndata
    assert not piece.flags.writeable


def test_nan_is_read_and_then_seen(folder):
    clean = read(folder)
    bad = make()
    bad.params["dense/kernel"][3, 1, 1] = np.nan
    save_run(folder.with_name("bad"), bad, cuts=(2,))
    found = read(folder.with_name("bad")).params["dense/kernel"]
    assert np.flatnonzero(np.isinf(distance(found, clean.params["dense/kernel"]))).tolist() == [3]
    worst = differences(found, clean.params["dense/kernel"])
    assert (worst.nonfinite_a, worst.nonfinite.snapshot, worst.nonfinite.index) == (1, 3, (1, 1))
