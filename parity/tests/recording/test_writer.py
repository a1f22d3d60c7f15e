"""Runs that end before their time, and what the writer refuses."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from parity.recording.places import partial_path
from parity.recording.reader import read
from parity.recording.writer import SHARD_BYTES, Writer, write
from parity.tests.recording.runs import META, alter, assert_same, chunks_of, make, manifest, refused, rewrite, save_run
from parity.trajectory import Chunk, TrajectoryError, gather


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


def full_disk(path, data):
    raise OSError(28, "No space left on device")


def test_updates_that_a_full_disk_refused_are_written_when_there_is_room(tmp_path, monkeypatch):
    run, values = make(), np.arange(4.0)
    monkeypatch.setattr("parity.recording.writer.SHARD_BYTES", 1)
    first, *rest = chunks_of(run, (1, 4))
    with Writer(tmp_path / "run", META) as writer:
        writer.add(first)
        with monkeypatch.context() as while_full:
            while_full.setattr("parity.recording.writer.write_whole", full_disk)
            writer.add_steps({"0/activations/dense": values})  # fails beside the run
            with pytest.raises(OSError, match="No space left"):
                writer.add_steps({"1/activations/dense": values + 1})
        for chunk in rest:
            writer.add(chunk)
    found = read(tmp_path / "run")
    assert_same(found, run)
    for number in range(2):
        np.testing.assert_array_equal(found.steps[f"{number}/activations/dense"], values + number)


def test_a_run_that_ends_on_a_full_disk_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("parity.recording.writer.SHARD_BYTES", 1)
    writer = Writer(tmp_path / "run", META)
    writer.add(chunks_of(make(), ())[0])
    monkeypatch.setattr("parity.recording.writer.write_whole", full_disk)
    writer.add_steps({"0/activations/dense": np.arange(4.0)})
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    assert not (tmp_path / "run").exists()


def test_a_large_shard_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("parity.recording.writer.BESIDE_BYTES", 1)
    with Writer(tmp_path / "run", META) as writer:
        writer.add(chunks_of(make(), ())[0])
        for number in range(3):
            writer.add_steps({f"{number}/activations/dense": np.arange(4.0)})
            assert len(manifest(writer.partial)["shards"]) == number + 1


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


def with_updates_between(folder):
    """A run of which two updates were written while their snapshot was still to come."""
    run, values = make(3), np.arange(float(SHARD_BYTES // 8))
    with Writer(folder, META) as writer:
        first, *rest = chunks_of(run, (1, 2))
        writer.add(first)
        for number in range(2):
            writer.add_steps({f"{number}/activations/dense": values + number})
        for chunk in rest:
            writer.add(chunk, {"2/activations/dense": values[:3]} if chunk is rest[-1] else None)
    return run, values


def test_updates_before_their_snapshot_are_written_as_they_come(tmp_path):
    run, values = with_updates_between(tmp_path / "run")
    entries = manifest(tmp_path / "run")["shards"]
    assert ["first_epoch" in entry for entry in entries] == [True, False, True]
    found = read(tmp_path / "run")
    assert_same(found, run)
    for number in range(2):
        np.testing.assert_array_equal(found.steps[f"{number}/activations/dense"], values + number)
    np.testing.assert_array_equal(found.steps["2/activations/dense"], values[:3])


def test_updates_without_a_snapshot_before_them_are_refused(tmp_path):
    writer = Writer(tmp_path / "run", META)
    with pytest.raises(ValueError, match="between the snapshots"):
        writer.add_steps({"0/loss": np.ones(())})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("steps/")], "no snapshot and no update"),
        (lambda t: t.__setitem__("params/scale", np.zeros(0, "f4")), "parameters, and no snapshot"),
        (lambda t: t.__setitem__("loss", np.zeros((1, 3), "f4")), "loss has rows where no epoch"),
    ],
)
def test_a_shard_of_updates_holds_nothing_else(tmp_path, change, match):
    folder = tmp_path / "run"
    with_updates_between(folder)
    alter(folder, change, "00001.safetensors")
    refused(folder, match)


def test_a_shard_of_updates_names_no_epoch_and_is_not_the_first(tmp_path):
    folder = tmp_path / "run"
    with_updates_between(folder)
    first, between, last = manifest(folder)["shards"]
    rewrite(folder, shards=[first, between | {"first_epoch": 1}, last])
    refused(folder, "says otherwise")
    rewrite(folder, shards=[between, last])
    refused(folder, "the first shard holds no snapshot")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", [".run.partial", ".run.old"])
def test_a_link_that_was_planted_is_taken_away_and_not_followed(
    tmp_path: Path, name: str, there: bool, resume: bool
) -> None:
    mine = tmp_path / "mine"
    if there:
        mine.mkdir()
        (mine / "file").write_text("of mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).symlink_to(mine)
    for _ in range(2):  # the second has an earlier result to put aside
        with Writer(tmp_path / "runs" / "run", {"dtype": "float32", "key": "k"}, resume=resume) as writer:
            writer.add(Chunk(np.arange(1), np.zeros((0, 0)), {"w": np.zeros((1, 2), np.float32)}, {}))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]
    assert not (tmp_path / "runs" / "run").is_symlink()
    assert not there or [path.name for path in mine.iterdir()] == ["file"]
