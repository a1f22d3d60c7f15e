"""The narrow dtypes: rounded as the format says, worked out in float32, measured and judged by the same policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.dtypes import DTYPES, KNOWN, NARROW, carrier, packed, rounded, smallest, spacing, unit, unpacked
from parity.judging.floors.floor import load, save
from parity.judging.floors.noise import measure, runs_of
from parity.judging.ladder import Climb, contract, gradients, prediction, resume, update
from parity.judging.verdict import Verdict, judge
from parity.nn.losses import binary_crossentropy
from parity.nn.narrow import Bfloat16, Float16, Narrow
from parity.recording.places import floor_name
from parity.spec import Loss, Sgd
from parity.tests import toy
from parity.tolerance import FACTOR, RUNS, stir
from parity.trainer import record
from parity.trajectory import gather

exhaustive = settings(derandomize=True, deadline=None, max_examples=200, database=None)
# Significant bits, the exponent of the smallest normal number, and the largest exponent, of each format.
FORMATS = {"float16": (11, -14, 15), "bfloat16": (8, -126, 127)}
KINDS = {"float16": Float16, "bfloat16": Bfloat16}
narrow = st.sampled_from(NARROW)


def nearest(value: float, dtype: str) -> float:
    """The nearest number of a format to a float32, by the definition of the format; exact in float64."""
    digits, least, most = FORMATS[dtype]
    if value == 0 or not np.isfinite(value):
        return value
    quantum = 2.0 ** (max(np.frexp(value)[1] - 1, least) - (digits - 1))
    found = float(np.rint(value / quantum)) * quantum  # ties to even
    return found if abs(found) < 2.0 ** (most + 1) else float(np.copysign(np.inf, value))


@exhaustive
@given(hnp.arrays(np.uint32, st.integers(0, 40)), narrow)
@example(np.array([0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F7FFFFF, 0x00008000, 0x80000001], np.uint32), "bfloat16")
@example(np.array([0x3F808000, 0x3F818000, 0x3F800000], np.uint32), "bfloat16")
def test_rounding_goes_to_the_nearest_number_of_the_format(bits: np.ndarray, dtype: str) -> None:
    with np.errstate(invalid="ignore"):
        values = bits.view(np.float32)
        got = rounded(values, dtype)
    assert got.dtype == carrier(dtype)
    np.testing.assert_array_equal(got.astype(np.float64), [nearest(float(value), dtype) for value in values])
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(values[got == 0]))
    np.testing.assert_array_equal(rounded(got, dtype), got)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_nan_and_the_infinities_stay_what_they_are(dtype: str, shape: tuple[int, ...]) -> None:
    for value in (np.nan, np.inf, -np.inf):
        for values in (np.full(shape, value, np.float32), np.full(shape, value), np.full(shape, value)[()]):
            np.testing.assert_array_equal(rounded(values, dtype), values)


def test_integers_are_not_rounded() -> None:
    values = np.arange(300)
    assert rounded(values, "bfloat16") is values


@exhaustive
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
def test_every_bfloat16_survives_its_two_bytes(bits: np.ndarray) -> None:
    values = unpacked(bits)
    again = packed(values)
    still = ~np.isnan(values)
    np.testing.assert_array_equal(again[still], bits[still])
    assert np.isnan(unpacked(again)[~still]).all()


@exhaustive
@given(st.floats(width=32, allow_nan=False))
def test_what_is_no_bfloat16_is_not_packed(value: float) -> None:
    values = np.array([1.0, value], np.float32)
    if np.array_equal(rounded(values, "bfloat16"), values):
        assert unpacked(packed(values))[1] == value
    else:
        with pytest.raises(ValueError, match="not every value"):
            packed(values)


@pytest.mark.parametrize("dtype", KNOWN)
def test_unit_spacing_and_smallest_say_the_same_of_a_format(dtype: str) -> None:
    one = np.ones(1, carrier(dtype))
    assert spacing(one, dtype)[0] == 2 * unit(dtype)
    above = (1 + 2 * unit(dtype)) * one.astype(np.float64)
    assert rounded(above, dtype)[0] == above[0]
    assert rounded((1 + 0.99 * unit(dtype)) * one.astype(np.float64), dtype)[0] == 1
    assert spacing(np.zeros(1, carrier(dtype)), dtype)[0] == smallest(dtype)


@exhaustive
@example(np.full(6, -1, np.float32), "float16", 0)  # a power of two, below which numbers are twice as close
@given(hnp.arrays(np.float32, 6, elements=st.floats(-1e4, 1e4, width=32)), narrow, st.integers(0, 9))
def test_stirring_moves_each_value_by_one_unit_of_its_dtype(values: np.ndarray, dtype: str, seed: int) -> None:
    moved = stir(values, np.random.default_rng(seed), dtype).astype(np.float64)
    start = rounded(values, dtype)
    np.testing.assert_array_equal(rounded(moved, dtype), moved)
    step = np.abs(moved - start.astype(np.float64))
    np.testing.assert_array_equal(step, np.where(start == 0, 0, np.abs(spacing(start, dtype)).astype(np.float64)))


def as_narrow(values: np.ndarray, dtype: str) -> Narrow:
    return rounded(values, dtype).astype(np.float32).view(KINDS[dtype])


matrices = hnp.arrays(np.float32, (3, 3), elements=st.floats(-100, 100, width=32))


@exhaustive
@given(matrices, matrices, narrow)
def test_every_operation_is_made_in_float32_and_rounded_once(a: np.ndarray, b: np.ndarray, dtype: str) -> None:
    x, y = as_narrow(a, dtype), as_narrow(b, dtype)
    plain_x, plain_y = np.asarray(x), np.asarray(y)
    for operation in (np.add, np.multiply, np.matmul, np.maximum, lambda p, q: np.tanh(p), lambda p, q: p.sum(0)):
        got = operation(x, y)
        assert type(got) is KINDS[dtype]
        np.testing.assert_array_equal(np.asarray(got), rounded(operation(plain_x, plain_y), dtype).astype(np.float32))
    total = x.sum()
    assert float(total) == float(rounded(plain_x.sum(), dtype))
    assert (x > 0).dtype == bool


def test_writing_into_a_narrow_array_rounds_as_well() -> None:
    x = as_narrow(np.ones(3, np.float32), "bfloat16")
    x += np.float32(1e-3)
    np.testing.assert_array_equal(np.asarray(x), [1, 1, 1])
    x[:2] -= np.float32(5e-3)
    np.testing.assert_array_equal(np.asarray(x), [1 - 2.0**-8, 1 - 2.0**-8, 1])
    table = as_narrow(np.zeros(2, np.float32), "bfloat16")
    np.add.at(table, [0, 0, 1], as_narrow(np.float32([1, 2.0**-9, 3]), "bfloat16"))
    # One sum for a row that comes twice, rounded once.
    np.testing.assert_array_equal(np.asarray(table), [1, 3])


@pytest.mark.parametrize("dtype", NARROW)
def test_the_clamp_of_the_cross_entropy_keeps_its_meaning(dtype: str) -> None:
    p, y = (as_narrow(np.float32(values), dtype) for values in ([1, 0, 0.5], [1, 0, 1]))
    loss, derivative = binary_crossentropy(p, y)
    np.testing.assert_array_equal(np.asarray(loss)[:2], [0, 0])
    np.testing.assert_array_equal(np.asarray(derivative), [0, 0, -2])


@pytest.mark.parametrize("dtype", NARROW)
def test_the_reference_climbs_in_a_narrow_dtype(dtype: str) -> None:
    floor = measure(toy.build, toy.MOMENTUM, toy.MOMENTUM.epochs, dtypes=(dtype,))[dtype]
    shared = Climb(build=toy.build, reference=toy.build, case=toy.MOMENTUM, dtype=dtype, device="cpu", floor=floor)
    for rung in (contract, prediction, gradients, update, resume):
        assert rung(shared) <= 1


@pytest.mark.parametrize("dtype", NARROW)
def test_a_narrow_run_passes_and_what_its_rounding_cannot_hide_fails(dtype: str) -> None:
    case = toy.MOMENTUM
    floor = measure(toy.build, case, case.epochs, dtypes=(dtype,))[dtype]
    reference = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    run = gather(record(toy.build(case, dtype, "cpu"), case, case.epochs))
    honest = judge(run, reference, floor)
    assert honest.verdict is Verdict.PASS
    assert honest.ratio is not None
    # The run itself is among those that the floor was measured on.
    assert honest.ratio <= 1 / FACTOR
    wrong = gather(record(toy.build(replace(case, loss=Loss("squared_error", "sum")), dtype, "cpu"), case, case.epochs))
    assert judge(wrong, reference, floor).verdict is Verdict.FAIL


def test_updates_too_small_for_a_narrow_parameter_are_part_of_its_floor() -> None:
    # Each update is a fifth of a unit of bfloat16 at 1: nothing moves, and the reference goes away at full speed.
    case = replace(toy.case(Sgd(1e-4)), epochs=20)
    floor = measure(toy.build, case, case.epochs, dtypes=("bfloat16",))["bfloat16"]
    reference = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    run = gather(record(toy.build(case, "bfloat16", "cpu"), case, case.epochs))
    for name, values in run.params.items():
        apart = np.abs(values[:].astype(np.float64) - reference.params[name][:]).reshape(len(values), -1).max(1)
        assert (apart <= floor.params[name]).all()


def test_each_narrow_dtype_has_a_floor_file_of_its_own(tmp_path) -> None:
    assert floor_name("toy", None, "float32") == floor_name("toy", None, "float64") == "toy.safetensors"
    assert floor_name("toy", 10, "bfloat16") == "toy-lockstep10-bfloat16.safetensors"
    assert runs_of(DTYPES) == 2 * RUNS
    assert runs_of(("float16",)) == RUNS + 1
    floors = measure(toy.build, toy.MOMENTUM, 1, dtypes=("float16",))
    save(floors, tmp_path / "floor", "mark")
    kept = load(tmp_path / "floor", "mark")
    assert kept is not None
    assert list(kept) == ["float16"]


def test_a_run_that_overflows_is_held_to_nothing() -> None:
    case = replace(toy.MOMENTUM, initial=lambda: {name: 300 * p for name, p in toy.initial().items()})
    case = replace(case, loss=Loss("squared_error", "sum"))
    with np.errstate(all="ignore"):
        floor = measure(toy.build, case, 2, dtypes=("float16",))["float16"]
        reference = gather(record(toy.build(case, "float64", "cpu"), case, 2))
        run = gather(record(toy.build(case, "float16", "cpu"), case, 2))
    assert not np.isfinite(run.loss).all()
    found = judge(run, reference, floor)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "is not finite" in found.reason
