"""The matrix: each cell is judged as soon as what it needs is there, in steps that do not grow with the cells."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from parity.judging.outcome import Outcome
from parity.judging.verdict import Judgement, Verdict
from parity.running.cells import Cell, Options
from parity.running.matrix import Matrix, _when_done
from parity.suite import load_suite

PASSED, FAILED = Judgement(Verdict.PASS, ratio=0.0), Judgement(Verdict.FAIL, reason="it parts", epoch=1)


class Asked(Future[Any]):
    """A future that counts how often anything is asked of any of them."""

    count = 0

    def done(self) -> bool:
        Asked.count += 1
        return super().done()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        Asked.count += 1
        super().add_done_callback(fn)


class NoJobs:
    """An executor that is never given a job."""

    def __enter__(self) -> NoJobs:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[Matrix, list[Cell], list[Asked]]:
    """A matrix of so many cells, the needs of each, and whose judgements wait for those alone."""
    found = Matrix(Options(load_suite("impls"), tmp_path, cases=["iris-logistic"], implementations=["torch"]))
    entry = found.cells[0].entry
    found.cells = [Cell(entry, f"torch-{number}", "float64", "cpu") for number in range(count)]
    needs = {cell: Asked() for cell in found.cells}

    def judge(cell: Cell, wanted: dict[str, Future[Any]]) -> Outcome:
        assert all(Future.done(need) for need in wanted.values())
        return Outcome(entry.folder, cell.implementation, cell.dtype, cell.device, PASSED)

    monkeypatch.setattr(found, "executor", NoJobs)
    monkeypatch.setattr(found._making, "needs", lambda cell, pool, on_epoch: {"run": needs[cell]})
    monkeypatch.setattr(found, "_judge", judge)
    return found, found.cells, list(needs.values())


def finishing(futures: list[Asked]) -> threading.Thread:
    """Give them their results, one after another, in a thread of its own."""

    def finish() -> None:
        for future in futures:
            future.set_result(None)

    thread = threading.Thread(target=finish)
    thread.start()
    return thread


@pytest.mark.parametrize("count", [1, 300])
def test_nobody_looks_through_all_cells_at_the_end_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    found, cells, needs = matrix(tmp_path, monkeypatch, count)
    forgotten: list[Cell] = []
    monkeypatch.setattr(found._recordings, "forget", forgotten.append)
    told: list[str] = []
    Asked.count = 0
    thread = finishing(needs[::-1])
    outcomes = found.run(on_outcome=lambda outcome: told.append(outcome.implementation))
    thread.join()
    assert [outcome.implementation for outcome in outcomes] == [cell.implementation for cell in cells]
    assert sorted(told) == sorted(cell.implementation for cell in cells)
    assert [cell.implementation for cell in forgotten] == told[-1:]
    assert Asked.count == count


def test_a_judgement_that_lacks_floors_waits_for_them_and_a_failure_for_its_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, (lacks, fails, passes), needs = matrix(tmp_path, monkeypatch, 3)
    judged: list[str] = []
    floor, explanation = Asked(), Asked()

    def judge(cell: Cell, wanted: dict[str, Future[Any]]) -> Outcome:
        judged.append(f"{cell.implementation} by {', '.join(wanted)}")
        verdict = FAILED if cell is fails else PASSED
        return Outcome(cell.entry.folder, cell.implementation, cell.dtype, cell.device, verdict)

    def stretches(cell: Cell, *_: object) -> dict[str, Future[Any]]:
        return {"a floor": floor} if cell is lacks and len(judged) == 1 else {}

    monkeypatch.setattr(found, "_judge", judge)
    monkeypatch.setattr(found._making, "stretches", stretches)
    monkeypatch.setattr(found, "_explain", lambda *_: explanation)
    monkeypatch.setattr(found, "_explained", lambda cell, outcome, future: outcome)
    told: list[str] = []

    def hear(outcome: Outcome) -> None:
        told.append(outcome.implementation)
        if len(told) == 1:
            finishing([explanation, floor])

    thread = finishing(needs)
    outcomes = found.run(on_outcome=hear)
    thread.join()
    assert judged == ["torch-0 by run", "torch-1 by run", "torch-2 by run", "torch-0 by run, a floor"]
    assert [outcome.judgement.verdict for outcome in outcomes] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    assert told == [passes.implementation, fails.implementation, lacks.implementation]


def test_what_waits_for_several_is_called_once_in_whatever_order_they_end() -> None:
    for order in itertools.permutations(range(3)):
        futures: list[Future[None]] = [Future() for _ in order]
        futures[0].set_result(None)
        calls: list[int] = []
        _when_done(futures, lambda calls=calls: calls.append(1))
        for number in order:
            assert calls == []
            if number:
                futures[number].set_exception(ValueError()) if number == 1 else futures[number].set_result(None)
            if all(future.done() for future in futures):
                break
        assert calls == [1]
