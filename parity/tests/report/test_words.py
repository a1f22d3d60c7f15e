"""What all reports share: how verdicts look, and the examples that say what the words are."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from parity.judging.floors.floor import Source
from parity.judging.outcome import Outcome
from parity.judging.published import Figure
from parity.judging.verdict import Judgement, Verdict
from parity.report import formats, html, markdown, markup, words


@pytest.mark.parametrize("module", [markdown, markup, words], ids=["markdown", "markup", "words"])
def test_the_examples_are_right(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_every_verdict_has_a_look_of_its_own_and_an_answer() -> None:
    assert set(words.LOOKS) == set(html.HEADLINES) == set(Verdict)
    for part in ("mark", "style", "kind"):
        assert len({getattr(look, part) for look in words.LOOKS.values()}) == len(Verdict)


def test_the_doubts_of_a_cell_are_its_own_and_then_its_figures() -> None:
    missed = Figure("Cost", 3, "1.234", "1.235", Verdict.FAIL)
    failed = Judgement(Verdict.FAIL, reason="it differs")
    one = Outcome("toy", "torch", "float64", "cpu", failed, (missed,), explanation={"sentence": "it is scaled"})
    own, of_figure = words.doubts(one)
    assert own == words.Doubt(Verdict.FAIL, "it differs", "it is scaled")
    assert of_figure == words.Doubt(Verdict.FAIL, "published Cost of epoch 3 is 1.234, ours 1.235")
    assert words.doubts(Outcome("toy", "torch", "float64", "cpu", Judgement(Verdict.PASS, 0.5))) == []


def test_figures_are_counted_by_who_printed_them() -> None:
    def of(by: str, *verdicts: Verdict) -> list[Figure]:
        return [Figure("Cost", 3, "1.234", "1.234", verdict, by=by) for verdict in verdicts]

    def count(*figures: Figure) -> str:
        return words.count_published(
            [Outcome("toy", "torch", "float64", "cpu", Judgement(Verdict.PASS, 0.5), (figure,)) for figure in figures]
        )

    document, public = of("document", Verdict.PASS, Verdict.FAIL), of("public run", Verdict.INCONCLUSIVE)
    own = of("own run", Verdict.PASS, Verdict.PASS)
    assert count() == ""
    assert count(*document) == "1 of 2 figures of documents reproduced"
    said = "1 of 2 figures of documents reproduced, 0 of 1 of public runs, 2 of 2 of own runs"
    assert count(*own, *public, *document) == said
    assert count(*own) == "2 of 2 figures of own runs reproduced"


def test_a_floor_that_is_not_the_suite_s_own_is_said() -> None:
    sources = [None, Source.SUITE, Source.BESIDE, Source.BESIDE, Source.ROUNDING]
    ran = [Outcome("toy", "torch", "float64", "cpu", Judgement(Verdict.PASS, 0.5, source=source)) for source in sources]
    assert words.totals(ran[:2]) == ["2 cells: 2 PASS, at most 0.50 of the tolerance used"]
    assert words.totals(ran)[1:] == [
        "2 cells held to the noise floor that lies beside the run, "
        "1 cell held to rounding alone: no noise floor was measured"
    ]
    for form in (formats.markdown(ran), formats.junit(ran)):
        assert "held to the noise floor that lies beside the run" in form
