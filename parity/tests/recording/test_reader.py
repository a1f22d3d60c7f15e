"""Folders that are not what they should be: nothing in them is trusted."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.recording.format import MANIFEST, MANIFEST_BYTES
from parity.recording.reader import read
from parity.tests.recording.runs import (
    alter,
    assert_same,
    exhaustive,
    make,
    manifest,
    refused,
    refused_or_sound,
    reseal_header,
    rewrite,
    save_run,
    seal,
)

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
    refused(folder, "must be a plain name|cannot be encoded")


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
        ([first, first], "names the shard 00000.safetensors twice"),
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


def test_a_manifest_too_large_is_refused(folder):
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes() + b" " * MANIFEST_BYTES)
    refused(folder, "is larger than 16 MiB")


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
