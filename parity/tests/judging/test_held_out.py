"""Predictions that are wrong on held-out rows alone fail on the ladder, in the matrix and in reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import impls
from parity.judging.floors.noise import measure, metric_tolerances
from parity.judging.folder import recorded
from parity.judging.ladder import Rung, climb
from parity.judging.outcome import Outcome
from parity.judging.verdict import Verdict
from parity.running.cells import Options
from parity.running.matrix import Matrix
from parity.running.workers.pool import Pool
from parity.spec import Array, Case, Dataset, Loss, Metric
from parity.suite import load_suite
from parity.tests import planted, toy
from parity.tests.judging.test_ladder_faults import assert_falls

MODELS = {"iris-logistic": "logistic", "mnist-softmax": "softmax"}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """The documents' two models in NumPy, and in torch with the mistake."""
    root = tmp_path_factory.mktemp("held_out")
    package = root / "held_out_suite"
    for model in MODELS.values():
        (package / model).mkdir(parents=True)
        (package / model / "__init__.py").touch()
        (package / model / "spec.py").write_text(f"from impls.{model}.spec import CASES\n")
        # Its very code, or the floors are of another reference.
        shutil.copy(Path(impls.__file__).parent / model / f"{model}_numpy.py", package / model)
        (package / model / f"{model}_torch.py").write_text(
            f"from impls.{model}.{model}_torch import build\n"
            "from parity.tests.planted import held_out_predictions\n"
            "build = held_out_predictions(build)\n"
        )
        (package / model / f"{model}_torch_autograd.py").write_text(
            f"from impls.{model}.{model}_torch import build\n"
            "from parity.tests.planted import figures_before_the_update\n"
            "build = figures_before_the_update(build)\n"
        )
    (package / "__init__.py").write_text("from impls import FLOORS\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        suite = load_suite(package.name)
        yield Matrix(Options(suite, root / "runs", list(MODELS), ["torch"], dtypes=["float64"]))


@pytest.mark.slow
def test_a_failure_by_a_metric_alone_is_named_for_what_it_is(matrix: Matrix) -> None:
    """Rows that are predicted otherwise, and figures that are taken of another state than is said."""
    options = replace(matrix.options, cases=["mnist-softmax"], implementations=["torch", "torch-autograd"])
    held_out, stale = (outcome.explanation for outcome in Matrix(options).run())
    assert held_out is not None
    assert stale is not None
    assert held_out["sentence"].startswith(
        "first differs at epoch 1, metrics/test_accuracy; metric test_accuracy alone differs: losses and parameters "
        "agree, and the test rows are predicted otherwise, row "
    )
    assert stale["sentence"].endswith(
        "metric test_accuracy alone differs: the predictions agree, so how it is counted does not"
    )


@pytest.fixture(scope="module")
def climbs(matrix: Matrix) -> Iterator[dict[str, Future[list[Rung]]]]:
    with Pool(1) as pool:
        yield {cell.entry.case.name: future for cell, future in matrix.climb(pool).items()}


@pytest.fixture(scope="module")
def outcomes(matrix: Matrix) -> dict[str, Outcome]:
    return {outcome.case: outcome for outcome in matrix.run(explain=False)}


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_the_ladder_falls_where_rows_are_predicted(climbs: dict[str, Future[list[Rung]]], case: str) -> None:
    rungs = climbs[case].result()
    assert "prediction of held-out rows" in assert_falls(rungs, "prediction")
    training = {rung.rung: rung for rung in rungs}["training"]
    assert training.verdict is Verdict.FAIL
    assert "metrics/test_accuracy" in training.message


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_the_matrix_and_the_report_fail_by_the_metric(matrix: Matrix, outcomes: dict[str, Outcome], case: str) -> None:
    reported = {outcome.name: outcome for outcome in recorded(matrix.options.out, matrix.suite)}
    for found in (outcomes[case], reported[f"{case}-torch-float64"]):
        assert found.judgement.verdict is Verdict.FAIL
        assert found.judgement.parameter == "metrics/test_accuracy"
        assert "metrics/test_accuracy is" in found.judgement.reason


def agreeing(name: str) -> Metric:
    return Metric(name, "test", lambda scores, y: np.mean(scores.argmax(-1) == y, -1))


def share_above(p: Array, y: Array) -> Array:
    return np.mean(p[..., 0] > 0.5, 1)


CLASSES = np.array([[[0.3, 0.0, 0.1], [0.0, 0.2, 0.2 - 1e-3], [0.0, 0.2, 0.2 + 1e-3], [0.5, 0.499, 0.0]]])
"""Scores of three classes: one row clear, two near a tie that their class is part of, one near a tie that it is not."""


@pytest.mark.parametrize(("allowed", "rows"), [(0.0, 0), (4.9e-4, 0), (5.1e-4, 2), (0.2, 3), (1.0, 4)])
def test_a_count_may_change_by_the_rows_near_a_tie(allowed: float, rows: int) -> None:
    """Both sides of a tie may move: a row whose margin is less than twice the tolerance may go either way."""
    y = np.array([0, 1, 2, 2])
    found = metric_tolerances(agreeing("accuracy"), CLASSES, y, np.array([allowed]), Loss("crossentropy", "mean"))
    np.testing.assert_allclose(found, [min(rows, 3) / 4], rtol=1e-12)


@pytest.mark.parametrize(("allowed", "share"), [(1e-4, 0.0), (2e-3, 0.25), (0.1, 0.5)])
def test_a_count_that_knows_no_target_may_change_as_much(allowed: float, share: float) -> None:
    p, y = np.array([[[0.501], [0.45], [0.9], [0.1]]]), np.ones((4, 1))
    metric = Metric("share", "test", share_above)
    found = metric_tolerances(metric, p, y, np.array([allowed]), Loss("binary_crossentropy", "sum"))
    assert share / 2 <= found[0] <= share


def test_a_sum_may_change_by_what_all_rows_add_up_to() -> None:
    metric = Metric("error", "test", lambda p, y: np.sum(np.abs(p - y), (1, 2)))
    p, y = np.full((2, 5, 1), 3.0), np.zeros((5, 1))
    found = metric_tolerances(metric, p, y, np.array([0.0, 1e-3]), Loss("squared_error", "sum"))
    np.testing.assert_allclose(found, [0.0, 5e-3], atol=1e-12)


def test_a_prediction_stays_what_it_is() -> None:
    """Moved beyond 1, a probability has no logarithm, and the sum would be nothing."""
    metric = Metric("cost", "test", lambda p, y: -np.sum(np.log(p), (1, 2)))
    p, y = np.array([[[1 - 1e-9], [0.5]]]), np.ones((2, 1))
    found = metric_tolerances(metric, p, y, np.array([1e-3]), Loss("binary_crossentropy", "sum"))
    np.testing.assert_allclose(found, [-np.log1p(-1e-3 / (1 - 1e-9)) - np.log(0.499 / 0.5)], rtol=1e-9)


def test_what_has_no_value_allows_nothing() -> None:
    metric = Metric("none", "test", lambda p, y: np.full(len(p), np.nan))
    found = metric_tolerances(metric, np.zeros((3, 2, 1)), np.zeros((2, 1)), np.ones(3), Loss("squared_error", "sum"))
    assert found.tolist() == [0, 0, 0]


def held_out_case() -> Case:
    data = toy.data()
    halves = Dataset(data.x[:16], data.y[:16], data.x[16:], data.y[16:])
    metrics = (
        Metric("error", "test", lambda p, y: np.mean((p - y) ** 2, (1, 2))),
        Metric("positive", "train", lambda p, y: np.mean(p > 0, (1, 2))),
    )
    return replace(toy.MOMENTUM, data=lambda: halves, metrics=metrics)


def test_a_floor_holds_the_metrics_and_nothing_else_changes() -> None:
    case = held_out_case()
    plain, found = measure(toy.build, replace(case, metrics=()), 3), measure(toy.build, case, 3)
    for dtype, floor in found.items():
        assert set(floor.metrics) == {"error", "positive"}
        assert not plain[dtype].metrics
        np.testing.assert_array_equal(floor.loss, plain[dtype].loss)
        assert set(floor.params) == set(plain[dtype].params)
        for name, values in floor.params.items():
            np.testing.assert_array_equal(values, plain[dtype].params[name])
        assert (floor.metrics["error"] > 0).all()
        assert [len(values) for values in floor.until(1, 2).metrics.values()] == [2, 2]
        # The whole tolerance, as for anything else: sixteen times what is kept.
        assert floor.metrics["error"].max() < (1e-3 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_reference_holds_every_rung_with_metrics(dtype: str) -> None:
    case = held_out_case()
    floor = measure(toy.build, case, case.epochs)[dtype]
    right = climb(toy.build, toy.build, case, dtype, "cpu", floor)
    assert {step.verdict for step in right} == {Verdict.PASS}
    wrong = climb(planted.held_out_predictions(toy.build), toy.build, case, dtype, "cpu", floor)
    assert [step.rung for step in wrong if step.verdict is Verdict.FAIL] == ["prediction", "training"]
