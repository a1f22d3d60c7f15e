"""The catalogue of porting mistakes: each can be planted, is a trainer like any other, and leaves the right path."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from impls.char_gru import char_gru_numpy, mistakes
from parity.explaining.diagnose import diagnose
from parity.explaining.replay import Replays
from parity.explaining.walk import locate
from parity.judging.floor import Floor, load
from parity.judging.ladder import Rung, climb
from parity.judging.noise import measure
from parity.judging.published import figures
from parity.judging.verdict import Judgement, Verdict, judge
from parity.judging.witness import Expected, Witness, within_rounding
from parity.mistakes.catalogue import CATALOGUE, mistakes_for
from parity.mistakes.catalogue.precision import half_product, tensor_float
from parity.mistakes.catalogue.updates import decoupled_decay
from parity.mistakes.mistake import CannotBePlanted, ChangesNothing, Mistake, Unplanted
from parity.mistakes.planting import off_initial, one_by_one
from parity.mistakes.stepwise import Stepwise
from parity.proving.plan import _anywhere
from parity.recording.steps import ASKED, Phase, step_of
from parity.running.keys import mark
from parity.spec import Adam, Case, CyclicRow, Sgd
from parity.suite import Entry, load_suite
from parity.tests import toy
from parity.tests.judging.test_ladder_faults import IRIS, assert_falls, floors
from parity.tests.trainers.test_reference import LONG, ROWS, assert_derivative
from parity.trainer import Build, State, Trainer, record, verbs
from parity.trajectory import Trajectory, gather
from parity.typing import Params

SUITE = load_suite("impls")
CHEAPEST = (
    "iris-logistic",
    "iris-logistic-minibatch",
    "linear-minibatch",
    "linear-regression",
    "mlp-regression",
    "char-gru",
    "mnist-softmax",
    "mnist-mlp",
    "dogecoin-logistic",
)
EPOCHS = 3
"""So many of the first epochs are followed, or up to the first snapshot."""
UNCLAMPED = ("log-without-clamp", "log-without-clamp-beside-its-gradient")
NOWHERE = {*UNCLAMPED, "weight-decay-through-the-gradient"}
"""No shipped case has a probability that rounds to 0 or 1, nor a decay that is not through the gradient."""


def reference(entry: Entry) -> Build:
    return entry.implementations["numpy"].build


@cache
def plantable() -> dict[str, tuple[Mistake, Entry]]:
    """Every mistake with the cheapest case that it can be planted in."""
    found: dict[str, tuple[Mistake, Entry]] = {}
    for name in CHEAPEST:
        entry = SUITE.entry(name)
        for hypothesis in mistakes_for(entry):
            if hypothesis.name not in found and planted(hypothesis, entry.case, reference(entry)) is not None:
                found[hypothesis.name] = hypothesis, entry
    return found


def planted(hypothesis: Mistake, case: Case, build: Build, dtype: str = "float64") -> Trainer | None:
    """The mistaken trainer, None where there is none, for whatever reason."""
    trainer = hypothesis.plant(build, case, dtype, "cpu")
    return None if isinstance(trainer, Unplanted) else trainer


EVERY = {hypothesis.name: hypothesis for entry in SUITE.entries.values() for hypothesis in mistakes_for(entry)}
PLANTED = sorted(set(EVERY) - NOWHERE)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A mistake may overflow or divide by zero: that is what it does."""
    with np.errstate(all="ignore"):
        yield


def test_every_mistake_says_what_it_is_and_where_it_is_seen_to_be_made() -> None:
    assert len(CATALOGUE) >= 45
    for hypothesis in EVERY.values():
        assert re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", hypothesis.name)
        assert hypothesis.phase in set(Phase) - {Phase.UNRECORDED}
        assert re.fullmatch(r"[A-Za-z][^\n]+[.]", hypothesis.sentence)
        assert re.search(r"[\w.-]+/[\w.-]+#\d+|documentation|guide", hypothesis.reference)


def test_no_two_mistakes_share_a_name() -> None:
    everyones = [hypothesis for entry in SUITE.entries.values() for hypothesis in mistakes_for(entry)]
    assert len({hypothesis.name for hypothesis in everyones}) == len(set(map(id, everyones)))


def test_a_model_whose_mistake_has_a_name_of_the_catalogue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "MISTAKES", (CATALOGUE[0],))
    with pytest.raises(ValueError, match=CATALOGUE[0].name):
        mistakes_for(SUITE.entry("char-gru"))


def test_every_mistake_can_be_planted_in_a_shipped_case() -> None:
    assert sorted(plantable()) == PLANTED


# That a mistake cannot be planted is one answer, that it would change nothing another.


NOTHING = {
    ("log-without-clamp", "iris-logistic"): "no probability of the first",
    ("not-reshuffled", "linear-regression"): "the batches of 3 epochs have the same rows",
    ("mean-for-sum", "linear-regression"): "the mean over one value is its sum",
    ("adam-epsilon-1e-7", "mlp-regression"): "the optimizer is the same",
    ("kernel-transposed", "iris-logistic"): "the parameters that the layers work with are the same",
    ("leaky-relu", "iris-logistic"): "prediction, loss and gradients are the same",
    ("weight-decay-through-the-gradient", "mnist-mlp"): "the decay goes through the gradient already",
}
CANNOT = {
    ("adam-epsilon-1e-7", "iris-logistic", "float64"): "iris-logistic gives no occasion for it",
    ("last-batch-dropped", "linear-regression", "float64"): "linear-regression gives no occasion for it",
    ("float32-layers", "iris-logistic", "float32"): "a float32 run keeps nothing in more than float32",
}


@pytest.mark.parametrize(("name", "case_name"), NOTHING)
def test_a_mistake_that_would_change_nothing_says_so(name: str, case_name: str) -> None:
    entry = SUITE.entry(case_name)
    case = entry.case
    if name == "mean-for-sum":  # one row an update
        case = replace(case, schedule=CyclicRow(), loss=replace(case.loss, reduction="sum"))
    if name == "adam-epsilon-1e-7":
        case = replace(case, optimizer=Adam(0.01, epsilon=1e-7))
    if name == "weight-decay-through-the-gradient":
        case = replace(case, optimizer=Sgd(0.01, momentum=0.9, weight_decay=0.1))
    found = EVERY[name].plant(reference(entry), case, "float64", "cpu")
    assert isinstance(found, ChangesNothing)
    assert found.why.startswith(NOTHING[name, case_name])


@pytest.mark.parametrize(("name", "case_name", "dtype"), CANNOT)
def test_a_mistake_that_cannot_be_planted_says_why(name: str, case_name: str, dtype: str) -> None:
    entry = SUITE.entry(case_name)
    assert EVERY[name].applies(entry.case) == (dtype == "float32")
    found = EVERY[name].plant(reference(entry), entry.case, dtype, "cpu")
    assert found == CannotBePlanted(CANNOT[name, case_name, dtype])


def test_what_no_framework_s_words_can_say_cannot_be_planted() -> None:
    """In NumPy's pieces it would change nothing: a model without ReLU. In those of a stranger it cannot be made."""
    entry = SUITE.entry("iris-logistic")

    def foreign(case: Case, dtype: str, device: str) -> Trainer:
        return Stepwise(reference(entry)(case, dtype, device), case, dtype)

    assert isinstance(EVERY["leaky-relu"].plant(reference(entry), entry.case, "float64", "cpu"), ChangesNothing)
    found = EVERY["leaky-relu"].plant(foreign, entry.case, "float64", "cpu")
    both = "it is made in the pieces of a NumPy model; it is made in the pieces of a PyTorch model"
    assert found == CannotBePlanted(both)


# A mistake's local function makes of a right step what its plant makes of a right implementation.


@pytest.mark.parametrize("name", [m.name for m in CATALOGUE if m.local and m.local.phase is Phase.LOSS])
def test_a_mistake_in_the_loss_is_its_own_local_function(name: str) -> None:
    mistake = EVERY[name]
    build, case = toy.build, replace(toy.MOMENTUM, optimizer=Sgd(0.1, momentum=0.9, weight_decay=0.1))
    if name == "mean-for-sum":
        case = replace(case, loss=replace(case.loss, reduction="sum"))
    if name == "mean-over-classes":
        entry = SUITE.entry("mnist-softmax")
        build, case = reference(entry), entry.case
    wrong, data = planted(mistake, case, build), case.data()
    assert wrong is not None
    assert mistake.local is not None
    rows = next(one_by_one(case.schedule, len(data.x)))
    right = build(case, "float64", "cpu")
    state = right.export()
    made, honest = (step_of(one, state, data.x[rows], data.y[rows], rows) for one in (wrong, right))
    got = {"loss": made.loss, **made.gradients}
    wanted = ({"loss": one.loss, **one.gradients} for one in mistake.local.wrong(honest, None, case.optimizer))
    assert any(all(check.agrees for check in within_rounding(got, one, "float64")) for one in wanted)


def test_gradients_that_are_not_zeroed_are_added_to_those_of_the_step_before() -> None:
    local = EVERY["gradient-not-zeroed"].local
    assert local is not None
    case, data = toy.MOMENTUM, toy.data()
    trainer, order = toy.build(case, "float64", "cpu"), one_by_one(case.schedule, toy.ROWS)
    steps = [
        step_of(trainer, trainer.export(), data.x[rows], data.y[rows], rows) for rows in (next(order), next(order))
    ]
    (wrong,) = local.wrong(steps[1], steps[0], case.optimizer)
    for name, g in wrong.gradients.items():
        np.testing.assert_array_equal(g, steps[0].gradients[name] + steps[1].gradients[name])
    assert float(wrong.loss) == float(steps[1].loss)
    assert list(local.wrong(steps[0], None, case.optimizer)) == []


def test_a_penalty_that_no_optimizer_has_is_in_no_loss() -> None:
    mistake = EVERY["weight-decay-in-the-reported-loss"].local
    assert mistake is not None
    case, data = toy.MOMENTUM, toy.data()
    state = toy.build(case, "float64", "cpu").export()
    step = step_of(toy.build(case, "float64", "cpu"), state, data.x, data.y, np.arange(toy.ROWS))
    assert len(mistake.wrong(step, None, Sgd(0.1, weight_decay=0.1))) == 4
    for optimizer in (Sgd(0.1), None, Adam(0.1)):
        assert list(mistake.wrong(step, None, optimizer)) == []


# Each leaves the reference's path.


@cache
def path(case_name: str, whole: bool = False) -> tuple[Trajectory, Floor]:
    entry = SUITE.entry(case_name)
    assert SUITE.floors is not None
    kept = load(SUITE.floors / f"{entry.folder}.safetensors", mark(SUITE, entry, entry.case.epochs))
    assert kept is not None, f"the noise floor of {case_name} is of another case"
    run = follow(reference(entry)(entry.case, "float64", "cpu"), entry.case, whole)
    return run, kept["float64"].until(len(run.loss), len(run.epochs))


def follow(trainer: Trainer, case: Case, whole: bool = False) -> Trajectory:
    """The run's beginning, or the whole of it with its metrics."""
    epochs = case.epochs if whole else min(case.epochs, max(EPOCHS, case.every))
    return gather(record(trainer, case if whole else replace(case, metrics=()), epochs))


def judged(name: str) -> Judgement:
    hypothesis, entry = plantable()[name]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    run, floor = path(entry.case.name, EVERY[name].at_the_end)
    return judge(follow(trainer, entry.case, EVERY[name].at_the_end), run, floor)


@pytest.mark.parametrize("name", [name for name in PLANTED if not EVERY[name].figures_only])
def test_a_mistake_leaves_the_path(name: str) -> None:
    assert judged(name).verdict is Verdict.FAIL


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].figures_only])
def test_a_mistake_in_the_figures_alone_is_seen_by_the_published_ones(name: str) -> None:
    assert judged(name).verdict is Verdict.PASS
    hypothesis, entry = plantable()[name]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    right, floor = path(entry.case.name, whole=True)
    wrong = follow(trainer, entry.case, whole=True)
    assert {figure.verdict for figure in figures(entry.case, right, "float64", floor)} == {Verdict.PASS}
    assert Verdict.FAIL in {figure.verdict for figure in figures(entry.case, wrong, "float64", floor)}


def test_the_published_costs_are_no_means() -> None:
    hypothesis, entry = plantable()["average-cost-a-mean"]
    trainer = planted(hypothesis, entry.case, reference(entry))
    assert trainer is not None
    found = figures(entry.case, follow(trainer, entry.case, whole=True), "float64", None)
    wrong = {figure.quantity for figure in found if figure.verdict is Verdict.FAIL}
    assert wrong == {"AvgCost"}


@pytest.mark.parametrize("name", UNCLAMPED)
def test_logarithms_without_a_clamp_end_in_nan_where_a_probability_is_certain(name: str) -> None:
    entry = SUITE.entry("iris-logistic")
    steep = {"dense/kernel": np.array([[-300.0], [300.0]]), "dense/bias": np.zeros(1)}
    case = replace(entry.case, initial=lambda: steep)
    mistake = EVERY[name]
    assert planted(mistake, entry.case, reference(entry)) is None
    trainer = planted(mistake, case, reference(entry))
    assert trainer is not None
    honest = follow(reference(entry)(case, "float64", "cpu"), case)
    assert np.isfinite(honest.loss).all()
    run = follow(trainer, case)
    assert not np.isfinite(run.loss).all()
    for parameter, values in run.params.items():
        assert np.array_equal(values[:], honest.params[parameter][:]) == name.endswith("beside-its-gradient")


DECAYED = replace(toy.MOMENTUM, optimizer=replace(toy.MOMENTUM.optimizer, weight_decay=0.1))


def decoupled(case: Case, dtype: str, device: str) -> Trainer:
    """A toy whose decay is beside its momentum, as a user's own may be."""
    return Stepwise(toy.build(case, dtype, device), case, dtype, rule=decoupled_decay)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decay_through_the_gradient_is_a_mistake_where_decay_is_decoupled(dtype: str) -> None:
    mistake = EVERY["weight-decay-through-the-gradient"]
    assert planted(mistake, DECAYED, toy.build, dtype) is None
    assert planted(mistake, toy.MOMENTUM, decoupled, dtype) is None
    trainer = planted(mistake, DECAYED, decoupled, dtype)
    assert trainer is not None
    run, floor = follow(trainer, DECAYED), measure(decoupled, DECAYED, EPOCHS)[dtype]
    replays = Replays(decoupled, DECAYED, CATALOGUE)
    assert judge(run, replays.right(EPOCHS), floor).verdict is Verdict.FAIL
    trainer.load(decoupled(DECAYED, dtype, "cpu").export())
    place = locate(trainer, Witness(decoupled, DECAYED, dtype), decoupled(DECAYED, "float64", "cpu"), 0, 1)
    assert place.phase == mistake.phase
    # In float32 another that makes the update by itself is tied with it.
    assert (mistake.name,) in [replay.names for replay in diagnose(run, place, replays, floor, dtype).explanations]


# Each is seen in its own phase, from a state of which not all is zero.


def short(case: Case) -> Case:
    """The same on shorter portions and smaller batches, which what is wrong with a step does not depend on."""
    sizes = {"char-gru": {"size": 20}, "mnist-mlp": {"batch_size": 64}, "mnist-softmax": {"batch_size": 64}}
    return replace(case, schedule=replace(case.schedule, **sizes[case.name])) if case.name in sizes else case


class Remembering(Witness):
    """Every mistake meets the reference in the same states: what it says there is asked once."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(reference(entry), short(entry.case), "float64")
        self.known: dict[tuple[int, bytes], dict[Phase, Expected]] = {}

    def step(self, state: State, rows: np.ndarray, asked: Collection[Phase] = ASKED) -> dict[Phase, Expected]:
        key = state.step, rows.tobytes()
        if key not in self.known:
            self.known[key] = super().step(state, rows)
        return self.known[key]


@cache
def witness(case_name: str) -> Witness:
    return Remembering(SUITE.entry(case_name))


@pytest.mark.parametrize("name", [name for name in PLANTED if not EVERY[name].figures_only])
def test_a_mistake_is_seen_in_its_phase(name: str) -> None:
    hypothesis, entry = plantable()[name]
    case = short(entry.case)
    trainer = planted(hypothesis, case, reference(entry))
    assert trainer is not None
    start = case.epochs - 1 if EVERY[name].at_the_end else 1
    found = locate(trainer, witness(case.name), reference(entry)(case, "float64", "cpu"), start, start + 2)
    assert found.phase == hypothesis.phase, (found.epoch, found.batch, found.check)


# Each is a trainer: what it says changes nothing, and its state is all that there is of it.


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistaken_trainer_keeps_the_contract(name: str) -> None:
    hypothesis, entry = plantable()[name]
    case = short(entry.case)
    # What a mistake adds must not widen a float32 run; some exist in float64 alone.
    dtype = "float64" if planted(hypothesis, case, reference(entry), "float32") is None else "float32"
    trainer, other = (planted(hypothesis, case, reference(entry), dtype) for _ in range(2))
    assert trainer is not None
    assert other is not None
    data = case.data()
    order = case.schedule.epochs(len(data.x))
    first, second = next(order)[:3], next(order)[:3]
    trainer.train([first])
    state = trainer.export()
    x, y = data.x[first[0]], data.y[first[0]]
    trainer.load(state)
    prediction, (loss, gradients) = trainer.predict(x), trainer.gradients(x, y)
    assert prediction.dtype == dtype
    assert np.ndim(loss) == 0
    assert set(gradients) == set(case.initial())
    assert_same(trainer.export(), state)
    losses, params, _ = trainer.train([second])
    assert losses.shape == (1, len(second))
    for array in (losses, *state.slots.values(), *gradients.values(), *trainer.export().params.values()):
        assert array.dtype == dtype
    other.load(state)
    again = other.train([second])
    np.testing.assert_array_equal(losses, again.losses)
    for parameter, values in params.items():
        np.testing.assert_array_equal(values, again.params[parameter])
    assert_same(trainer.export(), other.export())
    trainer.export().params[parameter][...] = 7
    assert_same(trainer.export(), other.export())


def assert_same(a: State, b: State) -> None:
    assert a.step == b.step
    for mine, yours in ((a.params, b.params), (a.slots, b.slots)):
        assert set(mine) == set(yours)
        for name, value in mine.items():
            np.testing.assert_array_equal(value, yours[name])


@pytest.mark.parametrize("case_name", ["iris-logistic-minibatch", "mlp-regression", "char-gru"])
def test_taken_apart_without_a_mistake_a_run_keeps_its_path(case_name: str) -> None:
    entry = SUITE.entry(case_name)
    run, floor = path(case_name)
    apart = Stepwise(reference(entry)(entry.case, "float64", "cpu"), entry.case, "float64")
    assert judge(follow(apart, entry.case), run, floor).verdict is Verdict.PASS


# The mistake is the one that its name says and no other: a mistaken loss has the derivatives that belong to it.

INCONSISTENT = {
    "float32-layers": "its values are rounded",
    "half-precision-accumulation": "its values are rounded",
    "tf32-products": "its values are rounded",
    "tanh-for-sigmoid": "its loss is the logarithm of negative numbers",
    "weight-decay-in-the-reported-loss": "the penalty is in the loss alone",
}
CONSISTENT = [name for name in PLANTED if EVERY[name].phase in ("prediction", "loss") and name not in INCONSISTENT]


@pytest.mark.parametrize("name", [name for name in CONSISTENT if not EVERY[name].figures_only])
def test_a_mistaken_model_has_its_own_gradients(name: str) -> None:
    hypothesis, cheapest = plantable()[name]
    # In a model with several layers each parameter must get its own gradient.
    others = ("mlp-regression", "mnist-mlp") if hypothesis in CATALOGUE else ()
    for entry in {cheapest, *map(SUITE.entry, others)}:
        trainer = planted(hypothesis, entry.case, reference(entry), "longdouble")
        assert trainer is not None or entry is not cheapest
        if trainer is not None:
            data, here = entry.case.data(), off_initial(entry.case)
            x, y = data.x[:ROWS], data.y[:ROWS]
            check_gradients(partial(said, trainer, x, y), here, name)


def said(trainer: Trainer, x: np.ndarray, y: np.ndarray, params: Params) -> tuple[float, Params]:
    trainer.load(replace(trainer.export(), params=params))
    return trainer.gradients(x, y)


def check_gradients(ask: Any, here: Params, name: str) -> None:
    here = {parameter: value.astype(LONG) for parameter, value in here.items()}
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    directions = {p: generator.choice([-1.0, 1.0], value.shape) / np.sqrt(value.size) for p, value in here.items()}
    loss, gradients = ask(here)
    scale = np.sqrt(sum((g * g).sum() for g in gradients.values()))

    def moved(h: float) -> np.longdouble:
        return LONG(ask({p: value + LONG(h) * directions[p] for p, value in here.items()})[0])

    along = sum((gradients[p] * directions[p]).sum() for p in here)
    assert_derivative(along, moved, abs(LONG(loss)) + ROWS**2, scale)


def test_the_gru_that_mistakes_are_made_in_is_the_model_s() -> None:
    entry = SUITE.entry("char-gru")
    trainer = char_gru_numpy.build(entry.case, "float64", "cpu")
    x = entry.case.data().x[:ROWS]
    logits, _ = mistakes.forward(trainer.state.params, x)
    np.testing.assert_allclose(logits, trainer.predict(x), rtol=0, atol=64 * np.finfo(np.float64).eps)


def test_a_learned_initial_state_has_its_own_gradient() -> None:
    hypothesis, entry = plantable()["gru-initial-state-learned"]
    trainer = planted(hypothesis, entry.case, reference(entry), "longdouble")
    assert trainer is not None
    data = entry.case.data()
    check_gradients(partial(said, trainer, data.x[:ROWS], data.y[:ROWS]), off_initial(entry.case), hypothesis.name)


def test_tf32_keeps_ten_bits() -> None:
    assert tensor_float(np.array([1 + 2**-10, 1 + 2**-12, -3 - 2**-12, 0.0])).tolist() == [1 + 2**-10, 1, -3, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_half_precision_sum_stands_still(dtype: str) -> None:
    ones = np.concatenate([np.full(2, 2048), np.ones(1000)]).astype(dtype)[None]
    # From 2048 on halves are 2 apart, from 4096 on 4: what a block adds is rounded to that.
    total = half_product(ones, np.ones((1002, 1), dtype))
    assert (total.dtype, total.shape) == (dtype, (1, 1))
    assert total[0, 0] % 4 == 0
    np.testing.assert_array_equal(half_product(ones[:, 2:3], np.full((1, 1), 1 + 2**-12, dtype)), [[1]])


@pytest.mark.parametrize("seed", [None, 124])
def test_a_batch_order_that_is_the_same_is_no_mistake(seed: int | None) -> None:
    entry = SUITE.entry("iris-logistic-minibatch")
    schedule = entry.case.schedule if seed is None else replace(entry.case.schedule, seed=seed)
    case = replace(entry.case, schedule=schedule)
    assert planted(EVERY["not-reshuffled"], case, reference(entry)) is None
    assert planted(EVERY["epoch-off-by-one"], case, reference(entry)) is None
    rows: list[list[int]] = []

    def noting(case: Case, dtype: str, device: str) -> Trainer:
        trainer = reference(entry)(case, dtype, device)

        def train(segments: Any, inputs: Any = ()) -> Any:
            rows.extend(batch.tolist() for segment in segments for batch in segment)
            return trainer.train(segments, inputs)

        return replace(verbs(trainer), train=train)

    late = planted(EVERY["one-batch-late"], case, noting)
    assert late is not None
    order = one_by_one(schedule, 75)
    late.train([tuple(next(order) for _ in range(3))])
    order = one_by_one(schedule, 75)
    first, second = next(order).tolist(), next(order).tolist()
    assert rows == [first, first, second]


# The same in a real framework, in a worker process: on the case, on the batch order, and through the verbs.

LABELS = {"torch": "torch", "tensorflow": "tf1", "keras": "keras", "jax": "jax"}
IN_FRAMEWORKS = {
    "mean-for-sum": "gradients",
    "last-batch-kept": "update",
    "rows-permuted": "prediction",
}
IN_TORCH = {"sigmoid-before-a-with-logits-loss": "gradients"}
"""In the pieces of a model, in torch's words."""
IN_NUMPY_ALONE = {
    "half-precision-accumulation": "no CPU product is made so",
    "tanh-for-sigmoid": "torch refuses what is no probability",
    "tf32-products": "no CPU product is made so",
}


def test_every_mistake_is_planted_in_a_real_framework_or_the_reason_is_said() -> None:
    alone = {
        name
        for name, (hypothesis, entry) in plantable().items()
        if not hypothesis.pieces_of and not _anywhere(hypothesis, SUITE, entry)
    }
    assert alone == set(IN_NUMPY_ALONE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "label" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or ["torch"]
        pairs = [(LABELS[name], mistake) for name in LABELS if name in chosen for mistake in IN_FRAMEWORKS]
        pairs += [("torch", mistake) for mistake in IN_TORCH if "torch" in chosen]
        metafunc.parametrize(("label", "mistake"), pairs, ids=["-".join(pair) for pair in pairs])


def climbed(label: str, mistake: str) -> tuple[Rung, ...]:
    """The way up the ladder of the document's model with a mistake of the catalogue, where its framework is."""
    plant = next(known.plant for known in CATALOGUE if known.name == mistake)
    right = SUITE.entry(IRIS.name).implementations[label].load().build
    wrong = partial(plant, right)
    return tuple(climb(wrong, reference(SUITE.entry(IRIS.name)), IRIS, "float64", "cpu", floors(IRIS)["float64"]))


@pytest.mark.asks(question=climbed)
def test_frameworks(label: str, mistake: str, answer: tuple[Rung, ...]) -> None:
    assert_falls(answer, (IN_FRAMEWORKS | IN_TORCH)[mistake])
