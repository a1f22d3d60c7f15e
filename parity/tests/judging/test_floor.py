"""The noise floor: what is measured, what it must never be, and that it can be kept and shortened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from parity.dtypes import DTYPES, KNOWN
from parity.judging.floors.floor import Floor, checksum, floor_of, load, save, too_narrow
from parity.judging.floors.noise import measure, stirred
from parity.spec import Adam, Case, FullBatch, Sgd
from parity.tests import toy
from parity.tolerance import RUNS, largest_lately, stir
from parity.trainer import Trainer, record, verbs
from parity.trajectory import Trajectory, TrajectoryError, gather

exhaustive = settings(derandomize=True, deadline=None, max_examples=60, database=None)
UNIT = {dtype: np.finfo(dtype).eps / 2 for dtype in DTYPES}
CASES = [toy.case(Sgd(0.1, momentum=0.9, weight_decay=0.01)), toy.ADAM]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def measured(request: pytest.FixtureRequest) -> tuple[Case, dict[str, Floor]]:
    return request.param, measure(toy.build, request.param, request.param.epochs)


def test_a_floor_covers_the_roundings_of_the_largest_value_lately(
    measured: tuple[Case, dict[str, Floor]],
) -> None:
    case, floors = measured
    reference = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    assert set(floors) == set(DTYPES)
    for dtype, floor in floors.items():
        assert floor.loss.shape == reference.loss.shape
        size = {"loss": np.abs(reference.loss).ravel()}
        for name, values in reference.params.items():
            assert floor.params[name].shape == (len(reference.epochs),)
            size[name] = np.abs(values).reshape(len(values), -1).max(1)
        assert set(floor.params) == set(reference.params)
        for name, values in ({"loss": floor.loss.ravel()} | floor.params).items():
            assert np.isfinite(values).all()
            lately = [max(size[name][place // 2 : place + 1]) for place in range(len(values))]
            assert (values >= 4 * UNIT[dtype] * np.array(lately)).all()
            assert (values > 0).all()
            # No floor so wide that a change in the fourth digit would be lost in it.
            assert (values <= 1e-4 * size[name].max()).all()


def test_a_floor_follows_a_run_down() -> None:
    """A loss that falls by 1e10 does not keep the roundings of its start, neither measured nor least."""
    loss = 10.0 ** -np.arange(11.0)
    run = Trajectory({"dtype": "float64"}, np.arange(12), loss[:, None], {"w": np.ones((12, 1))}, {})
    strayed = [{"loss": 1e-14 * loss, "w": np.zeros(12)} for _ in range(RUNS)]
    floor = floor_of(strayed, run, "float64").loss.ravel()
    assert floor.tolist() == pytest.approx((1e-14 * 10.0 ** -(np.arange(11) // 2)).tolist())
    assert (floor_of([{"loss": 0 * loss, "w": np.zeros(12)}] * RUNS, run, "float64").loss.ravel()[-1]) < 1e-20
    # Fewer runs do not show how far half a run strays: what was seen since its start counts.
    for few in (strayed[:-1], ()):
        assert (np.diff(floor_of(few, run, "float64").loss.ravel()) == 0).all()


@exhaustive
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_a_window_reaches_back_to_the_middle_of_the_run(length: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values, at = random.normal(size=length), np.cumsum(random.integers(1, 6, length)) - 1
    wanted = []
    for place, now in enumerate(at):
        first = max([one for one in range(place + 1) if 2 * at[one] <= now], default=0)
        wanted.append(values[first : place + 1].max())
    np.testing.assert_array_equal(largest_lately(values, at), wanted)


@pytest.mark.parametrize("phase", np.linspace(0, np.pi, 13))
@pytest.mark.parametrize("period", [3.1, 7.3, 40, 400, 4e4])
def test_a_mode_that_crosses_zero_in_all_runs_keeps_a_third_of_its_floor(period: float, phase: float) -> None:
    """So an implementation that crosses zero a little later than all stirred runs is no false alarm."""
    at = np.arange(2000)
    mode = np.abs(np.sin(2 * np.pi * at / period + phase))
    later = at >= 10  # before, the window has too few places to speak of thirds
    lately = largest_lately(mode, at)[later]
    assert (lately >= 0.3 * np.maximum.accumulate(mode)[later]).all()
    assert not period < 100 or (mode[later] < 0.3 * np.maximum.accumulate(mode)[later]).any()


def test_the_float64_floor_is_no_less_than_what_float32_shows(measured: tuple[Case, dict[str, Floor]]) -> None:
    _, floors = measured
    assert (floors["float64"].loss >= 2.0**-29 * floors["float32"].loss).all()
    for name, values in floors["float64"].params.items():
        assert (values >= 2.0**-29 * floors["float32"].params[name]).all()
        assert (values <= 2.0**-20 * floors["float32"].params[name]).all()


def test_every_stirred_run_lies_within_the_floor_and_some_run_reaches_it(
    measured: tuple[Case, dict[str, Floor]],
) -> None:
    case, floors = measured
    reference = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    for dtype, floor in floors.items():
        farthest = np.zeros(reference.loss.shape)
        for seed in range(RUNS):
            trainer, case_of_it = stirred(toy.build, case, dtype, seed)
            run = gather(record(trainer, case_of_it, case.epochs))
            farthest = np.maximum(farthest, np.abs(run.loss.astype(np.float64) - reference.loss))
        assert (farthest <= floor.loss).all()
        assert farthest.any()


def test_a_floor_is_the_same_at_every_measurement() -> None:
    first, second = (measure(toy.build, toy.MOMENTUM, 2) for _ in range(2))
    for dtype in DTYPES:
        assert first[dtype].loss.tobytes() == second[dtype].loss.tobytes()
        for name, values in first[dtype].params.items():
            assert values.tobytes() == second[dtype].params[name].tobytes()


def test_the_beginning_of_a_floor_is_the_floor_of_the_beginning(measured: tuple[Case, dict[str, Floor]]) -> None:
    case, floors = measured
    short = measure(toy.build, case, 2)
    for dtype, floor in floors.items():
        beginning = floor.until(2, 3)
        np.testing.assert_array_equal(beginning.loss, short[dtype].loss)
        for name, values in short[dtype].params.items():
            np.testing.assert_array_equal(beginning.params[name], values)


def test_a_floor_comes_back_from_the_disk_no_smaller(measured: tuple[Case, dict[str, Floor]], tmp_path: Path) -> None:
    _, floors = measured
    path = tmp_path / "kept" / "floor.safetensors"
    save(floors, path, "this case")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    kept = load(path, "this case")
    assert kept is not None
    for dtype, floor in floors.items():
        for name, values in ({"loss": floor.loss} | floor.params).items():
            back = kept[dtype].loss if name == "loss" else kept[dtype].params[name]
            assert (back >= values).all()
            assert (back <= values * (1 + 2.0**-22)).all()


def test_a_metric_that_may_not_change_still_may_not_when_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "floor.safetensors"
    kept = Floor(np.ones((1, 1)), {"w": np.ones(2)}, {"accuracy": np.array([0.0, 1 / 3])})
    save({"float64": kept}, path, "this case")
    found = load(path, "this case")
    assert found is not None
    back = found["float64"].metrics["accuracy"]
    assert back[0] == 0
    assert 1 / 3 <= back[1] <= 1 / 3 * (1 + 2.0**-22)


def test_a_floor_of_another_case_is_none_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "floor.safetensors"
    assert load(path, "this case") is None
    save(measure(toy.build, toy.MOMENTUM, 1), path, "this case")
    assert load(path, "another case") is None
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"is damaged .*: delete it"):
        load(path, "this case")


def write(path: Path, tensors: dict[str, np.ndarray], mark: str = "this case") -> None:
    """Write tensors as ``save`` writes a floor, with a right checksum."""
    about = {"fingerprint": mark, "runs": "16"}
    save_file(tensors, path, about | {"checksum": checksum(tensors, about)})


def f4(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


UNFIT = [
    ({"float64/params/w": f4(4)}, "it holds no float64/loss"),
    ({"float64/loss": f4(3), "float64/params/w": f4(4)}, "it holds no float64/loss of epochs"),
    ({"float64/loss": f4(), "float64/params/w": f4(4)}, "it holds no float64/loss of epochs"),
    ({"float64/loss": f4(3, 1), "float64/params/w": f4(4, 1)}, "float64/params/w is not one value"),
    ({"float64/loss": f4(3, 1), "float64/params/w": f4()}, "float64/params/w is not one value"),
    ({"float64/loss": f4(3, 1), "float64/metrics/m": f4(4, 1)}, "float64/metrics/m is not one value"),
    ({"float64/loss": f4(3, 1), "float64/more/w": f4(4)}, "float64/more/w is not one value"),
    ({"nothing": f4(3)}, "it holds no nothing/loss"),
    ({"float64/loss": f4(3, 1), "float64/params/v": f4(4), "float64/params/w": f4(3)}, "float64/params/w has 3 snap"),
    ({"float64/loss": -f4(3, 1)}, "float64/loss is negative"),
    ({"float64/loss": f4(3, 1), "float64/params/w": -1e30 * f4(4)}, "float64/params/w is negative"),
    ({"float64/loss": f4(3, 1), "float32/loss": f4(2, 1)}, "its dtypes have other tensors or shapes"),
    ({"float64/loss": np.ones((3, 1))}, "float64/loss is float64, not float32"),
]


@pytest.mark.parametrize(("tensors", "how"), UNFIT)
def test_what_cannot_be_a_floor_is_refused_whatever_its_checksum(
    tmp_path: Path, tensors: dict[str, np.ndarray], how: str
) -> None:
    path = tmp_path / "floor.safetensors"
    write(path, tensors)
    assert load(path, "another case") is None
    with pytest.raises(TrajectoryError, match=rf"is damaged \({how}.*\): delete it"):
        load(path, "this case")


def test_a_floor_without_its_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "floor.safetensors"
    save_file({"float64/loss": f4(3, 1)}, path, {"fingerprint": "this case"})
    with pytest.raises(TrajectoryError, match=r"is damaged \(it has no checksum\): delete it"):
        load(path, "this case")


@pytest.mark.slow
def test_no_flipped_bit_of_a_floor_is_believed(tmp_path: Path) -> None:
    """Every bit of the file, header and all: it is refused, or it is no floor of this case any more."""
    path = tmp_path / "floor.safetensors"
    save({"float64": Floor(np.full((2, 1), 0.75), {"w": np.full(3, 0.75)})}, path, "this case")
    kept = path.read_bytes()
    wanted = load(path, "this case")
    assert wanted is not None
    for bit in range(8 * len(kept)):
        changed = bytearray(kept)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = load(path, "this case")
        except TrajectoryError:
            continue
        # White space in the header is no part of a floor.
        same = found is None or (found["float64"].tensors().keys() == wanted["float64"].tensors().keys())
        assert same, bit
        for name, values in (found["float64"].tensors() if found else {}).items():
            assert values.tobytes() == wanted["float64"].tensors()[name].tobytes(), bit


def test_a_floor_that_was_not_measured_on_the_reference_is_told(measured: tuple[Case, dict[str, Floor]]) -> None:
    case, floors = measured
    reference = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    for dtype, floor in floors.items():
        assert too_narrow(floor, reference, dtype) == ""
        assert too_narrow(floor.until(2, 3), reference, dtype) == ""
        for name in ("loss", *floor.params):
            for value in (0.0, np.nan):
                broken = Floor(floor.loss.copy(), {one: values.copy() for one, values in floor.params.items()})
                (broken.loss if name == "loss" else broken.params[name])[2] = value
                assert f"the noise floor of {name} is less than" in too_narrow(broken, reference, dtype)


@pytest.mark.parametrize(("stored", "size"), [("BF16", 2), ("F8_E4M3", 1)])
def test_a_floor_in_a_dtype_that_numpy_lacks_is_damaged(tmp_path: Path, stored: str, size: int) -> None:
    path = tmp_path / "floor.safetensors"
    loss = {"dtype": stored, "shape": [1, 1], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"fingerprint": "it"}, "float64/loss": loss}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    with pytest.raises(TrajectoryError, match=r"is damaged .*: delete it"):
        load(path, "it")


@pytest.mark.parametrize("dtype", KNOWN)
def test_the_largest_number_is_stirred_to_its_neighbour_or_over(dtype: str) -> None:
    if dtype == "bfloat16":
        largest, below = np.array([2.0**128 - 2.0**120], np.float32), 2.0**128 - 2.0**121
    else:
        largest = np.array([np.finfo(dtype).max])
        below = float(np.nextafter(largest, np.zeros(1, dtype))[0])
    found = {
        float(stir(sign * largest, np.random.default_rng(seed), dtype)[0]) for seed in range(8) for sign in (1, -1)
    }
    assert found == {below, -below, np.inf, -np.inf}


@exhaustive
@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=5), elements=st.floats(allow_subnormal=False))
    | hnp.arrays(np.float32, 6, elements=st.floats(width=32, allow_subnormal=False)),
    st.integers(0, 9),
)
def test_stirring_moves_each_value_to_a_neighbour(values: np.ndarray, seed: int) -> None:
    moved = stir(values, np.random.default_rng(seed), values.dtype.name)
    assert (moved.dtype, moved.shape) == (values.dtype, values.shape)
    still = (values == 0) | ~np.isfinite(values)
    np.testing.assert_array_equal(moved[still], values[still])
    with np.errstate(over="ignore"):
        up = np.nextafter(values, np.array(np.inf, values.dtype))
        down = np.nextafter(values, np.array(-np.inf, values.dtype))
        # Below a power of two the spacing halves: one step down there is two steps.
        down_twice = np.nextafter(down, np.array(-np.inf, values.dtype))
        up_twice = np.nextafter(up, np.array(np.inf, values.dtype))
    near = (moved == up) | (moved == down) | (moved == up_twice) | (moved == down_twice)
    assert (near | still).all()
    assert (moved != values)[~still].all()


def test_integers_are_not_stirred() -> None:
    values = np.arange(5)
    assert stir(values, np.random.default_rng(0), "float32") is values


def test_a_stirred_run_permutes_rows_unless_their_order_means_something() -> None:
    class Text(FullBatch):
        ordered = True

    for schedule, permuted in ((FullBatch(), True), (Text(), False)):
        seen = []
        case = toy.case(Adam(0.1))
        object.__setattr__(case, "schedule", schedule)

        def build(case: Case, dtype: str, device: str, seen: list[np.ndarray] = seen) -> Trainer:
            inner = verbs(toy.build(case, dtype, device))
            return replace(inner, train=lambda segments: (seen.append(segments[0][0]), inner.train(segments))[1])

        trainer, _ = stirred(build, case, "float64", seed=0)
        trainer.train([next(schedule.epochs(toy.ROWS))])
        assert sorted(seen[0]) == list(range(toy.ROWS))
        assert np.array_equal(seen[0], np.arange(toy.ROWS)) is not permuted
