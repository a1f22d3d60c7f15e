"""Text generation: what is drawn, from what, and that every framework writes the same."""

from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from parity.recording.reader import read
from parity.report import data
from parity.report.terminal import make_console
from parity.report.writing import print_mark
from parity.running.cells import Cell, Options
from parity.running.matrix import Matrix
from parity.running.sampling import check, sample
from parity.running.writing import Mark, write_while_training
from parity.suite import load_suite
from parity.tests.schemas import held
from parity.tests.warm import Warm

ALPHABET = "abc"


def certain(text: np.ndarray) -> np.ndarray:
    """After every character the next of the alphabet, with hardly a doubt."""
    return 1e4 * np.eye(3)[(text + 1) % 3]


def test_goes_on_from_the_last_character_of_the_prime() -> None:
    assert sample(certain, ALPHABET, "cab", 4, 1.0, 0) == "cabcabc"
    assert sample(certain, ALPHABET, "b", 0, 1.0, 0) == "b"


def test_frequencies_are_those_of_the_softmax_at_the_temperature() -> None:
    logits = np.log([0.5, 0.3, 0.2])
    text = sample(lambda text: np.tile(logits, (len(text), 1)), ALPHABET, "a", 5000, 0.5, 3)[1:]
    wanted = np.array([0.25, 0.09, 0.04]) / 0.38
    found = [text.count(character) / len(text) for character in ALPHABET]
    np.testing.assert_allclose(found, wanted, atol=4 * np.sqrt(0.25 / len(text)))


def test_a_class_without_probability_is_never_drawn() -> None:
    logits = np.array([0.0, -np.inf, 0.0])
    text = sample(lambda text: np.tile(logits, (len(text), 1)), ALPHABET, "a", 200, 1.0, 0)
    assert "b" not in text


def test_always_predicts_on_one_shape() -> None:
    shapes = set()

    def predict(text: np.ndarray) -> np.ndarray:
        shapes.add((text.shape, text.dtype))
        return certain(text)

    sample(predict, ALPHABET, "ab", 5, 1.0, 0)
    assert shapes == {((7,), np.dtype(np.int64))}


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (("", "a", 1, 1.0), "gives no alphabet"),
        ((ALPHABET, "", 1, 1.0), "at least one character"),
        ((ALPHABET, "aé", 1, 1.0), "'é' is not in the case's alphabet"),
        ((ALPHABET, "a", -1, 1.0), "-1 characters"),
        ((ALPHABET, "a", 1, 0.0), "positive number"),
        ((ALPHABET, "a", 1, float("nan")), "positive number"),
    ],
)
def test_says_what_cannot_be_met(wish: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(*wish)


@pytest.mark.parametrize("length", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_the_same_weights_write_the_same_text_in_every_framework(
    length: int, tmp_path: Path, monkeypatch, warm: Warm
) -> None:
    """Every implementation that can run here is given what the reference trained."""
    suite = load_suite("impls")
    matrix = Matrix(Options(suite, tmp_path, cases=["char-gru"], dtypes=["float64"], epochs=30))
    matrix.cells = [cell for cell in matrix.cells if matrix.versions.availability(cell.implementation).available]
    monkeypatch.setattr(matrix, "executor", lambda: nullcontext(warm))
    assert suite.reference in [cell.implementation for cell in matrix.cells]
    wish = {"prime": "Th", "length": length, "temperature": 0.8, "seed": 0}
    found = matrix.sample(wish, weights=suite.reference)
    held("sample", data.written("char-gru", 30, wish, suite.reference, found))
    texts = {cell.implementation: text for cell, text in found.items()}
    written = texts[suite.reference]
    assert len(written) == 2 + length
    assert written.startswith("Th")
    assert texts == dict.fromkeys(texts, written)


@pytest.mark.slow
def test_a_model_writes_on_its_way_what_it_writes_after_as_long_a_run(tmp_path: Path, monkeypatch, warm: Warm) -> None:
    suite, wish = load_suite("impls"), {"prime": "Th", "length": 5, "temperature": 0.8, "seed": 0}

    def of(epochs: int) -> Matrix:
        options = Options(suite, tmp_path, ["char-gru"], ["numpy", "torch"], dtypes=["float64"], epochs=epochs)
        matrix = Matrix(options)
        monkeypatch.setattr(matrix, "executor", lambda: nullcontext(warm))
        return matrix

    matrix, marks = of(6), list[tuple[Cell, Mark]]()
    texts = write_while_training(matrix, wish, 4, lambda cell, mark: marks.append((cell, mark)))
    assert not list(tmp_path.iterdir())  # nothing is recorded
    assert texts == matrix.sample(wish)
    document = held("sample", data.written("char-gru", 6, wish, "", texts, marks))
    assert "seconds" not in str(document)
    for (cell, text), written in zip(texts.items(), document["texts"], strict=True):
        assert (written["implementation"], written["text"]) == (cell.implementation, text)
        losses = read(cell.folder(tmp_path)).loss[:, -1]
        found = [(mark["epoch"], mark["loss"]) for mark in written["on_the_way"]]
        assert found == [(1, losses[0]), (5, losses[4])]
    for epochs in (1, 5):
        after = {cell.implementation: text for cell, text in of(epochs).sample(wish).items()}
        assert after == {cell.implementation: mark.text for cell, mark in marks if mark.done == epochs}
    console = make_console()
    console.file = stream = StringIO()
    print_mark(console, cell, Mark(5, 6, 4.186, "The [b]", 90.0))
    assert stream.getvalue().splitlines()[1:] == ["Time elapsed: 1.50 min", "Epoch 5 | Loss 4.19", "The [b]", "=" * 50]
