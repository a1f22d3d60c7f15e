"""Devices, without a GPU at hand: what is set before an import, what is said, and the GPU tests tried out."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import parity
from impls.mlp import mlp_numpy
from parity.frameworks import DEVICES, FRAMEWORKS, TF32, framework_of, in_tf32, settings_of
from parity.judging.verdict import Verdict
from parity.running.cells import Options, cells, left_out
from parity.running.matrix import Matrix
from parity.running.versions import Versions, find_devices
from parity.running.workers.started import worker_environment
from parity.spec import Case
from parity.suite import SuiteError, load_suite
from parity.tests import test_gpu
from parity.tests.suites import write_suite
from parity.tests.warm import Warm
from parity.trainer import Build

ROOT = Path(parity.__file__).parent.parent
WITH_CUDA = [known.name for known in FRAMEWORKS if not known.never.get("cuda")]
TF32_PRODUCTS = """
from parity.mistakes.catalogue import CATALOGUE
from impls.mlp import mlp_numpy

(tf32,) = (known for known in CATALOGUE if known.name == "tf32-products")

def build(case, dtype, device):
    return tf32.plant(mlp_numpy.build, case, dtype, device)
"""
NO_KERNEL = """
def build(case, dtype, device):
    raise RuntimeError({message!r})
"""
MESSAGES = {
    "geqrf_cpu": "\"geqrf_cpu\" not implemented for 'BFloat16'",
    "Cholesky": "Graph execution error:\n\nNo OpKernel was registered to support Op 'Cholesky' used by {{node C}}",
    "BesselI0": "Could not find device for node: {{node BesselI0}} = BesselI0[T=DT_BFLOAT16]\nAll kernels registered",
    "Qr": "Value for attr 'T' of bfloat16 is not in the list of allowed values: double, float\n\t; "
    "NodeDef: {{node Qr}}; Op<name=Qr; signature=input:T -> q:T, r:T>",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "framework" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or WITH_CUDA
        metafunc.parametrize("framework", [name for name in WITH_CUDA if name in chosen])


def test_what_decides_the_bits_on_a_gpu_is_set_before_the_import() -> None:
    torch, tensorflow, jax = (worker_environment(name, [], "cuda") for name in ("torch", "tensorflow", "jax"))
    assert torch["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert tensorflow["TF_DETERMINISTIC_OPS"] == "1"
    assert tensorflow["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "--xla_gpu_deterministic_ops=true" in jax["XLA_FLAGS"].split()
    assert jax["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    for framework in FRAMEWORKS:
        # With TF32 on nothing else differs: what is seen is TF32.
        assert worker_environment(framework.name, [], TF32) == worker_environment(framework.name, [], "cuda")


def test_a_run_on_the_cpu_leaves_a_gpu_alone() -> None:
    assert worker_environment("jax", [])["JAX_PLATFORMS"] == "cpu"
    assert "gpu" not in worker_environment("jax", [])["XLA_FLAGS"]
    assert worker_environment("keras", [])["CUDA_VISIBLE_DEVICES"] == "-1"


def sees(framework: str, device: str) -> str:
    """The CUDA device that a framework sees, or why it sees none, in a process with the settings of ``device``."""
    # An XLA flag that is not known would have ended the process, whose last words would be the answer.
    try:
        return str(importlib.import_module(trainer_of(framework)).find_cuda())
    except ValueError as error:
        return str(error)


def trainer_of(framework: str) -> str:
    return next(known.trainer for known in FRAMEWORKS if known.name == framework)


@pytest.mark.asks(question=sees)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_framework_starts_with_the_settings_of_every_device_and_says_what_it_sees(
    framework: str, device: str, answer: str
) -> None:
    assert "sees no CUDA device" in answer or device == "cuda"


def test_numpy_is_asked_for_no_device() -> None:
    assert not hasattr(importlib.import_module(trainer_of("numpy")), "find_cuda")


def run_in(framework: str, code: str, *arguments: str) -> str:
    """What a program prints in the environment of a framework's workers."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=worker_environment(framework, sys.path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def precisions(framework: str) -> list[bool]:
    """Whether a run is said to be in TF32, before any was begun and then on each device, as if there were one."""
    label = next(iter(next(known for known in FRAMEWORKS if known.name == framework).packages))
    trainer = importlib.import_module(trainer_of(framework))
    said = [in_tf32(settings_of(label, "cpu"))]
    with ExitStack() as pretended:
        where = importlib.import_module(trainer.device_of.__module__)
        pretended.enter_context(mock.patch.object(where, "find_cuda", return_value="pretended"))
        if framework == "jax":
            pretended.enter_context(mock.patch.object(trainer.jax, "devices", lambda platform: [platform]))
        for device in (*DEVICES, "cpu"):
            trainer.device_of(device)
            said.append(in_tf32(settings_of(label, device)))
    return said


@pytest.mark.asks(question=precisions, device="cuda")  # in whose process nothing is trained
def test_a_run_says_whether_it_was_in_tf32(framework: str, answer: tuple[bool, ...]) -> None:
    # As a worker begins; cpu, cuda, cuda_tf32, and cpu again.
    assert answer == (False, False, False, True, False)


@pytest.mark.parametrize("settings", [{"tf32": True}, {"matmul_precision": None}, {"fp32_precision": "high"}])
def test_a_program_that_says_nothing_of_precision_may_be_in_tf32(settings: dict[str, Any]) -> None:
    assert in_tf32(settings)


def test_a_run_of_numpy_was_never_in_tf32() -> None:
    assert not in_tf32(settings_of("numpy", "cpu"))


def test_both_of_torchs_ways_to_ask_for_tf32_are_seen() -> None:
    """Each in a process of its own: asked in one way, torch does not let itself be asked in the other any more."""
    code = """
import os, torch
from parity.frameworks import in_tf32, settings_of
newer = lambda: setattr(torch.backends, "fp32_precision", "tf32")
for ask in (newer, lambda: torch.set_float32_matmul_precision("high")):
    if os.fork() == 0:
        ask()
        print(in_tf32(settings_of("torch", "cuda")), flush=True)
        os._exit(0)
    os.wait()
"""
    assert run_in("torch", code).split() == ["True", "True"]


def elsewhere(framework: str, case: str | None) -> list[str]:
    """Train, ask and load the models of a case, or all of them, on a second device that any machine has.

    What is on the first cannot be mixed with what is on the second. The result says of each whether it stayed there.
    """
    trainers = importlib.import_module(trainer_of(framework))
    with ExitStack() as patches:
        for place, name, value in second_device(trainers):
            patches.enter_context(mock.patch.object(place, name, value))
        return [
            f"{label} on {entry.case.name}: {stays(entry.case, implementation.build)}"
            for entry in load_suite("impls").entries.values()
            for label, implementation in entry.implementations.items()
            if framework_of(label).name == framework and case in (None, entry.case.name)
        ]


def second_device(trainers: Any) -> list[tuple[Any, str, Any]]:
    """What is to be replaced for a trainer to find another device under the name of a GPU."""
    if hasattr(trainers, "jax"):
        trainers.jax.config.update("jax_num_cpu_devices", 2)
        return [(trainers, "device_of", lambda name: trainers.jax.devices("cpu")[1])]

    # Torch's device without memory works out shapes and dtypes alone, and refuses what lies on another.
    def empty(tensor: Any) -> Any:
        return np.zeros(tensor.shape, "float32" if tensor.is_floating_point() else "int64")

    # Another trainer of the framework has taken the function over by its name.
    known = [module for name, module in sys.modules.items() if name.startswith("parity.trainers.torch")]
    return [
        *((module, "device_of", lambda name: trainers.torch.device("meta")) for module in known),
        (trainers, "_numpy", empty),
        (trainers.torch.Tensor, "item", lambda tensor: 1.0),
    ]


def stays(case: Case, build: Build) -> str:
    """ "stays" where a model can be trained, asked and loaded, otherwise what is raised. A few rows are enough."""
    data = case.data()
    batches = [rows[:8] for rows in next(case.schedule.epochs(len(data.x)))[:2]]
    try:
        trainer = build(case, "float32", "cuda")
        trainer.train([batches], [x[:3] for x in (data.x, data.x_test) if x is not None])
        trainer.predict(data.x[:3])
        trainer.gradients(data.x[batches[0]], data.y[batches[0]])
        trainer.load(trainer.export())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "stays"


# NumPy has one device, and TensorFlow copies from one to another by itself. JAX must be told before it has begun, and
# compiles half a minute for all of its models.
APART = pytest.mark.asks(question=elsewhere, framework="jax", apart="with two devices")


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param("torch", None, marks=pytest.mark.asks(question=elsewhere, framework="torch")),
        pytest.param("jax", "iris-logistic", marks=APART),
        pytest.param("jax", None, marks=[APART, pytest.mark.slow]),
    ],
)
def test_no_model_leaves_the_device_that_it_is_put_on(name: str, case: str | None, answer: tuple[str, ...]) -> None:
    entries = [entry for entry in load_suite("impls").entries.values() if case in (None, entry.case.name)]
    assert len(answer) == sum(framework_of(label).name == name for one in entries for label in one.implementations) > 0
    assert [said for said in answer if not said.endswith(": stays")] == []


def test_the_list_of_devices_gives_a_reason_for_each_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions({})
    found = find_devices(versions, ["numpy"])["numpy"]
    assert (found.available, found.reason) == (False, "NumPy runs on the CPU alone")
    monkeypatch.setattr(versions, "of", lambda implementation: {"torch": None})
    missing = find_devices(versions, ["torch-manual"])["torch-manual"]
    assert not missing.available
    assert "torch not installed" in missing.reason


def test_a_cell_on_a_gpu_that_is_not_there_is_inconclusive_and_says_so(
    framework: str, tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(
        load_suite("impls"), tmp_path, ["iris-logistic"], frameworks=[framework], dtypes=["float64"], device="cuda"
    )
    matrix = Matrix(options)
    monkeypatch.setattr(matrix, "executor", lambda: nullcontext(warm))
    for outcome in matrix.run():
        if outcome.judgement.verdict is Verdict.INCONCLUSIVE:
            assert "sees no CUDA device" in outcome.judgement.reason
        else:  # there is one
            assert outcome.device == "cuda"


def test_a_cell_of_numpy_on_a_gpu_is_refused(tmp_path: Path) -> None:
    options = Options(load_suite("impls"), tmp_path, ["iris-logistic"], frameworks=["numpy"], device="cuda")
    with pytest.raises(SuiteError, match="NumPy runs on the CPU alone"):
        cells(options)


def test_what_a_framework_can_never_have_is_left_out_and_said(tmp_path: Path) -> None:
    options = Options(load_suite("impls"), tmp_path, ["iris-logistic"], dtypes=["float16", "bfloat16"])
    found = {(cell.implementation, cell.dtype) for cell in cells(options)}
    assert ("numpy", "float16") in found
    assert ("numpy", "bfloat16") not in found
    assert ("torch", "bfloat16") in found
    assert left_out(options) == ["NumPy has no bfloat16"]
    assert left_out(replace(options, frameworks=["torch"])) == []
    assert left_out(replace(options, dtypes=["float64"])) == []
    on_cuda = cells(replace(options, dtypes=["float64"], device="cuda"))
    assert {framework_of(cell.implementation).name for cell in on_cuda} == {"torch", "tensorflow", "keras", "jax"}


@pytest.mark.parametrize("op", MESSAGES)
def test_a_missing_kernel_is_named_in_one_line(op: str, tmp_path: Path) -> None:
    package = write_suite(tmp_path, torch=NO_KERNEL.format(message=MESSAGES[op]))
    sys.path.insert(0, str(tmp_path))
    try:
        options = Options(load_suite(package), tmp_path / "out", implementations=["torch"], dtypes=["bfloat16"])
        matrix = Matrix(options)
        matrix.versions = _Installed({})
        (outcome,) = matrix.run()
    finally:
        sys.path.remove(str(tmp_path))
    assert outcome.judgement.verdict is Verdict.INCONCLUSIVE
    assert outcome.judgement.reason == f"torch has no bfloat16 kernel for {op} on cpu"


class _Installed(Versions):
    """Every package is there: the implementation that is run needs none."""

    def of(self, implementation: str) -> dict[str, str | None]:
        return {"numpy": "2"}


def pixels(tmp_path: Path) -> tuple:
    """A suite whose one implementation beside the reference makes every product in TF32, and one that is right."""
    package = f"suite_of_tf32_{tmp_path.name}".replace("-", "_")
    model = tmp_path / package / "mlp"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("from impls import FLOORS\n")
    (model / "__init__.py").touch()
    (model / "spec.py").write_text("from impls.mlp.spec import CASES\n")
    shutil.copy(mlp_numpy.__file__, model)  # its very code, or the floors are of another reference
    (model / "mlp_numpy_right.py").write_text("from impls.mlp.mlp_numpy import build\n")
    (model / "mlp_numpy_tf32.py").write_text(TF32_PRODUCTS)
    suite = load_suite(package)
    return suite, suite.entry(test_gpu.WIDE)


@pytest.mark.slow
def test_the_test_for_tf32_passes_where_products_are_tf32s_and_fails_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    suite, entry = pixels(tmp_path)
    test_gpu.assert_tf32_is_seen(suite, entry, "numpy-tf32", "cpu", tmp_path / "out")
    with pytest.raises(AssertionError, match="with TF32 on: PASS"):
        test_gpu.assert_tf32_is_seen(suite, entry, "numpy-right", "cpu", tmp_path / "out")
    monkeypatch.setattr(test_gpu, "largest_error_of_tf32", lambda *of: 1e-9)
    with pytest.raises(AssertionError, match=r"off, where factors of ten bits make it 1e-09"):
        test_gpu.assert_tf32_is_seen(suite, entry, "numpy-tf32", "cpu", tmp_path / "out")


def gpu_tests(arguments: list[str]) -> tuple[int, str]:
    """The status of pytest on the tests that need a GPU, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "parity/tests/test_gpu.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    return done.returncode, done.stdout


def asks_gpu_tests(*arguments: str) -> pytest.MarkDecorator:
    apart = {"framework": "numpy", "apart": "pytest on the tests that need a GPU"}
    return pytest.mark.asks(question=gpu_tests, arguments=["--parity-case", "iris-logistic", *arguments], **apart)


@asks_gpu_tests()
def test_gpu_tests_are_left_out_unless_asked_for_and_said_to_be(answer: tuple[int, str]) -> None:
    status, said = answer
    assert status == 5, said
    assert "deselected: run them with '-m gpu' on a machine with a CUDA device" in said


@asks_gpu_tests("-m", "gpu", "--parity-framework", "torch")
def test_gpu_tests_without_a_gpu_say_why_nothing_ran(answer: tuple[int, str]) -> None:
    status, said = answer
    if "sees no CUDA device" in said or "not installed" in said:
        assert status == 5, said
        assert " of torch deselected: torch" in said
        assert "nothing was run: no framework here sees a CUDA device" in said
        assert "passed" not in said
    else:
        assert status == 0, said


@asks_gpu_tests("-m", "gpu", "--parity-gpu-device", "cpu", "--parity-framework", "numpy", "-k", "not tf32")
def test_the_gpu_tests_run_from_end_to_end_on_the_cpu(answer: tuple[int, str]) -> None:
    status, said = answer
    assert status == 0, said
    assert "4 passed" in said
