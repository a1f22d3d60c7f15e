"""Devices, without a GPU at hand: what is set before an import, what is said, and the GPU tests tried out."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import parity
from impls.mlp import mlp_numpy
from parity.frameworks import FRAMEWORKS, TF32, framework_of, in_tf32, settings_of
from parity.judging.verdict import Verdict
from parity.running.cells import Options, cells, left_out
from parity.running.executor import Environment
from parity.running.jobs import FindDevice
from parity.running.matrix import Matrix
from parity.running.pool import Pool, worker_environment
from parity.running.versions import Versions, find_devices
from parity.suite import SuiteError, load_suite
from parity.tests import test_gpu
from parity.tests.suites import each_framework, write_suite

ROOT = Path(parity.__file__).parent.parent
pytest_generate_tests = each_framework
TF32_PRODUCTS = """
from parity.mistakes.catalogue import CATALOGUE
from impls.mlp import mlp_numpy

(tf32,) = (known for known in CATALOGUE if known.name == "tf32-products")

def build(case, dtype, device):
    return tf32.plant(mlp_numpy.build, case, dtype, device)
"""
# What a run in TF32 and others are recorded with, as far as it can be tried where no GPU is.
PRECISIONS = """
import importlib, sys
from types import SimpleNamespace
from parity.frameworks import DEVICES, framework_of, in_tf32, settings_of

label = sys.argv[1]
trainer = importlib.import_module(framework_of(label).trainer)
said = [in_tf32(settings_of(label, "cpu"))]
importlib.import_module(trainer.device_of.__module__).find_cuda = lambda: "pretended"
if label == "jax":
    trainer.jax.devices = lambda platform: [platform]
for device in (*DEVICES, "cpu"):
    trainer.device_of(device)
    said.append(in_tf32(settings_of(label, device)))
print(*said)
"""
# Trains, asks and loads on a second device that any machine has: what stays on the first cannot be mixed with it.
ELSEWHERE = """
import itertools, sys
from parity.frameworks import framework_of
from parity.suite import load_suite
from parity.trainers import {trainer} as trainers

{device}
suite = load_suite("impls")
for name, entry in suite.entries.items():
    case, data = entry.case, entry.case.data()
    segments = [batches[:2] for batches in itertools.islice(case.schedule.epochs(len(data.x)), 2)]
    inputs = [x for x in (data.x, data.x_test) if x is not None]
    for label, implementation in entry.implementations.items():
        if framework_of(label).name == sys.argv[1]:
            try:
                trainer = implementation.build(case, "float32", "cuda")
                trainer.train(segments, inputs)
                trainer.predict(data.x[:3])
                trainer.gradients(data.x[segments[0][0]], data.y[segments[0][0]])
                trainer.load(trainer.export())
            except Exception as error:
                raise SystemExit(f"{{label}} on {{name}}: {{type(error).__name__}}: {{error}}") from error
            print(name, label)
"""
SECOND = {
    # Torch's device without memory works out shapes and dtypes alone, and refuses what lies on another.
    "torch": """
trainers.device_of = lambda name: trainers.torch.device("meta")
trainers._numpy = lambda tensor: trainers.np.zeros(tensor.shape, "float32" if tensor.is_floating_point() else "int64")
trainers.torch.Tensor.item = lambda tensor: 1.0
""",
    "jax": """
trainers.jax.config.update("jax_num_cpu_devices", 2)
trainers.device_of = lambda name: trainers.jax.devices("cpu")[1]
""",
}
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


def test_a_framework_starts_with_the_settings_of_every_device_and_says_what_it_sees(framework: str) -> None:
    (known,) = (one for one in FRAMEWORKS if one.name == framework)
    if known.never.get("cuda"):
        assert not hasattr(importlib.import_module(known.trainer), "find_cuda")
        return
    for device in ("cpu", "cuda"):
        with Pool(1) as pool:
            job = pool.submit(FindDevice(Environment(framework, device), known.trainer))
            # An XLA flag that is not known would end the process, whose last words these would be.
            said = str(job.exception() or job.result())
            assert "sees no CUDA device" in said or (device == "cuda" and job.exception() is None)


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


def test_a_run_says_whether_it_was_in_tf32(framework: str) -> None:
    (known,) = (one for one in FRAMEWORKS if one.name == framework)
    if known.never.get("cuda"):
        assert not in_tf32(settings_of("numpy", "cpu"))
        return
    said = run_in(framework, PRECISIONS, next(iter(known.packages))).split()
    # cpu, cuda, cuda_tf32, and cpu again; before them a program that says nothing of precision.
    assert said[1:] == ["False", "False", "True", "False"]
    assert said[0] == ("False" if framework == "torch" else "True")


@pytest.mark.parametrize("asked", ["backends.fp32_precision = 'tf32'", "set_float32_matmul_precision('high')"])
def test_both_of_torchs_ways_to_ask_for_tf32_are_seen(asked: str) -> None:
    known = "from parity.frameworks import in_tf32, settings_of"
    code = f"import torch\n{known}\ntorch.{asked}\nprint(in_tf32(settings_of('torch', 'cuda')))"
    assert run_in("torch", code).split() == ["True"]


@pytest.mark.parametrize("name", SECOND)  # NumPy has one device, and TensorFlow copies from one to another by itself
def test_no_model_leaves_the_device_that_it_is_put_on(name: str) -> None:
    trainer = next(one.trainer for one in FRAMEWORKS if one.name == name).rpartition(".")[2]
    tried = run_in(name, ELSEWHERE.format(trainer=trainer, device=SECOND[name]), name).splitlines()
    entries = load_suite("impls").entries.values()
    assert len(tried) == sum(framework_of(label).name == name for one in entries for label in one.implementations)


def test_the_list_of_devices_gives_a_reason_for_each_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions({})
    found = find_devices(versions, ["numpy"])["numpy"]
    assert (found.available, found.reason) == (False, "NumPy runs on the CPU alone")
    monkeypatch.setattr(versions, "of", lambda implementation: {"torch": None})
    missing = find_devices(versions, ["torch-manual"])["torch-manual"]
    assert not missing.available
    assert "torch not installed" in missing.reason


def test_a_cell_on_a_gpu_that_is_not_there_is_inconclusive_and_says_so(framework: str, tmp_path: Path) -> None:
    if framework == "numpy":
        with pytest.raises(SuiteError, match="NumPy runs on the CPU alone"):
            cells(Options(load_suite("impls"), tmp_path, ["iris-logistic"], frameworks=["numpy"], device="cuda"))
        return
    options = Options(
        load_suite("impls"), tmp_path, ["iris-logistic"], frameworks=[framework], dtypes=["float64"], device="cuda"
    )
    for outcome in Matrix(options).run():
        if outcome.judgement.verdict is Verdict.INCONCLUSIVE:
            assert "sees no CUDA device" in outcome.judgement.reason
        else:  # there is one
            assert outcome.device == "cuda"


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


def pytest_on_gpu_tests(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "parity/tests/test_gpu.py", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def test_gpu_tests_are_left_out_unless_asked_for_and_said_to_be() -> None:
    done = pytest_on_gpu_tests("--parity-case", "iris-logistic")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "deselected: run them with '-m gpu' on a machine with a CUDA device" in done.stdout


def test_gpu_tests_without_a_gpu_say_why_nothing_ran(tmp_path: Path) -> None:
    done = pytest_on_gpu_tests("-m", "gpu", "--parity-case", "iris-logistic", "--parity-framework", "torch")
    if "sees no CUDA device" in done.stdout or "not installed" in done.stdout:
        assert done.returncode == 5, done.stdout
        assert " of torch deselected: torch" in done.stdout
        assert "nothing was run: no framework here sees a CUDA device" in done.stdout
        assert "passed" not in done.stdout
    else:
        assert done.returncode == 0, done.stdout


def test_the_gpu_tests_run_from_end_to_end_on_the_cpu() -> None:
    chosen = ("--parity-case", "iris-logistic", "--parity-framework", "numpy", "-k", "not tf32")
    done = pytest_on_gpu_tests("-m", "gpu", "--parity-gpu-device", "cpu", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
