"""On a GPU: every case in every framework that sees one, and TF32 turned on to be caught.

    pytest -m gpu

A run on the device is held against the NumPy reference, which is float64 and on the CPU, and against the same
implementation's run on the CPU, at every epoch and by the tolerance policy that holds on the CPU as well. Without
``-m gpu`` these tests are left out, and so are those of a framework that sees no GPU; the summary says which and why.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.frameworks import TF32, framework_of
from parity.judging.diff import compare
from parity.judging.verdict import Verdict
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.mistake import Unplanted
from parity.running.cells import Options
from parity.running.matrix import Matrix, Outcome
from parity.suite import Entry, Suite, SuiteError, load_suite

WIDE = "mnist-mlp"
"""The case whose first product is wide enough for tensor cores: 784 pixels of each row of a batch."""
TIMES = 6.0
"""How far from its prediction the size of TF32's error may be, either way: truncated operands make it 3.7 times as
large, those of the first product alone .44, and bfloat16, which is not TF32, 9."""


@dataclass(frozen=True)
class Runs:
    """What became of every cell: its outcome on the device, and where it and its run on the CPU were recorded."""

    matrix: Matrix
    outcomes: dict[str, Outcome]

    def pairs(self, name: str) -> list[tuple[Path, Path]]:
        """The folders of a cell's runs on the device and on the CPU: free, and in lockstep where it has such a run."""
        (cell,) = (cell for cell in self.matrix.cells if cell.name == name)
        out = self.matrix.options.out
        lengths = dict.fromkeys((None, self.matrix.options.stretch(cell)))
        return [(cell.folder(out, length), replace(cell, device="cpu").folder(out, length)) for length in lengths]


def matrix_of(config: pytest.Config, device: str, out: Path) -> Matrix:
    suite = load_suite(config.getoption("--parity-suite"))
    named = {what: config.getoption(f"--parity-{what}") for what in ("case", "impl", "framework")}
    return Matrix(
        Options(
            suite,
            out,
            cases=named["case"],
            implementations=named["impl"],
            frameworks=named["framework"],
            device=device,
            jobs=max(2, min(4, os.cpu_count() or 1)),
        )
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device = metafunc.config.getoption("--parity-gpu-device")
    try:
        cells = matrix_of(metafunc.config, device, Path()).cells
    except SuiteError as error:  # NumPy alone was asked for, which is on no GPU
        if "gpu" in metafunc.config.getoption("-m"):
            raise pytest.UsageError(str(error)) from error
        cells = []
    if "name" in metafunc.fixturenames:
        metafunc.parametrize(
            ("framework", "name"),
            [(framework_of(cell.implementation).name, cell.name) for cell in cells],
            ids=[cell.name for cell in cells],
        )
    else:
        frameworks = {framework_of(cell.implementation).name: None for cell in cells}
        metafunc.parametrize("framework", list(frameworks))


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every selected cell, recorded on the device and on the CPU; each verdict is printed as it falls.

    All is recorded before the first test: what was seen until then is not lost where time runs out.
    """
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    report = request.config.pluginmanager.get_plugin("terminalreporter")

    def say(outcome: Outcome) -> None:
        found = outcome.judgement
        ratio = "" if found.ratio is None else f" {found.ratio:.2g} of the tolerance"
        with capture.global_and_fixture_disabled():
            report.write_line(f"{outcome.name} {outcome.device}: {found.verdict}{ratio} {found.reason}".rstrip())

    items = [item for item in request.session.items if item.get_closest_marker("gpu")]
    selected = {item.callspec.params.get("name") for item in items}
    out = tmp_path_factory.mktemp("gpu")
    matrices = [
        matrix_of(request.config, device, out) for device in (request.config.getoption("--parity-gpu-device"), "cpu")
    ]
    outcomes = []
    for matrix in matrices:
        matrix.cells = [cell for cell in matrix.cells if cell.name in selected]
        outcomes.append({outcome.name: outcome for outcome in matrix.run(on_outcome=say)})
    return Runs(matrices[0], outcomes[0])


@pytest.mark.gpu
def test_a_run_on_the_gpu_follows_the_reference(framework: str, name: str, runs: Runs) -> None:
    outcome = runs.outcomes[name]
    if outcome.judgement.verdict is not Verdict.PASS:
        sentence = outcome.explanation["sentence"] if outcome.explanation else outcome.trace
        pytest.fail(f"{outcome.judgement.reason}\n{sentence}", pytrace=False)


@pytest.mark.gpu
def test_a_run_on_the_gpu_follows_the_same_framework_on_the_cpu(framework: str, name: str, runs: Runs) -> None:
    for on_gpu, on_cpu in runs.pairs(name):
        comparison = compare(on_gpu, on_cpu)
        if comparison.judgement.verdict is not Verdict.PASS:
            pytest.fail(f"{on_gpu.name} and {on_cpu.name}: {comparison.judgement.reason}", pytrace=False)


@pytest.mark.gpu
def test_tf32_is_seen(framework: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    suite = load_suite("impls")
    entry = suite.entry(WIDE)
    labels = [label for label in entry.implementations if framework_of(label).name == framework]
    assert_tf32_is_seen(suite, entry, labels[0], TF32, tmp_path)


def assert_tf32_is_seen(suite: Suite, entry: Entry, label: str, device: str, out: Path) -> None:
    """That a run whose float32 products are TF32's fails, in the first product, by as much as TF32 predicts."""
    options = Options(suite, out, [entry.case.name], [label], dtypes=["float32"], device=device, epochs=1)
    (outcome,) = Matrix(options).run()
    assert outcome.judgement.verdict is Verdict.FAIL, (
        f"{label} with TF32 on: {outcome.judgement.verdict} {outcome.judgement.reason} {outcome.trace}; TF32 needs a "
        f"device of compute capability 8 or more"
    )
    found = outcome.explanation
    assert found is not None, outcome.judgement.reason
    assert found["phase"] in ("prediction", "gradient"), found["sentence"]
    assert (found["epoch"], found["batch"]) == (1, 0), found["sentence"]
    predicted = largest_error_of_tf32(suite, entry, found["parameter"])
    measured = found["difference"]["absolute"]
    assert predicted / TIMES <= measured <= predicted * TIMES, (
        f"{found['parameter']} is {measured:.3g} off, where factors of ten bits make it {predicted:.3g}"
    )


def largest_error_of_tf32(suite: Suite, entry: Entry, tensor: str) -> float:
    """How far TF32 carries a tensor from the exact one, at the initial state and on the first batch, in NumPy.

    ``tensor`` is ``prediction``, or a parameter, whose gradient is meant.
    """
    build = suite.implementation(entry, suite.reference).build
    (hypothesis,) = (known for known in CATALOGUE if known.name == "tf32-products")
    rounded = hypothesis.plant(build, entry.case, "float64", "cpu")
    assert not isinstance(rounded, Unplanted)
    exact, data = build(entry.case, "float64", "cpu"), entry.case.data()
    rows = next(entry.case.schedule.epochs(len(data.x)))[0]
    x, y = data.x[rows], data.y[rows]

    def value(trainer: Any) -> Any:
        return trainer.predict(x) if tensor == "prediction" else trainer.gradients(x, y)[1][tensor]

    return float(np.max(np.abs(value(rounded) - value(exact))))
