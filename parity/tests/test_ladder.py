"""Every case × implementation × dtype on every rung of the ladder; ``parity.judging.ladder`` says what each asserts."""

from collections.abc import Callable

Hold = Callable[[str], None]


def test_contract(parity_hold: Hold) -> None:
    parity_hold("contract")


def test_prediction(parity_hold: Hold) -> None:
    parity_hold("prediction")


def test_gradients(parity_hold: Hold) -> None:
    parity_hold("gradients")


def test_update(parity_hold: Hold) -> None:
    parity_hold("update")


def test_training(parity_hold: Hold) -> None:
    parity_hold("training")


def test_figures(parity_figures: Callable[[], None]) -> None:
    parity_figures()


def test_resume(parity_hold: Hold) -> None:
    parity_hold("resume")
