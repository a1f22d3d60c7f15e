"""compare against plain formulas in exact arithmetic, one value at a time."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.dtypes import unpacked
from parity.judging import blocks, compare
from parity.judging.compare import differences, distance, scale
from parity.trajectory import Shards

exhaustive = settings(derandomize=True, deadline=None, max_examples=60, database=None)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
PAIRS = st.sampled_from(
    [("float32", "float32"), ("float64", "float64"), ("float32", "float64"), ("float64", "float32")]
)


@st.composite
def stacks(draw, finite=True):
    """Two stacks of one shape, often near each other, and the size of compare's blocks."""
    shape = draw(SHAPES)
    dtypes = draw(PAIRS)

    def values(dtype):
        width = 8 * np.dtype(dtype).itemsize
        return hnp.arrays(
            dtype, shape, elements=st.floats(width=width, allow_nan=not finite, allow_infinity=not finite)
        )

    a = draw(values(dtypes[0]))
    b = draw(values(dtypes[1]))
    near = draw(hnp.arrays(bool, shape))
    with np.errstate(over="ignore"):
        neighbours = np.nextafter(a.astype(dtypes[1]), np.array(0, dtypes[1]))
    if finite:
        near &= np.isfinite(neighbours)
    b[near] = neighbours[near]
    return a, b, draw(st.sampled_from([1, 2, 3, 7, 1 << 16]))


def run(block, function, *arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        return function(*arguments, **options)


def rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def apart(x, y) -> float:
    return rounded(abs(Fraction(float(x)) - Fraction(float(y))))


def share(x, y) -> float:
    x, y = Fraction(float(x)), Fraction(float(y))
    return float(abs(x - y) / max(abs(x), abs(y))) if x != y else 0.0


def order(x) -> int:
    """The number of steps from zero, by the definition of a float's exponent and significand."""
    info = np.finfo(x.dtype)
    unit = Fraction(float(info.smallest_subnormal))
    if np.isinf(x):
        return int(math.copysign(order(info.max) + 1, x))
    magnitude = abs(Fraction(float(x)))
    _, exponent = math.frexp(abs(float(x)))
    binade = max(exponent - 1, int(info.minexp)) if x else int(info.minexp)
    steps = (binade - int(info.minexp)) * 2 ** int(info.nmant)
    spacing = unit * 2 ** (binade - int(info.minexp))
    steps += magnitude / spacing
    assert steps.denominator == 1
    return int(math.copysign(1, x)) * int(steps)


def steps(x, y) -> int:
    narrow = min(x.dtype, y.dtype, key=lambda dtype: dtype.itemsize)
    with np.errstate(over="ignore"):
        return abs(order(x.astype(narrow)) - order(y.astype(narrow)))


def test_the_brute_force_order_counts_neighbours():
    for dtype in ("float32", "float64"):
        one, zero = np.array(1, dtype)[()], np.array(0, dtype)[()]
        for start in (one, zero, -one, np.finfo(dtype).tiny, np.finfo(dtype).max / 2):
            value = start = np.array(start, dtype)[()]
            for count in range(1, 20):
                value = np.nextafter(value, np.array(np.inf, dtype)[()])
                assert order(value) - order(start) == count
        assert math.ulp(1.0) == float(np.nextafter(np.float64(1), 2) - 1)


@exhaustive
@given(stacks())
def test_distance_is_the_largest_exact_difference_of_each_snapshot(drawn):
    a, b, block = drawn
    expected = [
        max((apart(x, y) for x, y in zip(p.flat, q.flat, strict=True)), default=0.0) for p, q in zip(a, b, strict=True)
    ]
    result = run(block, distance, a, b)
    assert result.dtype == np.float64
    assert result.tolist() == expected
    np.testing.assert_array_equal(result, run(block, distance, b, a))


@exhaustive
@given(stacks())
def test_scale_is_the_largest_magnitude_of_each_snapshot(drawn):
    a, _, block = drawn
    expected = [max((abs(float(x)) for x in p.flat), default=0.0) for p in a]
    assert run(block, scale, a).tolist() == expected


@exhaustive
@given(stacks(), st.data())
def test_differences_against_exact_arithmetic(drawn, data):
    a, b, block = drawn
    limits = st.one_of(st.just(0.0), st.just(math.nan), st.floats(0, 1e300), st.just(math.inf))
    tolerance = np.array([data.draw(limits) for _ in a])
    worst = run(block, differences, a, b, "layer/kernel", epochs=np.arange(len(a)) * 10, tolerance=tolerance)
    places = list(np.ndindex(a.shape))
    assert worst.values == len(places)
    assert worst.unequal == sum(float(a[p]) != float(b[p]) for p in places)
    assert worst.nonfinite_a == worst.nonfinite_b == 0
    assert worst.nonfinite is None
    assert worst.beyond == sum(not apart(a[p], b[p]) <= tolerance[p[0]] for p in places)
    for kind, measure in (("absolute", apart), ("relative", share), ("ulp", steps)):
        found = getattr(worst, kind)
        exact = [measure(a[p], b[p]) for p in places]
        largest = max(exact, default=0)
        if found is None:
            assert largest == 0
            continue
        place = (found.snapshot, *found.index)
        assert (found.tensor, found.epoch) == ("layer/kernel", 10 * found.snapshot)
        assert (found.a, found.b) == (a[place], b[place])
        assert (found.a.dtype, found.b.dtype) == (a.dtype, b.dtype)
        assert found.absolute == apart(a[place], b[place])
        # Two roundings, of the difference and of the quotient, where the exact value has one.
        assert found.relative == pytest.approx(share(a[place], b[place]), rel=4 * np.finfo(np.float64).eps)
        assert found.ulp == steps(a[place], b[place])
        assert getattr(found, kind) == pytest.approx(largest, rel=4 * np.finfo(np.float64).eps)
        if kind != "relative":
            assert places.index(place) == exact.index(largest)


@exhaustive
@given(stacks(finite=False), st.data())
def test_what_is_not_finite_is_never_missed(drawn, data):
    a, b, block = drawn
    if a.size:
        for side in (a, b):
            place = tuple(data.draw(st.integers(0, n - 1)) for n in side.shape)
            side[place] = data.draw(st.sampled_from([math.nan, -math.nan, math.inf, -math.inf, side[place]]))
    bad_a, bad_b = ~np.isfinite(a), ~np.isfinite(b)
    bad = bad_a | bad_b
    rows = bad.any(tuple(range(1, bad.ndim)))
    assert (np.isposinf(run(block, distance, a, b)) | ~rows).all()
    assert (np.isnan(run(block, scale, a)) == bad_a.any(tuple(range(1, bad.ndim)))).all()
    worst = run(block, differences, a, b, tolerance=np.full(len(a), np.inf))
    assert (worst.nonfinite_a, worst.nonfinite_b) == (bad_a.sum(), bad_b.sum())
    assert worst.beyond == bad.sum()
    assert worst.unequal == (a.astype(float) != b.astype(float)).sum()
    if bad.any():
        place = (worst.nonfinite.snapshot, *worst.nonfinite.index)
        assert place == tuple(np.argwhere(bad)[0])
        assert worst.nonfinite.ulp is None
    for found in (worst.absolute, worst.relative, worst.ulp):
        assert found is None or (np.isfinite(found.a) and np.isfinite(found.b))
    # The rest is compared as if the pairs with such a side were equal.
    clean_a, clean_b = np.where(bad, 0, a).astype(a.dtype), np.where(bad, 0, b).astype(b.dtype)
    clean = run(block, differences, clean_a, clean_b)
    assert (clean.absolute, clean.ulp) == (worst.absolute, worst.ulp)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 33, blocks.BLOCK - 1, blocks.BLOCK + 1])
def test_the_same_bad_value_on_both_sides_is_seen(value, size):
    a = np.zeros((2, size), np.float32)
    a[1, -1] = value
    worst = differences(a, a, tolerance=np.array([np.inf, np.inf]))
    assert (worst.nonfinite_a, worst.nonfinite_b, worst.beyond) == (1, 1, 1)
    assert (worst.nonfinite.snapshot, worst.nonfinite.index) == (1, (size - 1,))
    assert distance(a, a).tolist() == [0, np.inf]


def test_zeros_of_either_sign_are_equal():
    worst = differences(np.array([0.0, -0.0]), np.array([-0.0, 0.0]), tolerance=np.zeros(2))
    assert (worst.unequal, worst.absolute, worst.ulp, worst.beyond) == (0, None, None, 0)


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 2 * 0x7F7FFFFF), ("float64", 2 * 0x7FEFFFFFFFFFFFFF)])
def test_ulps_across_the_whole_range_do_not_wrap(dtype, steps):
    top = np.array([np.finfo(dtype).max])
    found = differences(top, -top).ulp
    assert found.ulp == steps
    assert found.relative == 2


def test_longdouble_differences_are_not_rounded_away():
    small = np.finfo(np.longdouble).eps
    a = np.array([np.longdouble(1)])
    assert distance(a, a + small).tolist() == [float(small)]
    assert differences(a, a + small).absolute.absolute == float(small)
    # As float64 the difference would be rounded up, beyond every difference that there is.
    near = a * (1 + 7 * small) - a / 2**20
    for block in (1, 1 << 16):
        assert run(block, differences, np.append(a, a), np.append(near, a)).absolute.snapshot == 0


def test_half_precision_is_counted_in_its_own_steps():
    a = np.array([1, 2], np.float16)
    worst = differences(a, np.nextafter(a, np.float16(9)))
    assert worst.ulp.ulp == 1
    assert worst.absolute.absolute == 2**-9


def test_shards_compare_like_the_array_that_they_make(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 64)
    generator = np.random.default_rng(0)
    for shape in ((40, 3), (40, 5, 7), (40, 200)):
        a, b = generator.normal(size=(2, *shape)).astype(np.float32)
        pieces = Shards(np.split(a, [1, 2, 17, 18]))
        assert differences(pieces, b) == differences(a, b)
        np.testing.assert_array_equal(distance(b, pieces), distance(b, a))


def test_shapes_and_dtypes_that_cannot_be_compared_are_refused():
    a = np.zeros((3, 2))
    for function in (distance, differences):
        with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 1\)"):
            function(a, a[:, :1])
    with pytest.raises(ValueError, match="int64"):
        differences(a, a.astype(np.int64))
    with pytest.raises(ValueError, match="tolerance"):
        differences(a, a, tolerance=np.zeros(2))


@pytest.mark.slow
@pytest.mark.parametrize("off", [0, np.float32(1e-3)], ids=["same", "rounded"])
def test_memory_does_not_grow_with_the_stack(off):
    a = np.zeros((8, 1 << 20), np.float32)
    b = a + off
    peaks = []
    for snapshots in (2, 8):
        tracemalloc.start()
        distance(a[:snapshots], b[:snapshots])
        differences(a[:snapshots], b[:snapshots], tolerance=np.full(snapshots, 1e-9))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # As many threads as there are at most, each with its own scratch.
    assert peaks[1] < (4.5 if off == 0 else 1.1) * peaks[0]
    assert peaks[1] < 32 << 20


HALVES = {"float16": 10, "bfloat16": 7}
"""The halves and how many bits their significands have behind the point."""


def half_values(name, patterns):
    """Values by their bits, as a run holds them and, by the definition of a float, as float64."""
    sign = np.where(patterns >> 15, -1.0, 1.0)
    digits = HALVES[name]
    exponent, fraction = (patterns & 0x7FFF) >> digits, patterns & ((1 << digits) - 1)
    largest = (1 << (15 - digits)) - 1
    bias = largest >> 1
    whole = np.where(exponent > 0, 1 << digits, 0) + fraction
    plain = np.ldexp(whole.astype(float), np.maximum(exponent, 1).astype(int) - bias - digits)
    plain[exponent == largest] = np.where(fraction[exponent == largest] > 0, np.nan, np.inf)
    bits = patterns.astype(np.uint16)
    return unpacked(bits) if name == "bfloat16" else bits.view(np.float16), sign * plain


def ordered(patterns):
    """Integers in the order of the values that the bits stand for; both zeros are 0."""
    return np.where(patterns >> 15, -(patterns & 0x7FFF), patterns & 0x7FFF)


@pytest.mark.parametrize("name", HALVES)
@exhaustive
@given(
    hnp.arrays(np.int64, (3, 7), elements=st.integers(0, 0xFFFF)),
    hnp.arrays(np.int64, (3, 7), elements=st.integers(0, 0xFFFF) | st.integers(-2, 2).map(lambda near: near + 0x10000)),
    st.booleans(),
    st.sampled_from([1, 2, 7, 1 << 16]),
)
def test_halves_against_their_bits(name, bits_a, bits_b, against_float64, block):
    # Beyond 16 bits stands a neighbour of what the other side has.
    bits_b = np.where(bits_b > 0xFFF0, np.clip(bits_a + bits_b - 0x10000, 0, 0xFFFF), bits_b)
    a, plain_a = half_values(name, bits_a)
    b, plain_b = half_values(name, bits_b)
    other = plain_b if against_float64 else b
    finite = np.isfinite(plain_a) & np.isfinite(plain_b)
    with np.errstate(invalid="ignore"):
        gap = np.where(finite, np.abs(plain_a - plain_b), np.inf)
        expected = np.where(finite, np.abs(plain_a - plain_b), 0)
        steps = np.where(finite, np.abs(ordered(bits_a) - ordered(bits_b)), 0)
        larger = np.where(finite, np.maximum(np.abs(plain_a), np.abs(plain_b)), 1)
    tolerance = np.array([0, 2.0**-12, math.nan])
    worst = run(block, differences, a, other, tolerance=tolerance, dtype=name)
    assert worst.unequal == (plain_a != plain_b).sum()
    assert (worst.nonfinite_a, worst.nonfinite_b) == ((~np.isfinite(plain_a)).sum(), (~np.isfinite(plain_b)).sum())
    assert worst.beyond == (~(gap <= tolerance[:, None])).sum()
    if worst.absolute is None:
        assert not expected.any()
    else:
        assert worst.absolute.absolute == expected.max()
        assert worst.absolute.snapshot * 7 + worst.absolute.index[0] == expected.argmax()
        assert worst.ulp.ulp == steps.max()
        assert worst.ulp.snapshot * 7 + worst.ulp.index[0] == steps.argmax()
        assert worst.relative.relative == (expected / np.where(larger == 0, 1, larger)).max()
        assert worst.absolute.a.dtype == a.dtype
    np.testing.assert_array_equal(run(block, distance, a, other), gap.max(1))
    np.testing.assert_array_equal(
        run(block, scale, a), np.where(np.isfinite(plain_a).all(1), np.abs(plain_a).max(1), np.nan)
    )


@exhaustive
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.floats(width=32)),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8)), max_size=1),
    st.sampled_from([1, 2, 5, 1 << 18]),
    st.integers(1, 4),
)
def test_the_same_bytes_are_recognised_and_nothing_else_is(a, changed, large, threads):
    b = a.copy()
    for row, column in changed:
        if row < len(a) and column < a.shape[1]:
            b[row, column] = np.nextafter(b[row, column], np.float32(7))
    same = np.array_equal(a.view(np.uint32), b.view(np.uint32)) and bool(np.isfinite(a).all())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "LARGE", large)
        patch.setattr(blocks, "THREADS", threads)
        assert blocks.identical(a, b) == same
        worst = differences(a, b, tolerance=np.full(len(a), math.nan))
        assert worst.beyond == a.size  # not a number allows nothing, not even no difference
        assert (worst.unequal == 0) >= same
        patch.setattr(compare, "identical", lambda a, b: False)
        assert repr(worst) == repr(differences(a, b, tolerance=np.full(len(a), math.nan)))


def test_the_first_of_equal_differences_is_named():
    a = np.ones((2, 40), np.float32)
    b = a.copy()
    b[0, [7, 30]] = b[1, [0, 39]] = 2
    worst = run(4, differences, a, b)
    for found in (worst.absolute, worst.relative, worst.ulp):
        assert (found.snapshot, found.index) == (0, (7,))


@pytest.mark.slow
@exhaustive
@given(
    st.sampled_from(["float32", "float64"]),
    hnp.arrays(np.int8, 200, elements=st.integers(-3, 3)),
    st.sampled_from([1, -1]),
    st.sampled_from([1.0, 3.0, 2.0**-140, 2.0**100]),
    st.sampled_from([(1, 2), (0.9, 1.1), (8, 1), (-1, 1), (1, 1)]),
    st.sampled_from([1, 1000, 2**19]),
)
def test_a_close_call_is_settled_exactly_in_every_block(dtype, ulps, sign, unit, ends, many):
    """Differences tie or nearly tie in block after block, with the same sign and with the other, across binades."""
    a = (np.linspace(*ends, 200) * unit).astype(dtype).reshape(2, 100)
    b = sign * (a + many * ulps.astype(dtype).reshape(a.shape) * np.spacing(a))
    worst = run(16, differences, a, b)
    exact = [apart(x, y) for x, y in zip(a.flat, b.flat, strict=True)]
    if worst.absolute is None:
        assert not any(exact)
        return
    assert worst.absolute.absolute == max(exact)
    assert 100 * worst.absolute.snapshot + worst.absolute.index[0] == exact.index(max(exact))
    shares = [share(x, y) for x, y in zip(a.flat, b.flat, strict=True)]
    assert worst.relative.relative == pytest.approx(max(shares), rel=4 * np.finfo(np.float64).eps)
    counts = [steps(x, y) for x, y in zip(a.flat, b.flat, strict=True)]
    assert worst.ulp.ulp == max(counts)
