"""What lies in a folder of results is kept where nothing changed, and made again where anything did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.running.keys import harness_code, source_code
from parity.running.workers import pool
from parity.suite import load_suite
from parity.tests import suites
from parity.tests.command import Parity, complaint, contents
from parity.tests.suites import CASE, strict_json, write_suite


def test_what_has_not_changed_is_not_run_again(parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_suite(tmp_path, numpy_counted=suites.COUNTED)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    first = parity(*command)
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_Worker", None)  # Whoever starts one fails.
        second = parity(*command)
    assert strict_json(second.out) == strict_json(first.out)
    assert contents(tmp_path / "out") == before

    # --fresh runs it again, and so does a change of the implementation's source.
    manifest = tmp_path / "out" / CASE / "numpy-counted-float64-cpu" / MANIFEST
    assert parity(*command, "--fresh").status == 0
    fresh = manifest.stat().st_mtime_ns
    assert fresh > before[str(manifest.relative_to(tmp_path / "out"))][0]
    source = tmp_path / package / "toy" / "toy_numpy_counted.py"
    source.write_text(source.read_text() + "# changed\n")
    harness_code.cache_clear()  # A process reads its sources once.
    assert parity(*command).status == 0
    assert manifest.stat().st_mtime_ns > fresh


@pytest.mark.slow
def test_what_is_run_again_is_judged_and_not_what_lay_there(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=suites.HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(suites.WRONG)
    harness_code.cache_clear()  # A process reads its sources once.
    assert parity(*command).status == 1


@pytest.mark.parametrize(
    "helper",
    [
        "toy/layers.py",
        *(
            pytest.param(helper, marks=pytest.mark.slow)
            for helper in ("layers.py", "common/layers.py", "toy/toy_numpy_other.py")
        ),
    ],
)
def test_what_an_implementation_imports_from_its_suite_is_part_of_it(
    parity: Parity, tmp_path: Path, helper: str
) -> None:
    package = write_suite(tmp_path)
    imported = tmp_path / package / helper
    imported.parent.mkdir(exist_ok=True)
    imported.write_text(suites.HONEST)
    module = ".".join((package, *Path(helper).with_suffix("").parts))
    for label in ("numpy_mine", "numpy_own"):
        source = f"from {module} import build\n" if label == "numpy_mine" else suites.HONEST
        (tmp_path / package / "toy" / f"toy_{label}.py").write_text(source)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    own = tmp_path / "out" / CASE / "numpy-own-float64-cpu" / MANIFEST
    before = own.stat().st_mtime_ns
    imported.write_text(suites.WRONG)
    harness_code.cache_clear()
    found = parity(*command, "--json", "-")
    verdicts = {cell["implementation"]: cell["verdict"] for cell in strict_json(found.out, "run")["cells"]}
    assert verdicts["numpy-mine"] == "FAIL"
    assert verdicts["numpy-own"] == "PASS"
    # Another implementation that it does not name is none of its business.
    assert (own.stat().st_mtime_ns == before) == helper.startswith("toy/toy_")


def test_what_no_python_would_import_is_no_part_of_a_suite(tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        entry = load_suite(package).entry(CASE)
    finally:
        sys.path.remove(str(tmp_path))
    before = entry.sources("numpy")
    hidden = tmp_path / package / "toy" / ".ipynb_checkpoints" / "layers-checkpoint.py"
    hidden.parent.mkdir()
    for path in (hidden, tmp_path / package / "toy" / "._spec.py"):
        path.write_text("no Python\n")
    assert entry.sources("numpy") == before


def test_a_helper_that_is_nested_too_deeply_to_be_read_counts_as_it_stands() -> None:
    deep = ("x = " + "+".join("1" * 5000)).encode()
    assert source_code(deep) == deep


STEEP = """
from parity.tests import toy
from parity.trainers.numpy_trainer import NumpyTrainer

def forward(params, x):
    prediction, kept = toy.forward(params, x)
    return 12 * prediction, kept

def backward(params, kept, d_prediction):
    return toy.backward(params, kept, 12 * d_prediction)

def build(case, dtype, device):
    return NumpyTrainer(case, dtype, forward, backward)
"""


@pytest.mark.slow
def test_a_noise_floor_goes_with_the_code_of_the_reference(parity: Parity, tmp_path: Path) -> None:
    """What a reference that diverges strays from itself would let any mistake pass."""
    package = write_suite(tmp_path, numpy_wrong=suites.WRONG)
    reference = tmp_path / package / "toy" / "toy_numpy.py"
    reference.write_text(STEEP)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float32", "--impl", "numpy-wrong")
    parity(*command)
    reference.write_text(suites.HONEST)
    harness_code.cache_clear()
    assert parity(*command).status == 1
    assert parity("report", "out", "--suite", package, "--format", "md").status == 1
    # What is said of the code is no code.
    floor = tmp_path / "out" / "floors" / f"{CASE}.safetensors"
    before = floor.stat().st_mtime_ns
    reference.write_text(f'"""The reference."""\n\n{suites.HONEST}  # as it was\n')
    harness_code.cache_clear()
    assert parity(*command).status == 1
    assert floor.stat().st_mtime_ns == before
    # Nothing else says that the harness measures in another way.
    assert parity(*command, "--fresh").status == 1
    assert floor.stat().st_mtime_ns > before


@pytest.mark.slow
def test_a_run_in_lockstep_starts_from_the_states_of_the_reference_as_it_is(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy=suites.WRONG, numpy_right=suites.HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--lockstep", "2")
    assert parity(*command).status == 1
    (tmp_path / package / "toy" / "toy_numpy.py").write_text(suites.HONEST)
    harness_code.cache_clear()
    assert parity(*command).status == 0


@pytest.mark.slow
def test_a_floor_that_was_shipped_anew_takes_the_place_of_its_copy(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    init = tmp_path / package / "__init__.py"
    init.write_text("from pathlib import Path\nFLOORS = Path(__file__).parent / 'floors'\n")
    command = ("--suite", package, "--out", "out")
    result = parity("floor", *command, "--json", "-")
    assert result.status == 0
    (found,) = strict_json(result.out, "floor")["floors"]
    assert (Path(found["file"]).name, found["measured"]) == (f"{CASE}.safetensors", True)
    assert parity("run", *command).status == 0
    shipped = tmp_path / package / "floors" / f"{CASE}.safetensors"
    copy = tmp_path / "out" / "floors" / shipped.name
    assert copy.read_bytes() == shipped.read_bytes()
    copy.write_bytes(shipped.read_bytes().replace(b'"runs":"16"', b'"runs":"15"'))
    assert parity("run", *command, "--fresh").status == 0
    assert copy.read_bytes() == shipped.read_bytes()


@pytest.mark.slow
def test_a_shorter_run_is_another_run(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    for epochs in (3, 2, 5):
        assert parity("run", "--suite", package, "--out", "out", "--epochs", str(epochs)).status == 0
        assert read(tmp_path / "out" / CASE / "numpy-float64-cpu").epochs.tolist() == list(range(epochs + 1))


def test_a_floor_that_ends_between_two_snapshots_ends_at_the_first_of_them(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=suites.HONEST)
    (tmp_path / package / "toy" / "spec.py").write_text(
        "from dataclasses import replace\nfrom parity.spec import Policy\nfrom parity.tests import toy\n"
        "CASES = (replace(toy.MOMENTUM, every=4, policy=Policy(floor_epochs=10), epochs=20),)\n"
    )
    result = parity("run", "--suite", package, "--out", "out", "--lockstep", "4")
    assert result.status == 0, result.out


def test_a_damaged_result_is_made_again(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    shard = tmp_path / "out" / CASE / "numpy-float64-cpu" / "00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8])
    assert parity(*command).status == 0
    assert shard.read_bytes() == whole


def test_a_damaged_noise_floor_is_said_in_a_line(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    floor = tmp_path / "out" / "floors" / f"{CASE}.safetensors"
    floor.write_bytes(floor.read_bytes()[:-8])
    result = parity(*command)
    assert result.status == 2
    assert "is damaged" in complaint(result)
    assert "delete it" in result.err
