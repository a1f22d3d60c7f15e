"""Every case against its document's own script, which ``listings`` writes once more with the document's own numbers.

A script is one more implementation of the case, judged as the others are: every loss, every snapshot, every metric,
within the tolerance of the case's noise floor. But it shares nothing with the case that a document says: see there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from safetensors import safe_open

from parity.dtypes import DTYPES
from parity.judging.floors.floor import Floor
from parity.judging.floors.floor import load as load_floors
from parity.judging.policy import asserts_parameters
from parity.judging.published import figures, log_lines
from parity.judging.verdict import Verdict, judge
from parity.recording.places import floor_name
from parity.spec import Array, Case, Metric
from parity.suite import load_suite
from parity.tests.documents.listings import SCRIPTS, Ran, read, run
from parity.tolerance import FACTOR
from parity.trainer import record
from parity.trajectory import Trajectory, gather

SUITE = load_suite("impls")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("--parity-framework") or list(SCRIPTS)
    if "script" in metafunc.fixturenames:
        pairs = [(framework, script) for framework in SCRIPTS if framework in chosen for script in SCRIPTS[framework]]
        if metafunc.function is test_what_public_runs_of_the_legendre_script_print_comes_out:
            pairs = [pair for pair in pairs if pair[1] == "sine-legendre"]
        if metafunc.function is test_what_a_case_counts_otherwise_than_its_document_parts_from_the_script:
            pairs = [pair for pair in pairs if case_of(pair[1]).metrics]
        metafunc.parametrize(("framework", "script"), pairs, ids=[script for _, script in pairs])


@cache
def reference(case: str, epochs: int) -> Trajectory:
    """The beginning of the suite's reference, with the metrics that the case records."""
    entry = SUITE.entry(case)
    trainer = SUITE.implementation(entry, SUITE.reference).build(entry.case, "float64", "cpu")
    return gather(record(trainer, entry.case, epochs))


@cache
def floors(case: str, lockstep: int | None = None) -> dict[str, Floor]:
    """The committed noise floors, by dtype, under whatever mark: a case that has drifted shall part from its script."""
    path = SUITE.floors / floor_name(case, lockstep, "float64")
    with safe_open(path, "numpy") as file:
        found = load_floors(path, file.metadata()["fingerprint"])
    assert found is not None
    return found


def case_of(script: str) -> Case:
    return SUITE.entry(script.partition(":")[0]).case


def as_run(saved: Ran, dtype: str) -> Trajectory:
    return Trajectory({"dtype": dtype}, saved.epochs, saved.losses, dict(saved.params), saved.metrics)


@pytest.mark.asks(question=run)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_case_walks_the_path_of_its_documents_script(
    framework: str, script: str, dtype: str, answer: dict[str, Any]
) -> None:
    case, saved = case_of(script), read(answer)
    assert saved.losses.size >= 10 or saved.losses.size == case.epochs, "ten steps, or the end where it is short"
    ran, wanted = as_run(saved, dtype), reference(case.name, len(saved.losses))
    floor = floors(case.name)[dtype].until(len(saved.losses), len(saved.epochs))
    free = asserts_parameters(case, dtype)
    found = judge(ran, wanted, floor, params=free, metrics=True)
    assert found.verdict is Verdict.PASS, found.reason
    if not free:
        # The first stretch of a run in lockstep is the beginning of the free one.
        floor = floors(case.name, case.stretch)[dtype].until(case.stretch, case.stretch // case.every + 1)
        found = judge(ran.until(case.stretch), wanted.until(case.stretch), floor, metrics=True)
        assert found.verdict is Verdict.PASS, found.reason


OTHERWISE: dict[str, Callable[[Metric], Callable[[Array, Array], Array]]] = {
    "inverted": lambda metric: lambda p, y: 1 - metric.score(p, y),
    "the least likely class": lambda metric: lambda p, y: metric.score(1 - p if p.shape[-1] == 1 else -p, y),
}


@pytest.mark.asks(question=run, dtype="float64")
@pytest.mark.parametrize("how", OTHERWISE)
def test_what_a_case_counts_otherwise_than_its_document_parts_from_the_script(
    framework: str, script: str, how: str, answer: dict[str, Any]
) -> None:
    """As argmin for argmax: with the reference wrong too all implementations agree, and no figure need be published."""
    case, saved = case_of(script), read(answer)
    wrong = replace(case, metrics=tuple(replace(metric, score=OTHERWISE[how](metric)) for metric in case.metrics))
    trainer = SUITE.implementation(SUITE.entry(case.name), SUITE.reference).build(wrong, "float64", "cpu")
    floor = floors(case.name)["float64"].until(len(saved.losses), len(saved.epochs))
    found = judge(as_run(saved, "float64"), gather(record(trainer, wrong, len(saved.losses))), floor, metrics=True)
    assert (found.verdict, str(found.parameter).partition("/")[0]) == (Verdict.FAIL, "metrics"), found.reason


IRIS = """\
Epoch: 001 | Train ACC: 0.987 | Cost: 5.581
Epoch: 002 | Train ACC: 0.987 | Cost: 4.882
Epoch: 003 | Train ACC: 1.000 | Cost: 4.381
Epoch: 004 | Train ACC: 1.000 | Cost: 3.998
Epoch: 005 | Train ACC: 1.000 | Cost: 3.693
Epoch: 006 | Train ACC: 1.000 | Cost: 3.443
Epoch: 007 | Train ACC: 1.000 | Cost: 3.232
Epoch: 008 | Train ACC: 1.000 | Cost: 3.052
Epoch: 009 | Train ACC: 1.000 | Cost: 2.896
Epoch: 010 | Train ACC: 1.000 | Cost: 2.758
Test set accuracy: 100.00%"""
IRIS_MINIBATCH = """\
Epoch: 000 | AvgCost: nan | Train/Valid ACC: 0.53/0.40
Epoch: 001 | AvgCost: 4.221 | Train/Valid ACC: 1.00/1.00
Epoch: 002 | AvgCost: 1.225 | Train/Valid ACC: 1.00/1.00
Epoch: 003 | AvgCost: 0.610 | Train/Valid ACC: 1.00/1.00
Epoch: 004 | AvgCost: 0.376 | Train/Valid ACC: 1.00/1.00
Epoch: 005 | AvgCost: 0.259 | Train/Valid ACC: 1.00/1.00
Epoch: 006 | AvgCost: 0.191 | Train/Valid ACC: 1.00/1.00
Epoch: 007 | AvgCost: 0.148 | Train/Valid ACC: 1.00/1.00
Epoch: 008 | AvgCost: 0.119 | Train/Valid ACC: 1.00/1.00
Epoch: 009 | AvgCost: 0.098 | Train/Valid ACC: 1.00/1.00
Epoch: 010 | AvgCost: 0.082 | Train/Valid ACC: 1.00/1.00
Epoch: 011 | AvgCost: 0.070 | Train/Valid ACC: 1.00/1.00
Epoch: 012 | AvgCost: 0.061 | Train/Valid ACC: 1.00/1.00
Epoch: 013 | AvgCost: 0.053 | Train/Valid ACC: 1.00/1.00
Epoch: 014 | AvgCost: 0.047 | Train/Valid ACC: 1.00/1.00"""
PRINTED = {"iris-logistic": IRIS.splitlines(), "iris-logistic-minibatch": IRIS_MINIBATCH.splitlines()}
"""What the post prints of its two runs, line by line."""


def ours(case: Case) -> list[str]:
    """The log of the reference's run in float32, as ``parity show`` prints it."""
    entry = SUITE.entry(case.name)
    trainer = SUITE.implementation(entry, SUITE.reference).build(case, "float32", "cpu")
    run = gather(record(trainer, case, case.epochs))
    lines = log_lines(case, figures(case, run, "float32", floors(case.name)["float32"]))
    assert {line.verdict for line in lines} == {Verdict.PASS}
    return [line.ours for line in lines]


@pytest.mark.parametrize("case", PRINTED)
def test_the_suite_prints_what_the_post_prints(case: str) -> None:
    log = PRINTED[case]
    found = ours(SUITE.entry(case).case)
    assert found[: len(log)] == log
    if case == "iris-logistic":
        assert found[len(log) :] == [
            "weights[0] (epoch 10): 4.2267",
            "weights[1] (epoch 10): -2.9613",
            "bias (epoch 10): 0.0994",
        ]


@pytest.mark.asks(question=run, dtype="float32")
def test_a_script_prints_what_its_document_prints(framework: str, script: str, answer: dict[str, Any]) -> None:
    """As the document where it shows its output; elsewhere in its words, with the numbers of the suite's own run."""
    case, saved = case_of(script), read(answer)
    if case.name in PRINTED:
        assert saved.lines == PRINTED[case.name]
        return
    wanted = list(LINES[case.name](Numbers(case, len(saved.losses)))) if case.name in LINES else []
    assert len(saved.lines) == len(wanted)
    for line, (words, numbers) in zip(saved.lines, wanted, strict=True):
        assert_says(line, words, numbers)


def assert_says(line: str, words: str, numbers: list[Number]) -> None:
    """That a line has these words, and in the place of each ``{}`` a number within its tolerance."""
    match = re.fullmatch(re.escape(words).replace(r"\{\}", r"(\S+?)"), line)
    assert match is not None, (line, words)
    for text, (value, allowed) in zip(match.groups(), numbers, strict=True):
        assert near(text, value, allowed), (line, value, allowed)


def near(text: str, value: float, allowed: float) -> bool:
    """Whether a printed number is a value, up to its tolerance and half of its last digit."""
    last = Decimal(text).as_tuple().exponent
    assert isinstance(last, int)
    return abs(float(text) - value) <= allowed + 0.5 * 10.0**last


Number = tuple[float, float]
"""A value of the reference and its tolerance."""


class Numbers:
    """What the reference recorded in the place of what a script prints."""

    def __init__(self, case: Case, epochs: int) -> None:
        self.case, self.epochs = case, epochs
        self.run, self.floor = reference(case.name, epochs), floors(case.name)["float32"]

    def loss(self, epoch: int, batch: int = 0) -> Number:
        return float(self.run.loss[epoch - 1, batch]), FACTOR * float(self.floor.loss[epoch - 1, batch])

    def mean_loss(self, epoch: int) -> Number:
        return float(self.run.loss[epoch - 1].mean()), FACTOR * float(self.floor.loss[epoch - 1].mean())

    def metric(self, name: str, snapshot: int, times: float = 1.0) -> Number:
        return times * self.run.metrics[name][snapshot], times * FACTOR * self.floor.metrics[name][snapshot]


Lines = Iterator[tuple[str, list[Number]]]


def lines_of_softmax(numbers: Numbers) -> Lines:
    for epoch in range(1, numbers.epochs + 1):
        yield f"Epoch: {epoch:03d}/010 | Batch 000/020 | Cost: {{}}", [numbers.loss(epoch)]
        yield f"Epoch: {epoch:03d}/010 training accuracy: {{}}%", [numbers.metric("train_accuracy", epoch, 100)]


def lines_of_characters(numbers: Numbers) -> Lines:
    yield "Iteration 0 | Loss {}", [numbers.loss(1)]


def lines_of_perceptron(numbers: Numbers) -> Lines:
    for epoch in range(1, numbers.epochs + 1):
        yield f"Epoch #{epoch}: Avg. loss={{}}", [numbers.mean_loss(epoch)]


def lines_of_plane(numbers: Numbers) -> Lines:
    for epoch in range(numbers.epochs):
        yield f"epoch {epoch}, loss function {{}}", [numbers.loss(epoch + 1)]


def lines_of_coin(numbers: Numbers) -> Lines:
    for epoch in range(1, numbers.epochs + 1):
        yield f"epoch: {epoch}, loss = {{}}", [numbers.loss(epoch)]
    yield "accuracy: {}", [numbers.metric("accuracy", -1)]


def lines_of_sine(numbers: Numbers) -> Lines:
    for step in range(99, numbers.epochs, 100):
        yield f"{step} {{}}", [numbers.loss(step + 1)]


LINES: dict[str, Callable[[Numbers], Lines]] = {
    "mnist-softmax": lines_of_softmax,
    "char-gru": lines_of_characters,
    "mnist-mlp": lines_of_perceptron,
    "linear-regression": lines_of_plane,
    "synthetic-logistic": lines_of_coin,
    "sine-cubic": lines_of_sine,
    "sine-legendre": lines_of_sine,
}
"""What a document prints whose output it does not show, or of whose output nobody can have the same draw."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * case.startswith("mnist")) for case in LINES]
)
def test_the_suite_prints_what_a_document_prints_whose_output_nobody_shows(case: str) -> None:
    """In the document's words, from the suite's own run; what stands after the last epoch may be more."""
    epochs = {"char-gru": 10}.get(case, SUITE.entry(case).case.epochs)
    whole = SUITE.entry(case).case
    trainer = SUITE.implementation(SUITE.entry(case), SUITE.reference).build(whole, "float32", "cpu")
    run = gather(record(trainer, whole, epochs))
    found = [line.ours for line in log_lines(whole, figures(whole, run, "float32", floors(case)["float32"]), run)]
    wanted = list(LINES[case](Numbers(whole, epochs)))
    assert len(found) >= len(wanted) > 0
    for line, (words, numbers) in zip(found, wanted, strict=False):
        assert_says(line, words, numbers)


LEGENDRE = (
    "209.958344 144.660187 100.702484 71.035194 50.978508 37.403137 28.206867 21.973188 17.745729 14.877890",
    "12.931766 11.610918 10.714259 10.105482 9.692104 9.411375 9.220746 9.091287 9.003362 8.943641",
)
"""The losses that public runs of the Legendre script print, which has no draws, at every hundredth step."""


@pytest.mark.asks(question=run, dtype="float32")
def test_what_public_runs_of_the_legendre_script_print_comes_out(
    framework: str, script: str, answer: dict[str, Any]
) -> None:
    saved, case = read(answer), case_of(script)
    published = {figure.quantity: figure for figure in case.publication.figures if "float32" in figure.dtypes}
    assert list(published["loss"].values.items()) == list(
        zip(range(100, 2001, 100), " ".join(LEGENDRE).split(), strict=True)
    )
    assert published["b"].values == {2000: "-2.208526849746704"}
    assert published["d"].values == {2000: "0.2554861009120941"}
    for name in "ac":  # noise about a value that is zero in exact arithmetic
        assert (published[name].rule, published[name].margin) == ("envelope", 1e-8)
        assert {epoch: float(value) for epoch, value in published[name].values.items()} == {2000: 0.0}
    found = figures(case, as_run(saved, "float32"), "float32", floors(case.name)["float32"])
    assert {figure.verdict for figure in found} == {Verdict.PASS}


def test_every_case_has_a_script() -> None:
    assert {script.partition(":")[0] for scripts in SCRIPTS.values() for script in scripts} == {
        name for name, entry in SUITE.entries.items() if entry.case.publication.source
    }
