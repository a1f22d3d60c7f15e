"""``parity show --plot``: the sources' own figures, and the losses where a source has none."""

import importlib.util

import numpy as np
import pytest
from typer.testing import CliRunner

from parity.cli import app
from parity.report import plot
from parity.suite import load_suite
from parity.trainer import record
from parity.trajectory import gather


def run_of(name, dtype="float64"):
    """The case of that name and its NumPy run."""
    entry = load_suite("impls").entry(name)
    trainer = entry.implementations["numpy"].build(entry.case, dtype, "cpu")
    return entry.case, gather(record(trainer, entry.case, entry.case.epochs))


def test_activations_are_drawn_as_the_source_has_them():
    case, run = run_of("activations")
    figure = plot.draw(case, {"numpy float64": run, "again": run})
    values, derivatives = figure.axes
    x = case.data().x[0]
    drawn = [line.get_ydata() for line in values.lines]
    assert len(drawn) == 6
    np.testing.assert_allclose(drawn[:3], [np.maximum(x, 0), 1 / (1 + np.exp(-x)), np.tanh(x)], atol=1e-15)
    slopes = [line.get_ydata() for line in derivatives.lines][:3]
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(slopes, [x > 0, sigmoid * (1 - sigmoid), 1 - np.tanh(x) ** 2], atol=1e-15)
    assert len(values.get_legend().get_texts()) == 3


def test_other_cases_show_every_batch_s_loss():
    case, run = run_of("iris-logistic-minibatch")
    figure = plot.draw(case, {"a": run, "b": run})
    (axes,) = figure.axes
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_ydata(), run.loss[:].ravel())
        assert line.get_xdata()[-1] == pytest.approx(case.epochs - 1 / run.loss.shape[1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(("name", "begins"), [("f.png", b"\x89PNG"), ("f.SVG", b"<?xml"), ("f.html", b"<!doctype")])
def test_the_ending_names_the_format(tmp_path, name, begins):
    figure = plot.draw(*_runs("iris-logistic"))
    plot.save(figure, tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(begins)
    if name == "f.html":
        assert written.count(b"<svg") == written.count(b"</svg>") == 1


def test_what_cannot_be_drawn_is_said_before_anything_runs(tmp_path, monkeypatch):
    def refused(file):
        command = ["show", "activations", "--impl", "numpy", "--out", str(tmp_path / "runs"), "--plot", str(file)]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert not (tmp_path / "runs").exists()
        return result.stderr

    assert "a figure is written as .png, .svg, .html" in refused(tmp_path / "figure.jpeg")
    assert "there is no folder" in refused(tmp_path / "nowhere" / "figure.png")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cross-framework-parity[plot]'" in refused(tmp_path / "figure.png")


def test_show_draws(tmp_path):
    file = tmp_path / "figure.svg"
    command = ["show", "iris-logistic", "--impl", "numpy", "--out", str(tmp_path / "runs"), "--plot", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert b"<svg" in file.read_bytes()


def _runs(name):
    case, run = run_of(name)
    return case, {"numpy": run}
