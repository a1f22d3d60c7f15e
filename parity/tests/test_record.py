"""The one training loop: what it yields does not depend on how many epochs it trains in one call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity import trainer
from parity.spec import Metric
from parity.tests import toy
from parity.trainer import record
from parity.trajectory import gather
from parity.typing import Array


def mean_error(predictions: Array, y: Array) -> Array:
    return np.abs(predictions - y).mean((1, 2))  # (snapshots, n, 3), (n, 3) -> (snapshots,)


CASE = replace(toy.MOMENTUM, epochs=7, metrics=(Metric("error", "train", mean_error),))


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("together", [1, 4, 256])
def test_metrics_are_those_of_the_snapshots(monkeypatch: pytest.MonkeyPatch, every: int, together: int) -> None:
    monkeypatch.setattr(trainer, "CHUNK_EPOCHS", together)
    case = replace(CASE, every=every)
    run = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    assert run.epochs.tolist() == sorted({*range(0, 8, every), 7})
    asked, data = toy.build(case, "float64", "cpu"), case.data()
    state = asked.export()
    for place, error in enumerate(run.metrics["error"]):
        asked.load(replace(state, params={name: values[place] for name, values in run.params.items()}))
        assert error == mean_error(asked.predict(data.x)[None], data.y)[0]
    plain = gather(record(toy.build(case, "float64", "cpu"), replace(case, metrics=()), case.epochs))
    assert run.loss.tobytes() == plain.loss.tobytes()
    for name, values in run.params.items():
        assert np.asarray(values).tobytes() == np.asarray(plain.params[name]).tobytes()


def test_a_metric_must_leave_one_number_a_snapshot() -> None:
    wrong = replace(CASE, metrics=(Metric("spread", "train", lambda predictions, y: np.std(predictions)),))
    with pytest.raises(ValueError, match=r"metric 'spread' gives \(\) for .* every axis but the first"):
        next(record(toy.build(wrong, "float64", "cpu"), wrong, wrong.epochs))
