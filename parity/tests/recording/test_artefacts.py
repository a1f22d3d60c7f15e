"""Checkpoints of every library are read as that library reads them, without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from parity.recording.artefacts import read_artefact
from parity.tests.recording.foreign_files import (
    Said,
    of_keras,
    of_orbax,
    of_orbax_sharded,
    of_tensorflow,
    of_torch,
)
from parity.trajectory import TrajectoryError


@pytest.fixture
def made(answer: tuple[str, Said]) -> tuple[Path, Said]:
    """The folder of what a library wrote, and what it says that it holds."""
    return Path(answer[0]), answer[1]


def torch_files(folder: str) -> tuple[str, Said]:
    return folder, of_torch(folder)


def keras_files(folder: str) -> tuple[str, Said]:
    return folder, of_keras(folder)


def orbax_files(folder: str) -> tuple[str, Said]:
    return folder, of_orbax(folder)


def sharded_orbax_files(folder: str) -> tuple[str, Said]:
    return folder, of_orbax_sharded(folder)


def event_files(folder: str) -> tuple[str, Said]:
    return folder, of_tensorflow(folder)


def holds(path: Path, expected: dict) -> None:
    found = read_artefact(path)
    assert set(found.tensors) == set(expected)
    for name, values in found.tensors.items():
        assert values.tolist() == expected[name], name
        assert found.tensors.entries[name].shape == values.shape
        assert found.tensors.entries[name].dtype == values.dtype


@pytest.mark.asks(question=torch_files, framework="torch")
def test_what_torch_saves_is_read_without_it(made: tuple[Path, Said]) -> None:
    folder, said = made
    for name in ("state.pt", "whole.pth", "narrow.bin", "views.pt", "kinds.pt", "tied.pt", "narrow.safetensors"):
        holds(folder / name, said[name])
    state = read_artefact(folder / "whole.pth").state
    for name, values in said["state of whole.pth"].items():
        assert state[name].tolist() == values
    assert read_artefact(folder / "narrow.bin").tensors.entries["0.weight"].narrow


@pytest.mark.asks(question=torch_files, framework="torch")
def test_a_whole_module_and_an_old_pickle_are_refused_with_what_to_do(made: tuple[Path, Said]) -> None:
    with pytest.raises(TrajectoryError, match=r"names 'torch.nn.modules.container.Sequential'.*model.state_dict\(\)"):
        read_artefact(made[0] / "module.pt")
    with pytest.raises(TrajectoryError, match=r"is a pickle, which would run code: save"):
        read_artefact(made[0] / "old.pt")


@pytest.mark.asks(question=keras_files, framework="keras")
def test_what_keras_saves_is_read_without_it(made: tuple[Path, Said]) -> None:
    folder, said = made
    for name, expected in said.items():
        holds(folder / name, expected)
    assert "optimizer/vars/2" in read_artefact(folder / "m.keras").state


@pytest.mark.asks(question=orbax_files, framework="jax")
def test_what_orbax_saves_is_read_without_jax(made: tuple[Path, Said]) -> None:
    folder, said = made
    for name, expected in said.items():
        holds(folder / name, expected)
    assert set(read_artefact(folder / "ocdbt").state) == {"opt_state/0/mu", "step"}
    with pytest.raises(TrajectoryError, match=r"several checkpoints \('3'\): name one of them"):
        read_artefact(folder / "managed")


@pytest.mark.asks(question=sharded_orbax_files, framework="jax")
def test_arrays_that_orbax_saved_from_several_devices_are_joined(made: tuple[Path, Said]) -> None:
    folder, said = made
    assert len(list((folder / "zarr" / "both").iterdir())) > 4  # a file for each device's part
    for name in ("ocdbt", "zarr"):
        holds(folder / name, said)


@pytest.mark.asks(question=event_files, framework="tensorflow")
def test_scalars_of_event_files_are_read_without_tensorflow(made: tuple[Path, Said]) -> None:
    folder, said = made
    for name, expected in said.items():
        for path in (folder / name, next((folder / name).iterdir())):
            found = read_artefact(path).losses
            assert set(found) == set(expected)
            for loss, values in expected.items():
                assert found[loss].steps.tolist() == list(range(5))
                assert found[loss].values.tolist() == np.float32(values).tolist()


def test_a_missing_library_is_named_with_the_extra_that_brings_it(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "m.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrajectoryError, match=r"m.weights.h5: to read it takes h5py: .*\[h5\]"):
        read_artefact(path)
    (tmp_path / "_METADATA").write_text("{}")
    with pytest.raises(TrajectoryError, match=r"to read it takes tensorstore: .*\[orbax\]"):
        read_artefact(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_archives_are_read(tmp_path: Path, save) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "dense/kernel": generator.normal(size=(3, 2)).astype(np.float32),
        "turned": np.asfortranarray(generator.normal(size=(3, 2))),
        "count": np.arange(3, dtype=">i4"),
        "one": np.array(True),
        "none": np.zeros((0, 2), np.float16),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_artefact(tmp_path / "a.npz")
    assert found.kind == "NumPy archive"
    assert set(found.tensors) == set(arrays)
    for name, values in arrays.items():
        assert np.array_equal(found.tensors[name], values)
        assert found.tensors[name].dtype == values.dtype
    np.save(tmp_path / "kernel.npy", arrays["turned"])
    assert np.array_equal(read_artefact(tmp_path / "kernel.npy").tensors["kernel"], arrays["turned"])


def test_objects_in_numpy_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(TrajectoryError, match="objects, which are pickled"):
        read_artefact(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", a=np.array(["text"]))
    with pytest.raises(TrajectoryError, match="'a' holds '<U4': save numbers"):
        read_artefact(tmp_path / "a.npz")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    tensors = {f"layers.{k}.weight": np.full((2, 2), k, np.float32) for k in range(3)}
    places = {name: f"model-0000{k % 2}-of-00002.safetensors" for k, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: value for name, value in tensors.items() if places[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return tmp_path


def test_a_hugging_face_folder_is_read_shard_by_shard(sharded: Path) -> None:
    for path in (sharded, sharded / "model.safetensors.index.json"):
        found = read_artefact(path).tensors
        assert {name: value[0, 0] for name, value in found.items()} == {f"layers.{k}.weight": k for k in range(3)}


def test_an_index_that_lies_is_refused(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]

    def refused(weight_map: object, match: str) -> None:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(TrajectoryError, match=match):
            read_artefact(sharded)

    refused({**places, "more": "model-00000-of-00002.safetensors"}, "'more' is not in the shard that it names")
    refused({**places, "more": "../secret.safetensors"}, "no plain name")
    refused({**places, "more": "gone.safetensors"}, "is not there: download the folder whole")
    refused([], "no weight_map")
    refused({"a": 1}, "no weight_map")


@pytest.mark.parametrize("name", ["model.safetensors", "model-00000-of-00002.safetensors"])
def test_no_link_out_of_a_folder_is_followed_and_one_that_is_named_is(sharded: Path, tmp_path_factory, name) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    save_file({"layers.0.weight": np.zeros(1), "layers.2.weight": np.zeros(1)}, secret)
    if name == "model.safetensors":
        (sharded / "model.safetensors.index.json").unlink()
    (sharded / name).unlink(missing_ok=True)
    (sharded / name).symlink_to(secret)
    with pytest.raises(TrajectoryError, match="a link that leaves the folder"):
        read_artefact(sharded)
    assert len(read_artefact(sharded / name).tensors) == 2


def test_a_dtype_that_numpy_lacks_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = {
        "a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]},
        "b": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    found = read_artefact(path)
    assert list(found.tensors) == ["b"]
    assert found.notes == ("'a' is F8_E4M3, which NumPy lacks: it is left out",)


def test_tensors_stay_on_disk(tmp_path: Path) -> None:
    """A checkpoint of 1 GiB that has holes is read at once, and so is one number of it."""
    path = tmp_path / "a.safetensors"
    size = 1 << 30
    text = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    assert read_artefact(path).tensors["a"][size // 8] == 0
