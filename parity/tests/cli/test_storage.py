"""Commands on an address of shared storage: what they leave there is what they would leave in a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parity.recording.storage import MARKER, fetched
from parity.tests import suites
from parity.tests.command import Parity, Result, complaint, make_run

pytest.importorskip("fsspec", reason="what the extra storage brings")


def memory() -> Any:
    import fsspec

    return fsspec.filesystem("memory")


@pytest.fixture
def in_memory() -> Iterator[str]:
    memory().store.clear()
    yield "memory://runs"
    memory().store.clear()


@pytest.fixture
def in_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on this machine that answers as S3 does."""
    pytest.importorskip("s3fs", reason="what the extra storage brings")
    server = pytest.importorskip("moto.server", reason="a server like S3, which the extra test brings")
    import s3fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": "knows",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/runs"
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["in_memory", "in_s3"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def tensors(folder: Path) -> dict[str, bytes]:
    """The numbers of every file. What it says beside them stands in no order."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}
    return {name: data[8 + int.from_bytes(data[:8], "little") :] for name, data in files.items()}


def manifests(address: str) -> dict[str, str]:
    """What each recording there says of itself, with the time that it took."""
    with fetched(address) as (folder, _):
        return {path.parent.name: path.read_text() for path in folder.rglob("trajectory.json")}


def judged(result: Result) -> list[Any]:
    return [cell | {"seconds": None} for cell in json.loads(result.out)["cells"]]


@pytest.mark.slow
def test_a_run_leaves_there_what_it_leaves_in_a_folder_and_is_not_run_again(
    parity: Parity, tmp_path: Path, address: str
) -> None:
    package = suites.write_suite(tmp_path, numpy_wrong=suites.WRONG)
    asked = ("run", "--suite", package, "--dtype", "float64", "--json", "-")
    here = parity(*asked, "--out", "here")
    first, made = parity(*asked, "--out", address), manifests(address)
    again = parity(*asked, "--out", address)
    assert here.status == first.status == again.status == 1

    assert judged(first) == judged(again) == judged(here)
    with fetched(address) as (folder, _):
        assert manifests(address) == made
        assert tensors(folder) == tensors(Path("here"))
        assert len(tensors(folder)) >= 3
        assert (folder / "report.html").exists()
        # Why it failed is there, too.
        (explained,) = folder.glob("*/numpy-wrong-float64-cpu/explanation.json")
        assert json.loads(explained.read_text())["explanation"]
    reported = parity("report", address, "--suite", package, "--format", "json")
    assert reported.status == 1
    assert [cell["verdict"] for cell in json.loads(reported.out)["cells"]] == [
        cell["verdict"] for cell in json.loads(here.out)["cells"]
    ]
    one, other = (f"{address}/{suites.CASE}/{name}-float64-cpu" for name in ("numpy", "numpy-wrong"))
    found = parity("diff", one, other, "--suite", package, "--json", "diff.json")
    assert found.status == 1
    (pair,) = json.loads(Path("diff.json").read_text())["pairs"]
    assert (pair["a"], pair["b"]) == (one, other)
    explained_there = parity("explain", one, other, "--suite", package)
    assert explained_there.status == 1
    assert f"{one} against {other}" in explained_there.out


def test_recordings_and_checkpoints_are_read_there(parity: Parity, tmp_path: Path, in_memory: str) -> None:
    import numpy as np
    from safetensors.numpy import save

    make_run(tmp_path / "run")
    for path in (tmp_path / "run").iterdir():  # as another program carries a folder
        memory().put_file(str(path), f"/runs/run/{path.name}")
    memory().pipe("/runs/model.safetensors", save({"kernel": np.ones((2, 3), np.float32)}))
    run, model = f"{in_memory}/run", f"{in_memory}/model.safetensors"
    assert parity("diff", run, tmp_path / "run").status == 0
    assert parity("match", run, run).status == 0
    assert parity("diff", model, model).status == 0
    assert parity("sketch", model, "--out", "sketch").status == 0
    assert parity("diff", "sketch", model).status == 0
    assert parity("diff", run, tmp_path / "run", "--noise", run).status == 2


def test_a_recording_that_failed_there_does_not_pass_for_the_one_before(
    parity: Parity, tmp_path: Path, in_memory: str
) -> None:
    package = suites.write_suite(tmp_path, numpy_two=suites.HONEST)
    asked = ("run", "--suite", package, "--dtype", "float64", "--out", in_memory, "--no-report")
    assert parity(*asked).status == 0
    (tmp_path / package / "toy" / "toy_numpy_two.py").write_text(suites.RAISES)
    assert parity(*asked).status == 3
    report = ("report", in_memory, "--suite", package, "--format", "json")
    cells = json.loads(parity(*report).out)["cells"]
    assert {cell["implementation"]: cell["verdict"] for cell in cells} == {"numpy": "PASS", "numpy-two": "INCONCLUSIVE"}
    (tmp_path / package / "toy" / "toy_numpy_two.py").write_text(suites.HONEST)
    assert parity(*asked).status == 0
    assert parity(*report).status == 0


def test_what_cannot_be_put_there_makes_its_cell_inconclusive_and_comes_there_with_the_next_call(
    parity: Parity, tmp_path: Path, in_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = suites.write_suite(tmp_path, numpy_two=suites.HONEST)
    asked = ("run", "--suite", package, "--dtype", "float64", "--out", in_memory, "--no-report", "--json", "-")
    put = type(memory()).put_file

    def refuse(self: Any, source: str, target: str, **options: Any) -> None:
        if "numpy-two" in target and target.endswith(MARKER):
            raise PermissionError("you may not write there")
        put(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(memory()), "put_file", refuse)
        refused = parity(*asked)
    assert refused.status == 3
    cells = {cell["implementation"]: cell for cell in json.loads(refused.out)["cells"]}
    assert cells["numpy"]["verdict"] == "PASS"
    assert "cannot be brought to storage" in cells["numpy-two"]["reason"]
    assert "you may not write there" in cells["numpy-two"]["reason"]
    assert parity("report", in_memory, "--suite", package, "--format", "md").out.count("numpy-two") == 0
    made = manifests(in_memory)
    assert set(made) == {"numpy-float64-cpu", "numpy-checked-cpu"}
    assert parity(*asked).status == 0
    assert manifests(in_memory).items() >= made.items()
    assert parity("report", in_memory, "--suite", package, "--format", "md").status == 0


@pytest.mark.parametrize("words", [("report",), ("diff", "x"), ("match", "x"), ("explain", "x")])
def test_where_nothing_lies_a_command_that_reads_says_so(
    parity: Parity, in_memory: str, words: tuple[str, ...]
) -> None:
    result = parity(*words, f"{in_memory}/absent")
    assert result.status == 2
    assert complaint(result) == f"parity: {in_memory}/absent: nothing lies there"


def test_storage_that_cannot_be_had_is_said_in_one_line(parity: Parity) -> None:
    result = parity("report", "nothing-like-it://bucket")
    assert result.status == 2
    assert "nothing-like-it://bucket: Protocol not known" in complaint(result)
