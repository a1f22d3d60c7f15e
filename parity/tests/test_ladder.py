"""Every case × implementation × dtype on every rung of the ladder; ``parity.judging.ladder`` says what each asserts."""

from collections.abc import Callable

Hold = Callable[[str], None]


def test_contract(hold: Hold) -> None:
    hold("contract")


def test_prediction(hold: Hold) -> None:
    hold("prediction")


def test_gradients(hold: Hold) -> None:
    hold("gradients")


def test_update(hold: Hold) -> None:
    hold("update")


def test_training(hold: Hold) -> None:
    hold("training")


def test_resume(hold: Hold) -> None:
    hold("resume")
