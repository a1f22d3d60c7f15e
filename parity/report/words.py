"""What the terminal, the page and the forms that CI reads say alike: words, marks, rows and doubts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from parity.judging.floors.floor import Source
from parity.judging.outcome import Outcome
from parity.judging.published import PRINTED_BY, counted, missed
from parity.judging.tensors.correspondence import Pairing
from parity.judging.verdict import Verdict
from parity.suite import rank


@dataclass(frozen=True)
class Look:
    """How a verdict looks.

    Attributes:
        mark: One character.
        style: Its style in a terminal, in the words of rich.
        kind: Its class in a page: ``good``, ``bad`` or ``odd``, for which the page's style has a colour.
    """

    mark: str
    style: str
    kind: str


LOOKS: Mapping[Verdict, Look] = {
    Verdict.PASS: Look("✓", "green", "good"),
    Verdict.FAIL: Look("✗", "bold red", "bad"),
    Verdict.INCONCLUSIVE: Look("?", "yellow", "odd"),
}


def share(ratio: float | None) -> str:
    """A share of the tolerance, short enough for a cell of the matrix; "" for None.

    >>> share(0.0613), share(2.131), share(312345.6), share(None)
    ('.06', '2.13', '3e5', '')
    """
    if ratio is None:
        return ""
    return f"{ratio:.2f}".removeprefix("0") if ratio < 10 else f"{ratio:.0e}".replace("e+0", "e").replace("e+", "e")


def proven(pairing: Pairing) -> str:
    """Say whether tensors that were matched are proven to be the same."""
    if pairing.differs:
        return "no: the values differ"
    return "yes" if pairing.proven else "no"


def count_cells(outcomes: Sequence[Outcome]) -> str:
    """How many cells there are, and how they came out."""
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]
    shares = [outcome.judgement.ratio or 0.0 for outcome in outcomes if outcome.judgement.verdict is Verdict.PASS]
    return f"{len(outcomes)} cells: {', '.join(counts)}{most_used(shares)}"


def most_used(ratios: Iterable[float | None]) -> str:
    """The largest of some shares of the tolerance, as the end of a sentence; "" where none is known.

    >>> most_used([0.25, None, 0.125])
    ', at most 0.25 of the tolerance used'
    """
    known = [ratio for ratio in ratios if ratio is not None]
    return f", at most {max(known):.2f} of the tolerance used" if known else ""


def count_published(outcomes: Sequence[Outcome]) -> str:
    """How many figures were reproduced, of each who printed them; "" where nobody printed any."""
    found = counted(figure for outcome in outcomes for figure in outcome.figures)
    said = [f"{held} of {count}{{}} of {PRINTED_BY[kind]}{{}}" for kind, (held, count) in found.items()]
    first = [text.format(" figures", " reproduced") for text in said[:1]]
    return ", ".join([*first, *(text.format("", "") for text in said[1:])])


def totals(outcomes: Sequence[Outcome]) -> list[str]:
    """What is said of the whole matrix: how cells came out, which figures were reproduced, which floors were used."""
    return [text for text in (count_cells(outcomes), count_published(outcomes), count_floors(outcomes)) if text]


def foreign_floor(outcome: Outcome) -> str:
    """Say to which noise floor a cell was held, if that is not the suite's own, which everybody can see."""
    source = outcome.judgement.source
    return "" if source in (None, Source.SUITE) else f"held to {source.words}"


def count_floors(outcomes: Iterable[Outcome]) -> str:
    """How many cells were held to other noise floors than the suite's own, and to which; "" if none was."""
    said = Counter(filter(None, map(foreign_floor, outcomes)))
    return ", ".join(f"{count} {'cell' if count == 1 else 'cells'} {how}" for how, count in said.items())


@dataclass(frozen=True)
class Doubt:
    """Something that kept a cell from passing.

    Attributes:
        verdict: FAIL or INCONCLUSIVE.
        reason: Why, in words.
        explanation: What explains it, in one sentence; "" where nothing does.
    """

    verdict: Verdict
    reason: str
    explanation: str = ""


def doubts(outcome: Outcome) -> list[Doubt]:
    """Everything that kept a cell from passing: its own verdict, then the published figures that it missed."""
    found = [Doubt(verdict, sentence) for verdict, sentence in missed(outcome.figures)]
    own = outcome.judgement
    return found if own.verdict is Verdict.PASS else [Doubt(own.verdict, own.reason, explained(outcome)), *found]


def explained(outcome: Outcome) -> str:
    """What explains a run that failed, in one sentence; "" where nothing does."""
    return str(outcome.explanation["sentence"]) if outcome.explanation else ""


def labels_of(outcomes: Iterable[Outcome]) -> list[str]:
    """The columns of the matrix: every implementation, in the order in which people look for them."""
    return sorted({outcome.implementation for outcome in outcomes}, key=rank)


def rows_of(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, str], dict[str, Outcome]]:
    """The rows of the matrix: by case, dtype and device, the outcome of each implementation."""
    rows: dict[tuple[str, str, str], dict[str, Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.folder, outcome.dtype, outcome.device), {})[outcome.implementation] = outcome
    return rows
