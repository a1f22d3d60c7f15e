"""Results read back, and two runs told apart beyond noise."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measuring import CLOCK, Clock
from benchmarks.report import build, markdown
from benchmarks.result import SURE, ResultError, Spread, beyond_noise, chance, read
from parity.tests.benchmarks.figures import entry, training, write


def test_a_difference_beyond_noise_is_marked_and_one_within_is_not(tmp_path: Path) -> None:
    peer = [1.0] * 5
    before = [
        training("a", "numpy", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        training("a", "torch", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        training("a", "jax", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        entry("test_cold", "matrix", [10.0], arguments=["a"], recorded_runs=1, breakdown={}),
    ]
    now = [
        # One round of the earlier run is slower than one of these.
        training("a", "numpy", [1.35, 1.5, 1.6, 1.7, 1.8], peer),
        training("a", "torch", [1.45, 1.5, 1.6, 1.7, 1.8], peer),
        training("a", "jax", [0.5, 0.6, 0.7, 0.8, 0.9], peer),
        entry("test_cold", "matrix", [90.0], arguments=["a"], recorded_runs=1, breakdown={}),
    ]
    earlier = read(write(tmp_path / "before.json", before))
    text = markdown(build(read(write(tmp_path / "now.json", now)), earlier))
    assert "4 benchmarks are in both: 2 differ beyond the noise, 1 do not, 1 have too few rounds to tell" in text
    section = text[: text.index("## Training")]
    marks = {name: mark for mark, name in re.findall(r"\| ([a-z ]+) \| (\S+) \| .* × \|$", section, re.MULTILINE)}
    assert marks == {
        "training\\[a-torch\\]": "slower",
        "training\\[a-jax\\]": "faster",
        "training\\[a-numpy\\]": "within noise",
        "cold": "too few rounds",
    }


def test_a_slower_machine_changes_no_ratio_and_is_told(tmp_path: Path) -> None:
    rounds = [1.0, 1.1, 1.2, 1.3, 1.4]
    earlier = read(write(tmp_path / "before.json", [training("a", "numpy", rounds, [2.0] * 5)]))
    slow = [training("a", "numpy", [3 * value for value in rounds], [6.0] * 5)]
    text = markdown(build(read(write(tmp_path / "now.json", slow)), earlier))
    assert "0 differ beyond the noise" in text
    assert "listings took 3.00 times as long" in text


@pytest.mark.parametrize(("rounds", "others"), [(1, 1), (2, 3), (4, 4), (3, 5)])
def test_chance_is_the_share_of_orders_that_part_the_two_runs(rounds: int, others: int) -> None:
    places = range(rounds + others)
    parted = [
        set(chosen) in (set(range(rounds)), set(range(others, rounds + others)))
        for chosen in itertools.combinations(places, rounds)
    ]
    assert chance(rounds, others) == pytest.approx(sum(parted) / len(parted))


times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8).map(tuple)


@given(times, times)
def test_a_mark_turns_round_with_the_runs(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    turned = {"faster": "slower", "slower": "faster"}
    mark = beyond_noise(Spread(a), Spread(b))
    assert beyond_noise(Spread(b), Spread(a)) == turned.get(mark, mark)
    if mark in turned:
        assert chance(len(a), len(b)) <= SURE


@given(times)
def test_a_run_never_differs_from_itself(a: tuple[float, ...]) -> None:
    assert beyond_noise(Spread(a), Spread(a)) not in ("faster", "slower")


# What is read.


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"benchmarks": 1}', json.dumps({"benchmarks": [entry("a", "b", [])], "machine_info": {}})],
)
def test_what_is_no_result_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ResultError, match=r"is no result of 'parity bench' \(.*name its parity-benchmarks.json$"):
        read(tmp_path / "x.json")


def test_a_missing_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot read .*No such file"):
        read(tmp_path / "x.json")


def test_the_clock_stands_still_but_for_what_workers_say() -> None:
    clock = Clock()
    begun = clock()
    clock.advance(1.5)
    assert clock() - begun == 1.5
    assert "perf_counter" in str(CLOCK)
