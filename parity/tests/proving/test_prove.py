"""The proof of the harness: plants are found, right runs left alone, and what is hidden or missed is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.cli import evidence as cli
from parity.frameworks import framework_of
from parity.judging.verdict import Verdict
from parity.mistakes.catalogue.batches import another_seed
from parity.proving import experiments, prove
from parity.proving.experiments import Planted, bisect, cut, plants
from parity.proving.plan import CLEAN_IN, IN_FRAMEWORKS, plan
from parity.proving.prove import Evidence
from parity.proving.worker import Clean, Experiment, Prove, Smallest, Subject
from parity.report import proof as report
from parity.running.executor import Environment, Resources
from parity.suite import load_suite
from parity.tests.suites import strict_json

SUITE = load_suite("impls")
PLANTS = {
    "iris-logistic": ("sample-standard-deviation", "tanh-for-sigmoid", "gradient-not-zeroed", "float32-layers"),
    "linear-minibatch": ("one-batch-late", "sum-for-mean", "half-squared-error"),
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    found = Evidence(nowhere=["log-without-clamp"])
    jobs: list[Experiment] = []
    for case, names in PLANTS.items():
        jobs += [Prove(*subject(case), names, alternate=False), Clean(*subject(case), seeds=1)]
    for job in (*jobs, Smallest(*subject("iris-logistic"))):
        prove._gather(found, job, job.run(lambda progress: None))
    return found


def subject(case: str) -> tuple[Subject, Environment, Resources]:
    of = Subject("impls", case, "numpy")
    return of, of.environment, Resources()


def test_every_plant_is_caught_located_and_named(evidence: Evidence) -> None:
    assert {plant.hypothesis for plant in evidence.plants} == {name for names in PLANTS.values() for name in names}
    assert len(evidence.plants) == 13
    for plant in evidence.plants:
        assert (plant.caught, plant.phase_right, plant.name_right) == (True, True, True), plant
    assert evidence.unseen == []
    assert evidence.impossible == [("float32-layers", "iris-logistic")]


def test_right_runs_raise_no_alarm(evidence: Evidence) -> None:
    assert len(evidence.clean) == 4
    assert evidence.false_alarms == []
    assert all(0 < run["ratio"] < 1 for run in evidence.clean)
    assert evidence.proved


def test_a_mistake_in_the_figures_alone_is_caught_by_them() -> None:
    entry = SUITE.entry("iris-logistic-minibatch")
    names = ["ties-rounded-the-other-way"]
    (found,) = plants(SUITE, entry, entry.implementations["numpy"], names, lambda: None)["plants"]
    assert Planted(**found).name_right
    assert Planted(**found).phase_right


def test_the_smallest_change_seen_is_near_the_precision(evidence: Evidence) -> None:
    found = evidence.smallest["iris-logistic"]
    assert 1e-16 < found["float64"] < 1e-13
    assert 1e-8 < found["float32"] < 1e-4


@pytest.mark.parametrize("edge", [-12.34, -3.0, -0.5])
def test_bisection_ends_just_above_the_edge(edge: float) -> None:
    found = bisect(lambda exponent: exponent > edge)
    assert found is not None
    assert edge < np.log10(found) <= edge + experiments.STEP


def test_a_change_that_is_never_seen_has_no_smallest() -> None:
    assert bisect(lambda exponent: False) is None


def test_another_seed_is_another_run_of_the_same_case() -> None:
    case = SUITE.entry("iris-logistic-minibatch").case
    one, other = case.seeded(0), case.seeded(1)
    for name, value in one.initial().items():
        assert value.shape == other.initial()[name].shape
        assert not np.array_equal(value, other.initial()[name])
        np.testing.assert_array_equal(value, case.seeded(0).initial()[name])
    assert len({one.schedule, other.schedule, case.schedule}) == 3


@pytest.mark.parametrize("name", SUITE.entries)
def test_a_case_is_cut_to_whole_snapshots(name: str) -> None:
    whole = SUITE.entry(name).case
    case = cut(whole)
    assert 1 <= case.epochs <= whole.epochs
    assert case.epochs == whole.epochs or case.epochs % case.every == 0
    assert case.metrics == ()


def test_the_plan_plants_every_mistake_in_two_models_and_visits_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.proving.plan._unplanted", lambda hypothesis, build, case: None)
    planned = plan(SUITE, subset=False)
    assert planned.nowhere == ()
    planted = [job for job in planned.experiments if isinstance(job, Prove)]
    models = {SUITE.entry(job.subject.case).spec for job in planted}
    assert models == {entry.spec for entry in SUITE.entries.values()}
    assert {job.subject.implementation for job in planted} == {"numpy", *IN_FRAMEWORKS}
    in_reference = [name for job in planted if job.subject.implementation == "numpy" for name in job.plants]
    assert in_reference.count("half-squared-error") == 2
    followed = {job.subject.implementation for job in planned.experiments if isinstance(job, Clean)}
    assert followed == set(CLEAN_IN)
    assert {job.subject.case for job in planned.experiments if isinstance(job, Smallest)} == set(SUITE.entries)
    assert {job.environment.framework for job in planned.experiments} >= {framework_of(job).name for job in followed}


def missed(**changes: Any) -> Planted:
    right = Planted("a-mistake", "a-case", "numpy", "float64", True, "update", "update", "a-mistake", 3, False)
    return replace(right, **changes)


ALARM = {"case": "a", "implementation": "torch", "dtype": "float32", "seed": 0, "verdict": Verdict.FAIL,
         "ratio": 2.0, "reason": "too far"}  # fmt: skip
PASSED = {**ALARM, "verdict": Verdict.PASS, "ratio": 0.5, "reason": ""}


def test_what_is_missed_is_not_proved() -> None:
    assert Evidence(plants=[missed()], clean=[PASSED]).proved
    assert not Evidence(plants=[missed(caught=False)], clean=[PASSED]).proved
    assert not Evidence(plants=[missed()], clean=[PASSED, ALARM]).proved
    assert not Evidence(plants=[missed()], clean=[PASSED], failures=["lost"]).proved
    assert not Evidence(plants=[], clean=[PASSED]).proved
    assert not Evidence(plants=[missed()], clean=[]).proved


def test_too_few_phases_or_names_are_not_proved() -> None:
    for off, allowed in ((missed(phase="loss"), 20), (missed(named="another"), 7)):
        assert Evidence(plants=[off, *[missed()] * (allowed - 1)], clean=[PASSED]).proved
        assert not Evidence(plants=[off, *[missed()] * (allowed - 2)], clean=[PASSED]).proved


def test_the_totals_say_the_smallest_fault_and_where(evidence: Evidence) -> None:
    seen = {"one": {"float64": 1e-14, "float32": 1e-6}, "other": {"float64": 2e-12, "float32": None}}
    lines = "\n".join(report.totals(replace(evidence, smallest=seen)))
    assert "right runs with other seeds and initial weights" in lines
    assert "float64: a learning rate off by 1.0e-14 of itself fails in one, by 2.0e-12 in other" in lines
    assert "1 cases see none up to 1" in lines


def test_a_tied_name_counts_and_is_counted_apart() -> None:
    tied, wrong = missed(named="another", tied=True), missed(named="another")
    found = Evidence(plants=[missed(), tied, wrong, missed(phase="loss")], clean=[PASSED, ALARM]).as_json()
    assert (found["planted"], found["caught"], found["phase_right"]) == (4, 4, 3)
    assert (found["name_right"], found["name_tied"]) == (3, 1)
    assert (found["clean_runs"], found["false_alarms"]) == (2, 1)


def test_the_json_has_its_keys(evidence: Evidence) -> None:
    found = strict_json(json.dumps(evidence.as_json(), allow_nan=False), "prove")
    counts = {"planted", "caught", "phase_right", "name_right", "clean_runs", "false_alarms", "plants"}
    assert counts <= set(found)
    wanted = {"hypothesis", "case", "implementation", "dtype", "caught", "phase", "named", "epoch"}
    assert all(wanted <= set(plant) for plant in found["plants"])


class Page(HTMLParser):
    """What a page asks for from elsewhere, and what stands in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_stands_alone_and_escapes(evidence: Evidence) -> None:
    odd = replace(evidence, failures=["<script>alert(1)</script>"], plants=[*evidence.plants, missed(named="<b>x</b>")])
    page = Page(report.page(odd))
    assert page.asked == []
    assert not {"script", "b", "link"} & set(page.tags)
    for row in report.rows(odd):
        assert row["name"] in page.words
    assert "<b>x</b>" in page.words


def test_without_jinja2_a_page_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    monkeypatch.setattr(prove, "prove", lambda *arguments: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as ended:
        cli.prove(page_file=tmp_path / "page.html", subset=True, jobs=1)
    assert ended.value.code == 2
    assert "cross-framework-parity[report]" in capsys.readouterr().err


def test_the_command_s_status_says_whether_it_is_proved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for clean_runs, status in (([PASSED], 0), ([PASSED, ALARM], 1)):
        result = Evidence(plants=[missed()], clean=clean_runs)
        monkeypatch.setattr(prove, "prove", lambda *arguments, result=result: result)
        with pytest.raises(SystemExit) as ended:
            cli.prove(json_file=tmp_path / "prove.json", page_file=tmp_path / "page.html", subset=True, jobs=1)
        assert ended.value.code == status
        assert strict_json((tmp_path / "prove.json").read_text(), "prove")["false_alarms"] == status
        assert "a-mistake" in (tmp_path / "page.html").read_text()
    assert "FALSE ALARM" in capsys.readouterr().out


def test_a_schedule_of_a_plain_class_gets_another_seed_and_is_cut() -> None:
    class Mine:
        ordered = False

        def __init__(self) -> None:
            self.seed, self.size = 5, 10**6

        def epochs(self, rows: int) -> Iterator[tuple[np.ndarray, ...]]:
            generator = np.random.RandomState(self.seed)
            while True:
                yield (generator.permutation(rows)[: self.size],)

    case = replace(SUITE.entries["iris-logistic"].case, schedule=Mine())
    assert case.seeded(3).schedule.seed == 1003
    assert cut(case).schedule.size < 10**6
    assert (case.schedule.seed, case.schedule.size) == (5, 10**6)
    rows = next(another_seed(case.schedule, 50))
    assert not np.array_equal(rows, next(case.schedule.epochs(50))[0])
