"""Trajectories through the disk and back, and every way in which a folder can be wrong."""

import contextlib
import hashlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save_file

from parity.dtypes import KNOWN, rounded, smallest, unpacked
from parity.judging.compare import differences, distance
from parity.recording import reader
from parity.recording.format import MANIFEST, batch_order_hash
from parity.recording.places import partial_path
from parity.recording.reader import read
from parity.recording.writer import Writer, write
from parity.spec import FullBatch, Shuffled
from parity.trajectory import Chunk, Shards, Trajectory, TrajectoryError, Widened, gather

exhaustive = settings(derandomize=True, deadline=None, max_examples=40, database=None)
META = {"case": "made-up", "implementation": "numpy", "device": "cpu", "threads": 1, "versions": {"numpy": "2"}}


def make(snapshots=6, every=1, dtype="float32", batches=3, seed=0) -> Trajectory:
    generator = np.random.default_rng(seed)
    epochs = np.arange(snapshots) * every
    params = {
        "dense/kernel": rounded(generator.normal(size=(snapshots, 4, 2)), dtype),
        "dense/bias": rounded(generator.normal(size=(snapshots, 2)), dtype),
        "scale": rounded(generator.normal(size=snapshots), dtype),
        "empty/kernel": rounded(np.zeros((snapshots, 0, 2)), dtype),
    }
    loss = rounded(generator.normal(size=(int(epochs[-1]), batches if snapshots > 1 else 0)), dtype)
    # Only bfloat16 must be declared: NumPy shows it in float32.
    meta = {**META, "dtype": dtype} if dtype == "bfloat16" else META
    return Trajectory(meta, epochs, loss, params, {"accuracy": generator.normal(size=snapshots)})


def chunks_of(run: Trajectory, cuts) -> list[Chunk]:
    result, done = [], 0
    bounds = [0, *cuts, len(run.epochs)]
    for start, end in itertools.pairwise(bounds):
        last = int(run.epochs[end - 1])
        result.append(
            Chunk(
                run.epochs[start:end],
                run.loss[done:last],
                {name: value[start:end] for name, value in run.params.items()},
                {name: value[start:end] for name, value in run.metrics.items()},
            )
        )
        done = last
    return result


def save_run(folder: Path, run: Trajectory, cuts=(), finish=True) -> None:
    """One shard for each piece."""
    writer = Writer(folder, META)
    for chunk in chunks_of(run, cuts):
        writer.add(chunk)
        writer.flush()
    if finish:
        writer.finish()


def assert_same(ours: Trajectory, theirs: Trajectory) -> None:
    assert ours.epochs.tolist() == theirs.epochs.tolist()
    assert ours.epochs.dtype == np.int64
    pairs = [(ours.loss, theirs.loss)]
    for ones, others in ((ours.params, theirs.params), (ours.metrics, theirs.metrics)):
        assert set(ones) == set(others)
        pairs += [(np.asarray(ones[name]), np.asarray(others[name])) for name in ones]
    for mine, other in pairs:
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert mine.tobytes() == other.tobytes()


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def rewrite(folder: Path, **changes) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest(folder) | changes))


def seal(folder: Path, name: str = "00000.safetensors") -> None:
    """Give a shard that was changed the checksum and size that it has now."""
    data = (folder / name).read_bytes()
    meta = manifest(folder)
    for shard in meta["shards"]:
        if shard["file"] == name:
            shard |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / MANIFEST).write_text(json.dumps(meta))


def alter(folder: Path, change, name: str = "00000.safetensors") -> None:
    """Put other tensors into a shard, everything else in order."""
    tensors = load((folder / name).read_bytes())
    change(tensors)
    save_file(tensors, folder / name)
    seal(folder, name)


def reseal_header(folder: Path, change) -> None:
    """Put another header text into the first shard, everything else in order."""
    path = folder / "00000.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = change(data[8 : 8 + length])
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    seal(folder)


def refused(folder: Path, match: str, **options) -> None:
    with pytest.raises(TrajectoryError, match=match) as caught:
        read(folder, **options)
    assert "\n" not in str(caught.value)


def refused_or_sound(folder: Path) -> None:
    with contextlib.suppress(TrajectoryError):
        run = read(folder, partial=True)
        snapshots = len(run.epochs)
        assert run.epochs[0] == 0
        assert len(run.loss) == run.epochs[-1]
        assert all(len(value) == snapshots for value in (*run.params.values(), *run.metrics.values()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_run(tmp_path / "run", make(), cuts=(1, 4))
    return tmp_path / "run"


# Round trips


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


# Runs that end before their time


def test_an_abandoned_run_leaves_the_earlier_result_and_can_be_read_in_part(folder):
    earlier, later = make(), make(seed=1)
    writer = Writer(folder, META)
    for chunk in chunks_of(later, (1, 4))[:2]:
        writer.add(chunk)
        writer.flush()
    del writer
    assert_same(read(folder), earlier)
    refused(partial_path(folder), "not finished")
    half = read(partial_path(folder), partial=True)
    assert half.epochs.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(half.params["scale"], later.params["scale"][:4])
    save_run(folder, later)
    assert_same(read(folder), later)
    assert os.listdir(folder.parent) == ["run"]


def test_an_interrupt_loses_nothing_that_was_added(tmp_path):
    run = make()
    chunks = chunks_of(run, (1, 4))

    def interrupted():
        with Writer(tmp_path / "run", META) as writer:
            for chunk in chunks:
                writer.add(chunk)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    refused(tmp_path / "run", "a run that was not finished is in")
    assert_same(read(partial_path(tmp_path / "run"), partial=True), run)


@pytest.mark.parametrize("call", range(1, 9))
def test_a_crash_at_any_replacement_leaves_a_whole_result(folder, monkeypatch, call):
    earlier, later, calls = make(), make(seed=1), 0

    def crash(real):
        def replacement(*arguments):
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(5, "power cut")
            real(*arguments)

        return replacement

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash(os.replace))
        patch.setattr(os, "rename", crash(os.rename))
        with pytest.raises(OSError, match="power cut") if call <= 7 else contextlib.nullcontext():
            save_run(folder, later, cuts=(3,))
    # Two shards and two manifests, the last manifest, two renames.
    assert calls == min(call, 7)
    if call == 7:
        refused(folder, "a run that was not finished")
        assert_same(read(partial_path(folder)), later)
        # The next writer first puts the earlier result back.
        Writer(folder, META)
    assert_same(read(folder), later if call == 8 else earlier)


def test_two_writers_to_one_folder_are_said_to_be_two(tmp_path):
    first, *_ = chunks_of(make(), (2,))
    writer = Writer(tmp_path / "run", META)
    writer.add(first)
    with Writer(tmp_path / "run", META) as newer:
        newer.add(first)
    with pytest.raises(TrajectoryError, match="let no other run write to the same folder"):
        writer.flush()
    assert len(read(tmp_path / "run").epochs) == 2


# What the writer refuses


def broken(**changes) -> Chunk:
    return chunks_of(make(3), ())[0]._replace(**changes)


@pytest.mark.parametrize(
    ("chunk", "match"),
    [
        (broken(epochs=np.array([1, 2, 3])), "begins at epoch 0"),
        (broken(epochs=np.array([0, 2, 2])), "must increase"),
        (broken(epochs=np.array([], int)), "at least one snapshot"),
        (broken(losses=np.zeros((1, 3), "f4")), "losses have shape"),
        (broken(losses=np.zeros((2, 0), "f4")), "no batch"),
        (broken(params={}), "without parameters"),
        (broken(params={"w": np.zeros((2, 1), "f4")}), "3 snapshots"),
        (broken(metrics={"m": np.zeros((3, 1))}), "one number"),
    ],
)
def test_chunks_that_make_no_run_are_refused(tmp_path, chunk, match):
    with pytest.raises(ValueError, match=match):
        gather([chunk])
    with pytest.raises(ValueError, match=match):
        Writer(tmp_path / "run", META).add(chunk)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": np.array([2, 4, 5])}, "must increase"),
        ({"params": {"w": np.zeros((3, 1), "f4")}}, "not those of the snapshot before"),
        ({"losses": np.zeros((3, 9), "f4")}, "another number of batches"),
        ({"losses": np.zeros((3, 3), "f8")}, "another dtype"),
    ],
)
def test_chunks_that_do_not_join_are_refused(change, match):
    first, second = chunks_of(make(6), (3,))
    with pytest.raises(ValueError, match=match):
        gather([first, second._replace(**change)])


@pytest.mark.parametrize(
    ("chunk", "meta", "match"),
    [
        (broken(), {"dtype": "float64"}, "declares 'float64'"),
        (broken(params={"w": np.zeros((3, 1), np.longdouble)}), {}, "parameters are"),
        (broken(params={"../w": np.zeros((3, 1), "f4")}), {}, "no tensor name"),
        (broken(params={"a b": np.zeros((3, 1), "f4")}), {}, "no tensor name"),
        (broken(losses=np.zeros((2, 1), np.longdouble)), {}, "losses are"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, chunk, meta, match):
    with pytest.raises(ValueError, match=match):
        Writer(tmp_path / "run", meta).add(chunk)


def test_a_writer_refuses_meta_that_a_reader_would(tmp_path):
    with pytest.raises(TrajectoryError, match="threads"):
        Writer(tmp_path / "run", {"threads": "1"})
    with pytest.raises(ValueError, match="epoch 0"):
        Writer(tmp_path / "run", {}).finish()
    with pytest.raises(ValueError, match="epoch 0"):
        gather([])
    run = make()
    with pytest.raises(ValueError, match="numbers of snapshots"):
        write(tmp_path / "run", run.epochs[:-1], run.loss, run.params)
    with pytest.raises(ValueError, match="rows"):
        write(tmp_path / "run", run.epochs, run.loss[1:], run.params)


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    run = make()
    with pytest.raises(TrajectoryError, match="other things"):
        write(tmp_path, run.epochs, run.loss, run.params)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(TypeError, match="serializable"):
        Writer(tmp_path / "run", {"platform": {"machine": object()}})


# Folders that are not what they should be


@exhaustive
@given(data=st.data())
def test_a_truncated_or_flipped_shard_is_refused(tmp_path_factory, data):
    """With the old checksum, and with a new one: then either it is refused or it is a shard that could be."""
    path = tmp_path_factory.mktemp("flip") / "run"
    save_run(path, make(3))
    shard = path / "00000.safetensors"
    content = bytearray(shard.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        content = content[: data.draw(st.one_of(st.integers(0, header), st.integers(0, len(content) - 1)))]
    else:
        place = data.draw(st.one_of(st.integers(0, header), st.integers(0, len(content) - 1)))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    shard.write_bytes(content)
    refused(path, "00000.safetensors")
    seal(path)
    refused_or_sound(path)


@exhaustive
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_sound(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("json") / "run"
    save_run(path, make(3))
    content = bytearray((path / MANIFEST).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] = data.draw(st.integers(0, 255))
    (path / MANIFEST).write_bytes(content)
    refused_or_sound(path)


def _set(key, value):
    return lambda tensors: tensors.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("epochs"), "no 'epochs'"),
        (lambda t: t.pop("loss"), "no 'loss'"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("params/")], "no 'params"),
        (lambda t: t.pop("params/dense/bias"), "differ from those of the first"),
        (lambda t: t.pop("metrics/accuracy"), "differ from those of the first"),
        (_set("params/dense/bias", np.zeros((3, 2))), "is F64, it must be F32"),
        (_set("params/dense/bias", np.zeros((3, 2), "f2")), "is F16, it must be F32"),
        (_set("params/dense/bias", np.zeros((3, 3), "f4")), "differ from those of the first"),
        (_set("params/dense/bias", np.zeros((2, 2), "f4")), "there are 3 epochs"),
        (_set("params/dense/bias", np.zeros((), "f4")), "there are 3 epochs"),
        (_set("metrics/accuracy", np.zeros(3, "f4")), "must be F64"),
        (_set("metrics/accuracy", np.zeros((3, 1))), "one number"),
        (_set("slots/momentum/dense/bias", np.zeros((2, 2), "f4")), "there are 3 epochs"),
        (_set("steps/x", np.zeros(3, "i4")), "is I32"),
        (_set("epochs", np.array([1.0, 2, 3])), "must be I64"),
        (_set("epochs", np.array([1, 2, 3], "i4")), "must be I64"),
        (_set("epochs", np.array([], "i8")), "no snapshot"),
        (_set("epochs", np.array([[1, 2, 3]])), "1 axes"),
        (_set("epochs", np.array([1, 3, 2])), "do not increase"),
        (_set("epochs", np.array([0, 2, 3])), "shard before ends at 0"),
        (_set("epochs", np.array([1, 2, 4])), "says otherwise"),
        (_set("loss", np.zeros((2, 3), "f4")), "3 epochs were trained"),
        (_set("loss", np.zeros((3, 0), "f4")), "no batch"),
        (_set("loss", np.zeros(3, "f4")), "2 axes"),
        (_set("loss", np.zeros((3, 3), "i8")), "loss is I64"),
        (_set("weights/dense", np.zeros(3, "f4")), "tensor name"),
        (_set("params/../dense", np.zeros(3, "f4")), "tensor name"),
        (_set("params/./dense", np.zeros(3, "f4")), "tensor name"),
        (_set("params//dense", np.zeros(3, "f4")), "tensor name"),
        (_set("params/dense/", np.zeros(3, "f4")), "tensor name"),
        (_set("params/dense\n", np.zeros(3, "f4")), "tensor name"),
        (_set("params/<script>", np.zeros(3, "f4")), "tensor name"),
        (_set("params", np.zeros(3, "f4")), "tensor name"),
    ],
    ids=[
        "no epochs",
        "no loss",
        "no params",
        "no bias",
        "no metric",
        "other float",
        "half",
        "other width",
        "fewer rows",
        "scalar",
        "float32 metric",
        "two-dimensional metric",
        "short slot",
        "integer step",
        "float epochs",
        "short integer epochs",
        "no snapshot",
        "two-dimensional epochs",
        "unordered epochs",
        "overlapping epochs",
        "epochs beyond the manifest",
        "too few losses",
        "no batch",
        "one-dimensional loss",
        "integer loss",
        "unknown prefix",
        "parent part",
        "dot part",
        "empty part",
        "trailing slash",
        "line break",
        "markup",
        "bare prefix",
    ],
)
def test_wrong_tensors_are_refused_though_their_checksum_is_right(folder, change, match):
    alter(folder, change, "00001.safetensors")
    refused(folder, match)


def test_a_run_that_does_not_begin_at_zero_is_refused(folder):
    alter(folder, _set("epochs", np.array([5])))
    refused(folder, "begins at 0")


def test_a_loss_that_changes_its_width_is_refused(folder):
    alter(folder, _set("loss", np.zeros((2, 4), "f4")), "00002.safetensors")
    refused(folder, "another width")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema": "other"}, "schema must be"),
        ({"version": 2}, "version 2 .* update"),
        ({"version": True}, "version must be an integer"),
        ({"version": 1.0}, "version must be an integer"),
        ({"complete": 1}, "complete must be"),
        ({"complete": False}, "not finished"),
        ({"dtype": "float8"}, "dtype must be"),
        ({"dtype": ["float32"]}, "dtype must be"),
        ({"dtype": "float64"}, "is F32, it must be F64"),
        ({"case": 3}, "case must be str"),
        ({"threads": True}, "threads must be int"),
        ({"lockstep": "../5"}, "lockstep must be int or null"),
        ({"seconds": "5"}, "seconds must be int or float"),
        ({"versions": {"numpy": 2}}, "versions must map"),
        ({"batch_order": "xyz"}, "batch_order must be"),
        ({"shards": []}, "names no shard"),
        ({"shards": {}}, "shards must be a list"),
        ({"shards": ["00000.safetensors"]}, "must be an object"),
    ],
)
def test_a_wrong_manifest_is_refused(folder, changes, match):
    rewrite(folder, **changes)
    refused(folder, match)


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "..",
        ".x.safetensors",
        "x.bin",
        "",
        "x\n.safetensors",
        "x.safetensors\n",
        "\ud800.safetensors",
        3,
        None,
    ],
)
def test_a_shard_name_that_is_no_plain_name_is_refused(folder, name):
    rewrite(folder, shards=[manifest(folder)["shards"][0] | {"file": name}])
    refused(folder, "must be a plain name")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sha256": "0" * 64}, "checksum"),
        ({"sha256": "0" * 63}, "64 lower-case"),
        ({"sha256": None}, "64 lower-case"),
        ({"bytes": 1}, "says 1"),
        ({"bytes": -1}, "from 0 on"),
        ({"bytes": "1"}, "from 0 on"),
        ({"first_epoch": 1}, "says otherwise"),
        ({"file": "x" * 300 + ".safetensors"}, "cannot be read"),
    ],
)
def test_a_wrong_shard_entry_is_refused(folder, changes, match):
    shards = manifest(folder)["shards"]
    rewrite(folder, shards=[shards[0] | changes, *shards[1:]])
    refused(folder, match)


def test_shards_left_out_or_named_twice_are_refused(folder):
    first, second, third = manifest(folder)["shards"]
    for shards, match in (
        ([second, third], "begins at 0"),
        ([first, third], "epochs were trained"),
        ([first, first], "shard before ends"),
        ([first, third, second], "epochs were trained"),
    ):
        rewrite(folder, shards=shards)
        refused(folder, match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "no valid JSON"),
        (b"[]", "JSON object"),
        (b"\xff\xfe", "no valid JSON"),
        (b"[" * 200_000, "too deeply nested"),
        (b'{"schema": NaN}', "NaN is no JSON number"),
        (b'{"schema": 1' + b"0" * 5000 + b"}", "no valid JSON"),
        (b'{"schema": "parity-trajectory", "schema": "parity-trajectory"}', "a key stands twice"),
    ],
)
def test_a_manifest_that_is_no_clean_json_is_refused(folder, text, match):
    (folder / MANIFEST).write_bytes(text)
    refused(folder, match)


def test_a_manifest_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(reader, "MANIFEST_BYTES", 100)
    refused(folder, "is larger than")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda header: b"{}", "no valid safetensors"),
        (lambda header: header[:-20], "no valid safetensors"),
        (lambda header: header.replace(b"F32", b"F99"), "no valid safetensors"),
        (lambda header: header.replace(b"[1,4,2]", b"[1,2,4,2]"), "no valid safetensors"),
        (lambda header: header.replace(b"[1,4,2]", b"[1,4,true]"), "no valid safetensors"),
        (lambda header: header.replace(b"[1,0,2]", b"[1,0,9223372036854775807]"), "impossible shape"),
        (lambda header: header.replace(b"[1,0,2]", b"[1,0,18446744073709551615]"), "impossible shape"),
        (lambda header: header.replace(b"[1,0,2]", b"[" + b"1," * 99 + b"0]"), "impossible shape"),
        (lambda header: header.replace(b"params/scale", b"metrics/accuracy"), "a key stands twice|no valid"),
        (lambda header: header + b" " * (5 << 20), "more than 4 MiB"),
    ],
    ids=[
        "empty",
        "cut",
        "unknown dtype",
        "too large a shape",
        "true in a shape",
        "overflowing side",
        "largest side",
        "too many axes",
        "twice the same tensor",
        "padded",
    ],
)
def test_a_header_that_lies_is_refused(folder, change, match):
    reseal_header(folder, change)
    refused(folder, match)


@pytest.mark.parametrize("length", [1 << 62, 100_000_000, 0])
def test_a_header_length_that_lies_is_refused(folder, length):
    path = folder / "00000.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    seal(folder)
    refused(folder, "header claims|no valid safetensors")


def test_missing_files_are_named(folder, tmp_path):
    (folder / "00001.safetensors").unlink()
    refused(folder, "00001.safetensors: is missing")
    (folder / MANIFEST).unlink()
    refused(folder, f"{MANIFEST}: is missing")
    refused(tmp_path / "nowhere", "is missing")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is missing")


@pytest.mark.parametrize("name", [MANIFEST, "00001.safetensors"])
def test_links_that_leave_the_folder_are_refused(folder, name):
    outside = folder.parent / name
    os.rename(folder / name, outside)
    (folder / name).symlink_to(outside)
    refused(folder, "leaves the folder")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refused(folder, "leads back to itself|is missing")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, "no regular file")
    (folder / name).unlink()
    os.rename(outside, folder / "elsewhere")
    (folder / name).symlink_to("elsewhere")
    assert_same(read(folder), make())


# The batch order


def test_the_batch_order_hash_sees_rows_order_and_cuts():
    schedules = [
        (Shuffled(4, 0), 10, 3),
        (Shuffled(4, 1), 10, 3),
        (Shuffled(5, 0), 10, 3),
        (Shuffled(4, 0, keep_last=False), 10, 3),
        (Shuffled(4, 0, reseed=True), 10, 3),
        (Shuffled(4, 0), 11, 3),
        (Shuffled(4, 0), 10, 4),
        (FullBatch(), 10, 3),
        (FullBatch(), 10, 4),
    ]
    hashes = [batch_order_hash(*arguments) for arguments in schedules]
    assert len(set(hashes)) == len(hashes)
    assert hashes == [batch_order_hash(*arguments) for arguments in schedules]


def test_the_batch_order_hash_is_what_its_description_says():
    digest = hashlib.sha256((3).to_bytes(8, "little") + np.arange(3, dtype="<i8").tobytes()).digest()
    assert batch_order_hash(FullBatch(), 3, 2) == hashlib.sha256(digest + digest).hexdigest()
