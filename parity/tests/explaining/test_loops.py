"""Two loops of one's own, recorded by hand and explained on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.recorder import Recorder
from parity.spec import Adam, Sgd
from parity.tests.command import Parity, complaint
from parity.tests.suites import strict_json

ROWS, OUTPUTS = 16, 12


def loop(folder: Path, inside: bool = False, factor: float = 1.0, zeroed: bool = True, layers: bool = True) -> None:
    """A training loop of one's own: least squares, averaged over rows, with Adam by hand."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2 * ROWS, 4)), generator.standard_normal((2 * ROWS, OUTPUTS))
    kernel = np.zeros((4, OUTPUTS))
    g, m, v = (np.zeros_like(kernel) for _ in range(3))
    with Recorder(folder, "float64", deep=5, optimizer=Adam(0.01, epsilon=1e-4)) as run:
        run.snapshot({"dense/kernel": kernel})
        for t in range(1, 13):
            rows = np.arange(2 * ROWS)[t % 2 :: 2]
            prediction = x[rows] @ kernel
            loss = factor * np.sum((prediction - y[rows]) ** 2) / ROWS
            g = (0 if zeroed else g) + factor * x[rows].T @ (2 * (prediction - y[rows])) / ROWS
            now = {"params": {"dense/kernel": kernel}, "gradients": {"dense/kernel": g}}
            if layers:
                back = factor * 2 * (prediction - y[rows]) / ROWS
                now |= {"activations": {"dense": prediction}, "activation_gradients": {"dense": back}}
            run.step(loss, rows=rows, prediction=prediction, **now)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
            kernel -= 0.01 * m_hat / (np.sqrt(v_hat + 1e-4) if inside else np.sqrt(v_hat) + 1e-4)
            if t % 2 == 0:
                run.snapshot({"dense/kernel": kernel})


LOOPS = {
    "adam-epsilon-inside-the-root": ({"inside": True}, "batch 0, update of dense/kernel"),
    "sum-for-mean": ({"factor": ROWS}, "batch 0, loss"),
    "mean-for-sum": ({"factor": 1 / ROWS / OUTPUTS}, "batch 0, loss"),
    "mean-over-classes": ({"factor": 1 / OUTPUTS}, "batch 0, loss"),
    "half-squared-error": ({"factor": 1 / 2}, "batch 0, loss"),
    "gradient-not-zeroed": ({"zeroed": False}, "batch 1, gradient of dense/kernel"),
}
"""By mistake, a loop that makes it, and where it is first seen."""
TURNED = {"sum-for-mean": "mean-for-sum", "mean-for-sum": "sum-for-mean"}
"""Of two reductions nobody knows which was meant: whichever run is asked about, its own is explained."""


@pytest.mark.parametrize("name", LOOPS)
def test_two_loops_of_ones_own_are_explained_on_the_command_line(name: str, parity: Parity, tmp_path: Path) -> None:
    wrong, place = LOOPS[name]
    loop(tmp_path / "mine", **wrong)
    loop(tmp_path / "theirs")
    ways = (("mine", "theirs"), name, "first"), (("theirs", "mine"), TURNED.get(name, name), "second")
    for pair, named, which in ways:
        result = parity("explain", *(tmp_path / one for one in pair), "--json", "found.json")
        assert result.status == 1
        assert f"first differs at epoch 1, {place}" in result.out
        assert f"explained by {named} (" in result.out
        assert f"the {'first' if named != name else which} run" in result.out
        (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
        assert found["named"] == [named]


@pytest.mark.parametrize(("factor", "causes"), [(1.7, ""), (0.5, "a squared error"), (2, "micro-batches or workers")])
def test_a_loss_of_another_size_is_said_with_its_number(
    factor: float, causes: str, parity: Parity, tmp_path: Path
) -> None:
    """Without a layer's gradient nobody knows that it is a squared error, which one half would be of."""
    loop(tmp_path / "mine", factor=factor, layers=False)
    loop(tmp_path / "theirs", layers=False)
    result = parity("explain", tmp_path / "mine", tmp_path / "theirs")
    assert f"unexplained: the loss and the gradients of the first run are {factor} times the second's" in result.out
    assert causes in result.out
    assert ("recordings do not tell which it is" in result.out) == bool(causes)


@pytest.mark.parametrize("shape", [(3, 2), (1,)])
def test_gradients_of_another_shape_are_said_in_a_line(
    shape: tuple[int, ...], parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kernel in (("a", 1.0), ("b", 2.0)):
        with Recorder(tmp_path / name, "float64", deep=1, optimizer=Sgd(0.1)) as run:
            monkeypatch.setattr(run, "_gradients", lambda gradients, params: gradients)  # which would refuse them
            run.snapshot({"dense/kernel": np.zeros((4, 1))})
            run.step(1.0, rows=[0], prediction=[0.0], gradients={"dense/kernel": np.ones(shape)},
                     params={"dense/kernel": np.zeros((4, 1))})  # fmt: skip
            run.snapshot({"dense/kernel": np.full((4, 1), kernel)})
    result = parity("explain", tmp_path / "a", tmp_path / "b")
    assert result.status == 2
    assert "do not fit" in complaint(result)
