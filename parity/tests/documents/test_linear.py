"""What the README of Xaleed/Pytorch does with its linear model beside training it: new rows, other rows, a table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from parity.dtypes import DTYPES
from parity.judging.floors.floor import load, mark_of
from parity.judging.floors.noise import measure
from parity.judging.verdict import Verdict, judge
from parity.recording.places import floor_name
from parity.spec import Array, Dataset
from parity.suite import load_suite
from parity.tests.command import Parity
from parity.tolerance import FACTOR, least_floor
from parity.trainer import record
from parity.trajectory import Trajectory, gather

SUITE = load_suite("impls")
ENTRY = SUITE.entry("linear-regression")
PLANE = np.array([[1.0], [2.0], [4.0]])


def drawn(rows: int, seed: int = 3) -> tuple[Array, Array]:
    """New rows, and what the document holds predictions of them against: the plane with a noise of its full size."""
    random = np.random.RandomState(seed)
    x = random.standard_normal((rows, 3))
    return x, x @ PLANE + 3 + random.standard_normal((rows, 1))


def predictions(label: str, rows: int) -> list[list[list[float]]]:
    """What an implementation predicts of new rows after it was trained, in each dtype."""
    found = []
    for dtype in DTYPES:
        trainer = ENTRY.implementations[label].build(ENTRY.case, dtype, "cpu")
        for _ in record(trainer, ENTRY.case, ENTRY.case.epochs):
            pass
        found.append(trainer.predict(drawn(rows)[0]).tolist())
    return found


@cache
def reference() -> Trajectory:
    trainer = SUITE.implementation(ENTRY, SUITE.reference).build(ENTRY.case, "float64", "cpu")
    return gather(record(trainer, ENTRY.case, ENTRY.case.epochs))


@pytest.mark.asks(question=predictions, rows=5)
@pytest.mark.parametrize("label", ENTRY.implementations)
def test_a_trained_model_predicts_new_rows_as_the_reference_does(label: str, answer: list[list[list[float]]]) -> None:
    """Within what the tolerances of its parameters make of a prediction, and with the document's loss of them."""
    (x, y), end = drawn(5), {name: values[-1] for name, values in reference().params.items()}
    wanted = x @ end["dense/kernel"] + end["dense/bias"]
    assert SUITE.floors is not None
    path = SUITE.floors / floor_name(ENTRY.case.name, None, "float32")
    kept = load(path, str(mark_of(path)))
    assert kept is not None
    for dtype, found in zip(DTYPES, map(np.array, answer), strict=True):
        floors = {name: float(values[-1]) for name, values in kept[dtype].params.items()}
        floor = floors["dense/kernel"] * np.abs(x).sum(1, keepdims=True) + floors["dense/bias"]
        floor += least_floor(np.abs(wanted), dtype)
        assert np.all(np.abs(found - wanted) <= FACTOR * floor), dtype
        # The summed squared error is that of the noise, up to what the end of the training is off the plane.
        allowed = 2 * np.abs(wanted - y) * FACTOR * floor + (FACTOR * floor) ** 2
        assert abs(np.sum((found - y) ** 2) - np.sum((wanted - y) ** 2)) <= allowed.sum(), dtype


def test_the_trained_model_is_the_plane_as_far_as_its_last_loss_says() -> None:
    data, end = ENTRY.case.data(), {name: values[-1] for name, values in reference().params.items()}
    rows = np.hstack([data.x, np.ones((len(data.x), 1))])
    noise = data.y - (data.x @ PLANE + 3)
    off = np.concatenate([end["dense/kernel"] - PLANE, end["dense/bias"][:, None] - 3])
    # What is left and the noise are the difference of both in every row, which is no shorter than the least stretch.
    left = np.sqrt(float(reference().loss[-1, 0])) + float(np.linalg.norm(noise))
    assert np.linalg.norm(off) <= left / np.linalg.svd(rows, compute_uv=False).min()
    assert left < 1e-2 * np.linalg.norm(data.y)


def trained_on_rows_of_torch(rows: int) -> dict[str, Any]:
    """The document's second data set, which torch draws, and its script on it, in float32."""
    import torch

    torch.manual_seed(0)
    x = torch.normal(0, 1, (rows, 3))
    y = torch.matmul(x, torch.tensor([1.0, 2, 4])) + 3 + torch.normal(0, 1.0, torch.Size([rows])) / 1000000
    y = y.reshape((-1, 1))
    model = torch.nn.Linear(3, 1)
    kernels, biases, losses = [], [], []

    def see() -> None:
        kernels.append(model.weight.detach().numpy().T.tolist())
        biases.append(model.bias.detach().numpy().tolist())

    see()
    criterion = torch.nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0001)
    for _ in range(500):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append([loss.item()])
        see()
    return {"x": x.tolist(), "y": y.tolist(), "kernel": kernels, "bias": biases, "loss": losses}


@pytest.mark.asks(question=trained_on_rows_of_torch, framework="torch", rows=1000)
def test_on_a_thousand_rows_that_torch_draws_the_case_walks_the_path_of_the_documents_script(
    answer: dict[str, Any],
) -> None:
    read = {name: np.array(values) for name, values in answer.items()}
    params = {"dense/kernel": read["kernel"], "dense/bias": read["bias"]}
    case = replace(
        ENTRY.case,
        data=lambda: Dataset(read["x"], read["y"]),
        initial=lambda: {name: values[0] for name, values in params.items()},
    )
    assert (case.data().x.shape, case.epochs) == ((1000, 3), 500)
    build = SUITE.implementation(ENTRY, SUITE.reference).build
    run = Trajectory(
        {"dtype": "float32"},
        np.arange(501),
        read["loss"].astype(np.float32),
        {name: values.astype(np.float32) for name, values in params.items()},
        {},
    )
    wanted = gather(record(build(case, "float64", "cpu"), case, case.epochs))
    found = judge(run, wanted, measure(build, case, case.epochs, dtypes=("float32",))["float32"])
    assert found.verdict is Verdict.PASS, found.reason


def test_the_thousand_rows_are_one_word_away() -> None:
    full, case = SUITE.entry("linear-regression", "full").case, ENTRY.case
    assert full.data().x.shape == (1000, 3)
    assert np.abs(full.data().x @ PLANE + 3 - full.data().y).max() < 1e-5
    assert (full.loss, full.optimizer, full.epochs) == (case.loss, case.optimizer, case.epochs)


def test_show_prints_the_table_of_the_data(parity: Parity) -> None:
    result = parity("show", "linear-regression", "--impl", "numpy", "--out", "out")
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines()]
    start = lines.index(["X1", "X2", "X3", "Y"])
    data = ENTRY.case.data()
    rows = np.concatenate([data.x, data.y], 1)
    shown = [*range(5), *range(95, 100)]
    table = lines[start + 1 : start + 12]
    assert table.pop(5) == 5 * ["…"]
    assert table == [[str(row), *(f"{value:.6f}" for value in rows[row])] for row in shown]
    assert lines[start + 12] == ["[100", "rows", "x", "4", "columns]"]
    assert lines[-1][:2] == ["epoch", "499,"]
