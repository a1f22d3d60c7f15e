"""What every report says in the same words: the terminal, the page, and the forms that CI reads."""

from __future__ import annotations

from collections.abc import Sequence

from parity.judging.outcome import Outcome
from parity.judging.published import Figure
from parity.judging.verdict import Verdict


def share(ratio: float | None) -> str:
    """A share of the tolerance, as short as a cell of the matrix: ``.06``, ``2.13``, ``3e5``; "" for None."""
    if ratio is None:
        return ""
    return f"{ratio:.2f}".removeprefix("0") if ratio < 10 else f"{ratio:.0e}".replace("e+0", "e").replace("e+", "e")


def count_cells(outcomes: Sequence[Outcome]) -> str:
    """How many cells there are, and how they came out."""
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]
    shares = [outcome.judgement.ratio or 0.0 for outcome in outcomes if outcome.judgement.verdict is Verdict.PASS]
    most = f", at most {max(shares):.2f} of the tolerance used" if shares else ""
    return f"{len(outcomes)} cells: {', '.join(counts)}{most}"


def count_published(outcomes: Sequence[Outcome]) -> str:
    """How many published figures were reproduced; "" where none were published."""
    published = [figure for outcome in outcomes for figure in outcome.figures]
    held = sum(figure.verdict is Verdict.PASS for figure in published)
    return f"{held} of {len(published)} published figures reproduced" if published else ""


def missed(outcome: Outcome) -> list[tuple[Verdict, str]]:
    """A sentence for each published quantity that was not reproduced, and the verdict on it."""
    by_quantity: dict[str, list[Figure]] = {}
    for figure in outcome.figures:
        by_quantity.setdefault(figure.quantity, []).append(figure)
    found = []
    for figures in by_quantity.values():
        off = [figure for figure in figures if figure.verdict is not Verdict.PASS]
        if off:
            # A failure stands for them all, before a doubt.
            first = next((figure for figure in off if figure.verdict is Verdict.FAIL), off[0])
            why = f" ({first.reason})" if first.reason else ""
            many = f", and {len(off) - 1} more of {len(figures)}" if len(off) > 1 else ""
            sentence = (
                f"published {first.quantity} of epoch {first.epoch} is {first.published}, ours {first.ours}{why}{many}"
            )
            found.append((first.verdict, sentence))
    return found
