"""A tolerance that could not have seen a gross mistake passes nothing, and right runs are not doubted for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.dtypes import rounded, unit
from parity.judging.diff import compare
from parity.judging.floors.floor import CALMEST, FLOOR, Floor, Source, calmest_of, least_floor, mark_of_run, save
from parity.judging.floors.sight import blind
from parity.judging.verdict import Judgement, Verdict, judge, judge_run, sighted
from parity.recording.reader import read
from parity.recording.writer import write
from parity.trajectory import Shards, Trajectory

EPOCHS = 8


def trained(dtype: str = "float64", rate: float = 1.0, start: float = 0.25) -> Trajectory:
    """A kernel that moves from its start to 2, and a loss that falls from 4 to nearly 0."""
    way = 1 - 0.5 ** np.arange(EPOCHS + 1)
    kernel = start + rate * (2 - start) * way
    params = {"dense/kernel": rounded(np.stack([kernel, kernel / 2], 1), dtype)}
    loss = rounded(4 * (1 - way[:-1]) ** 2, dtype)[:, None]
    return Trajectory({"dtype": dtype}, np.arange(EPOCHS + 1), loss, params, {})


def floor(run: Trajectory, tolerance: float, source: Source | None = None) -> Floor:
    """A noise floor that allows so much of everything, a sixteenth of it."""
    params = {name: np.full(len(values), tolerance / 16) for name, values in run.params.items()}
    return Floor(np.full(run.loss.shape, tolerance / 16), params, source=source)


def judged(run: Trajectory, reference: Trajectory, tolerance: float, source: Source | None = None) -> Judgement:
    return judge_run(run, reference, floor(reference, tolerance, source))


@pytest.mark.parametrize(("tolerance", "verdict"), [(0.4, Verdict.PASS), (0.45, Verdict.INCONCLUSIVE)])
def test_a_tolerance_of_a_quarter_of_the_movement_passes_nothing(tolerance: float, verdict: Verdict) -> None:
    """The kernel moves by 1.74: a rate that is off by a quarter moves it by .44 more or less."""
    found = judged(trained(), trained(), tolerance)
    assert found.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert found.ratio == 0
        assert "the tolerance of dense/kernel, 0.45, is no less than a quarter of its movement, 1.74" in found.reason


def test_a_wrong_run_fails_however_little_is_seen() -> None:
    assert judged(trained(rate=3.0), trained(), 1.0).verdict is Verdict.FAIL


def test_what_is_said_of_it_depends_on_where_the_floor_came_from() -> None:
    for source, words in (
        (Source.ROUNDING, "it takes a measured noise floor (--noise), a wider dtype, or a longer run"),
        (Source.SUITE, "it takes a wider dtype, or a longer run"),
        (Source.SHADOWS, "update by update (watch(..., follow=RUN)), or a wider dtype"),
    ):
        assert judged(trained(), trained(), 1.0, source).reason.endswith(words)


def test_every_quantity_must_be_seen() -> None:
    run = trained()
    wide = floor(run, 1e-6)
    assert judge_run(run, run, wide).verdict is Verdict.PASS
    for name in ("loss", "dense/kernel"):
        blurred = floor(run, 1e-6)
        (blurred.loss if name == "loss" else blurred.params[name])[:] = 1e30
        found = judge_run(run, run, blurred)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert f"the tolerance of {name}, 1.6e+31" in found.reason


def test_one_place_that_is_seen_is_enough() -> None:
    """As in a run that ends in chaos, and whose beginning shows what it is made of."""
    run = trained()
    wide = floor(run, 1e30)
    wide.loss[:2], wide.params["dense/kernel"][:2] = 1e-9, 1e-9
    assert judge_run(run, run, wide).verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["loss", "dense/kernel"])
@pytest.mark.parametrize("source", [Source.BESIDE, Source.SHADOWS, Source.REPETITIONS])
def test_a_floor_that_came_with_its_run_hides_nothing_on_the_way(name: str, source: Source) -> None:
    """Wide in the middle and narrow at both ends, around a loss and weights that are half as large again there."""
    right, wrong = trained(), trained()
    wrong.loss[1:-1] *= 1.5
    wrong.params["dense/kernel"][1:-1] *= 1.4
    wide = replace(floor(right, 1e-9), source=source)
    assert judge_run(right, right, wide).verdict is Verdict.PASS
    for values in (wide.loss, wide.params["dense/kernel"]) if name == "loss" else (wide.params["dense/kernel"],):
        values[1:-1] = 1e30
    found = judge_run(wrong if name == "loss" else right, right, wide)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert f"the tolerance of {name}, 1.6e+31, is no less than half of the largest value" in found.reason


def shadowed(folder: Path, run: Trajectory, name: str, calmest: bool) -> Path:
    """A watched run whose shadows strayed widely from update 4 on, all of them or all but one."""
    write(folder, run.epochs, run.loss, {name: run.params["dense/kernel"]})
    read_back = read(folder)
    wide, narrow = floor(read_back, 1e-4), floor(read_back, 1e-4)
    wide.loss[4:], wide.params[name][4:] = 1e3, 1e3
    floors = {"float32": wide} | ({CALMEST: narrow} if calmest else {})
    save(floors, folder / FLOOR, mark_of_run(read_back))
    return folder


@pytest.mark.parametrize(
    ("moved", "calmest", "verdict"),
    [
        (0.0, False, Verdict.INCONCLUSIVE),
        (0.0, True, Verdict.PASS),
        (1e-4, True, Verdict.PASS),
        (1e-3, True, Verdict.INCONCLUSIVE),
    ],
)
@pytest.mark.parametrize("renamed", [False, True], ids=["alike", "renamed"])
def test_runs_that_part_by_no_more_than_the_calmest_shadow_agree(
    tmp_path: Path, moved: float, calmest: bool, verdict: Verdict, renamed: bool
) -> None:
    """One shadow crossed a kink and left, so that the tolerance hides all that comes after. The others did not."""
    run = trained("float32")
    late = np.where(np.arange(EPOCHS + 1) >= 4, np.float32(moved), np.float32(0))[:, None]
    other = replace(run, params={"dense/kernel": run.params["dense/kernel"] + late})
    one = shadowed(tmp_path / "one", run, "dense/kernel", calmest)
    two = shadowed(tmp_path / "two", other, "w" if renamed else "dense/kernel", calmest)
    found = compare(one, two)
    assert found.judgement.verdict is verdict, found
    if verdict is Verdict.INCONCLUSIVE:
        assert "the comparison would not see a gross mistake" in found.judgement.reason


def test_the_calmest_shadow_is_the_one_that_strayed_least_so_far() -> None:
    run = trained("float32")
    apart = [{"loss": np.full(EPOCHS, far), "dense/kernel": np.full(EPOCHS + 1, far)} for far in (1e-3, 1e-5)]
    apart[1]["dense/kernel"][6:] = 1.0
    found = calmest_of(apart, run, "float32")
    assert found is not None
    assert np.allclose(found.params["dense/kernel"], [1e-5] * 6 + [1e-3] * 3)
    assert calmest_of(apart[:1], run, "float32") is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_bytes_a_number_pass_nothing_by_rounding_alone(dtype: str) -> None:
    passed = Judgement(Verdict.PASS, 0.5, source=Source.ROUNDING)
    found = sighted(passed, trained(), dtype=dtype)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert f"64 roundings of {dtype} are" in found.reason
    assert "it takes a measured noise floor (--noise), a wider dtype" in found.reason
    equal, measured = replace(passed, ratio=0.0), replace(passed, source=Source.REPETITIONS)
    assert {sighted(each, trained(), dtype=dtype).verdict for each in (equal, measured)} == {Verdict.PASS}


def test_a_run_in_lockstep_sees_for_the_free_run() -> None:
    run = trained()
    held = judge_run(run, run, floor(run, 1e30), stretches=lambda: (1, run, floor(run, 1e-6)))
    assert held.verdict is Verdict.PASS
    assert (
        judge_run(run, run, floor(run, 1e30), stretches=lambda: (1, run, floor(run, 1e30))).verdict is not Verdict.PASS
    )


@pytest.mark.parametrize("value", [0.0, 1e-17, 0.5])
def test_what_never_moves_is_measured_by_its_size(value: float) -> None:
    """A frozen table, and a parameter that is zero in exact arithmetic and moves by the rounding of others."""
    run = trained()
    run.params["still"] = value * np.linspace(1, 1.0001 if value < 0.1 else 1, EPOCHS + 1)[:, None]
    allowed = floor(run, 1e-9)
    assert judge_run(run, run, allowed).verdict is Verdict.PASS
    allowed.params["still"][:] = 1e3
    assert judge_run(run, run, allowed).verdict is Verdict.INCONCLUSIVE


def test_a_run_in_several_pieces_is_seen_as_one_in_memory() -> None:
    run = trained()
    kernel = np.asarray(run.params["dense/kernel"])
    pieces = replace(run, params={"dense/kernel": Shards([kernel[:2], kernel[2:5], kernel[5:]])})
    for limit in (0.2, 0.45, 9.0):
        allowed = {"dense/kernel": [np.full(EPOCHS + 1, limit)]}
        assert blind(allowed, pieces) == blind(allowed, run)


def test_a_run_that_moves_by_rounding_alone_shows_nothing() -> None:
    run = trained()
    run.params["dense/kernel"] = 1 + 1e-16 * run.params["dense/kernel"]
    run.loss[:] = 1 + 1e-15 * run.loss
    run.params["zeros"] = np.zeros((EPOCHS + 1, 2))
    allowed = {
        "loss": [np.full(EPOCHS, 1e-14)],
        "dense/kernel": [np.full(EPOCHS + 1, 1e-14)],
        "zeros": [np.zeros(EPOCHS + 1)],
    }
    assert blind(allowed, run).startswith("nothing moved by more than rounding")


def test_a_run_that_holds_still_agrees_with_its_like() -> None:
    run = trained()
    still = replace(run, loss=np.ones_like(run.loss), params={"w": np.ones((EPOCHS + 1, 2))})
    assert sighted(judge(still, still, least_floor(still)), still).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_no_pair_of_ones_own_passes_with_a_rate_that_is_off_by_a_quarter(dtype: str, tmp_path: Path) -> None:
    """Nor a right one in bfloat16, where 64 roundings of each run are half of a value."""
    runs = {
        name: trained(dtype, rate) for name, rate in (("right", 1.0), ("again", 1.0), ("much", 1.25), ("less", 0.75))
    }
    for name, run in runs.items():
        write(tmp_path / name, run.epochs, run.loss, run.params, meta=run.meta)
    for name in ("much", "less"):
        assert compare(tmp_path / name, tmp_path / "right").judgement.verdict is not Verdict.PASS
    found = compare(tmp_path / "again", tmp_path / "right").judgement
    if dtype == "bfloat16":
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "would not see a gross mistake" in found.reason
        assert "--noise" in found.reason
    else:
        assert found.verdict is Verdict.PASS


def test_a_half_precision_run_that_hardly_moves_is_not_passed(tmp_path: Path) -> None:
    """In float16 64 roundings of two runs are 6 % of a value, and weights may move by less."""
    for name, rate in (("right", 1.0), ("wrong", 1.5)):
        run = trained("float16", rate, start=1.9)
        write(tmp_path / name, run.epochs, run.loss, run.params, meta=run.meta)
    assert unit("float16") * 128 > 0.06
    assert compare(tmp_path / "wrong", tmp_path / "right").judgement.verdict is Verdict.INCONCLUSIVE
