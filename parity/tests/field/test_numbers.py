"""A name must explain the number that is seen: losses, gradients and updates whose numbers alone differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recorder import Recorder
from parity.spec import AdamW, Optimizer, Sgd
from parity.tests.field.port import BATCH, adamw, explained, norm, run, sgd, weights
from parity.typing import Params

DTYPES = ["float64", "float32"]
KERNELS = {"hidden/kernel": 0.1, "output/kernel": 0.1}
BOUND = 0.05


def both(root: Path, dtype: str, wrong: dict[str, Any], right: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Explain the wrong run against the right one, and the right one against the wrong one."""
    one, other = run(root / "wrong", dtype, **wrong), run(root / "right", dtype, **right)
    return explained(one, other), explained(other, one)


def times(factor: float, loss_too: bool = True) -> Callable[[float, Params], tuple[float, Params]]:
    def change(loss: float, gradients: Params) -> tuple[float, Params]:
        return loss * (factor if loss_too else 1), {name: factor * g for name, g in gradients.items()}

    return change


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("factor", "number", "turned"), [(2, "2", "0.5"), (0.5, "0.5", "2"), (3, "3", "0.333333")])
def test_a_small_factor_is_a_number_and_no_name(
    factor: float, number: str, turned: str, dtype: str, tmp_path: Path
) -> None:
    for found, said in zip(
        both(tmp_path, dtype, {"step": sgd(), "change": times(factor)}, {"step": sgd()}), (number, turned), strict=True
    ):
        assert found["phase"] == "loss"
        assert found["named"] == []
        assert f"the loss and the gradients of the first run are {said} times the second's" in found["why"]
        assert "micro-batches or workers, whose losses are added up" in found["why"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_alone_that_are_added_up_over_workers_are_a_number(dtype: str, tmp_path: Path) -> None:
    found, _ = both(tmp_path, dtype, {"step": sgd(), "change": times(4, loss_too=False)}, {"step": sgd()})
    assert (found["phase"], found["named"]) == ("gradient", [])
    assert "the gradients of the first run are 4 times the second's, and their losses agree" in found["why"]
    assert "4 micro-batches or workers, whose gradients are added up" in found["why"]
    assert found["pattern"] == "4 times the reference, everywhere"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_over_the_rows_of_a_batch_has_its_name(dtype: str, tmp_path: Path) -> None:
    found, turned = both(tmp_path, dtype, {"step": sgd(0.001), "change": times(BATCH)}, {"step": sgd(0.001)})
    assert found["named"] == ["sum-for-mean"]
    assert turned["named"] == ["mean-for-sum"]


def by_tensor(bound: float) -> Callable[[float, Params], tuple[float, Params]]:
    return lambda loss, g: (loss, {n: v * min(1, bound / np.linalg.norm(v)) for n, v in g.items()})


def together(bound: float, added: float = 0.0) -> Callable[[float, Params], tuple[float, Params]]:
    return lambda loss, g: (loss, {n: v * min(1, bound / (norm(g) + added)) for n, v in g.items()})


def by_value(bound: float) -> Callable[[float, Params], tuple[float, Params]]:
    return lambda loss, g: (loss, {n: np.clip(v, -bound, bound) for n, v in g.items()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unclipped", [False, True])
def test_gradients_clipped_tensor_by_tensor_are_named(dtype: str, unclipped: bool, tmp_path: Path) -> None:
    wrong = {"step": sgd(), "change": by_tensor(BOUND), "unclipped": unclipped}
    for found in both(tmp_path, dtype, wrong, {"step": sgd(), "change": together(BOUND, 1e-6), "unclipped": unclipped}):
        assert found["named"] == ["clipped-tensor-by-tensor"], found["sentence"]
        assert "everywhere" not in found["pattern"]
        assert "hidden/kernel" in found["pattern"]
        assert f"clipped tensor by tensor, to norms of {BOUND}" in found["note"]
        assert f"clipped all together, to a norm of {BOUND}" in found["note"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_that_are_not_clipped_are_named(dtype: str, tmp_path: Path) -> None:
    for found in both(tmp_path, dtype, {"step": sgd()}, {"step": sgd(), "change": together(BOUND)}):
        assert found["named"] == ["not-clipped"], found["sentence"]


def test_gradients_clipped_while_scaled_are_said_with_both_norms(tmp_path: Path) -> None:
    change = together(BOUND / 1024)
    found, _ = both(tmp_path, "float64", {"step": sgd(), "change": change}, {"step": sgd(), "change": together(BOUND)})
    assert found["named"] == []
    assert "the first run clips to a norm of 4.88281e-05, the second to 0.05" in found["why"]
    assert "scaled by 1024" in found["why"]


def test_gradients_that_differ_otherwise_are_not_laid_at_a_clipping_that_both_share(tmp_path: Path) -> None:
    def change(loss: float, gradients: Params) -> tuple[float, Params]:
        return together(BOUND)(loss, gradients | {"hidden/bias": 1.5 * gradients["hidden/bias"]})

    found, _ = both(tmp_path, "float64", {"step": sgd(), "change": change}, {"step": sgd(), "change": together(BOUND)})
    assert (found["phase"], found["named"]) == ("gradient", [])
    assert "1e-6" not in found["why"]


FITTED: dict[str, tuple[dict[str, Any], float, str]] = {
    "another-weight-decay": ({"decay": 1e-3}, 0.1, "its weight decay is 0.001, not 0.1"),
    "weight-decay-on-some-tensors": (
        {"decay": KERNELS | {"output/bias": 0.1}},
        0.1,
        "its weight decay of 0.1 is on hidden/kernel, output/bias and output/kernel and not on hidden/bias",
    ),
    "another-beta1": ({"beta1": 0.8}, 0.0, "its beta1 is 0.8, not 0.9"),
    "another-beta2": ({"beta2": 0.98}, 0.0, "its beta2 is 0.98, not 0.999"),
    "another-epsilon": ({"epsilon": 1e-3}, 0.0, "its epsilon is 0.001, not 1e-08"),
}
"""By name, what an AdamW has otherwise, the decay that it is said to have, and what is said."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FITTED)
def test_another_number_of_adamw_is_named_with_its_size(name: str, dtype: str, tmp_path: Path) -> None:
    wrong, decay, words = FITTED[name]
    said = AdamW(0.01, weight_decay=decay)
    pairs = both(tmp_path, dtype, {"step": adamw(**wrong), "said": said}, {"step": adamw(decay=decay), "said": said})
    for found, which in zip(pairs, ("first", "second"), strict=True):
        assert found["named"] == [name], found["sentence"]
        assert words in found["note"]
        assert found["note"].startswith(f"it is the {which} run whose updates")


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_momentum_is_named_with_its_size(dtype: str, tmp_path: Path) -> None:
    said: Optimizer = Sgd(0.1, momentum=0.9)
    found, _ = both(
        tmp_path, dtype, {"step": sgd(momentum=0.95), "said": said}, {"step": sgd(momentum=0.9), "said": said}
    )
    assert found["named"] == ["another-momentum"], found["sentence"]
    assert "its momentum is 0.95, not 0.9" in found["note"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_another_decay_through_the_gradient_is_named_with_its_size(momentum: float, dtype: str, tmp_path: Path) -> None:
    said: Optimizer = Sgd(0.1, momentum=momentum, weight_decay=0.1)
    wrong, right = sgd(momentum=momentum, decay=0.01), sgd(momentum=momentum, decay=0.1)
    found, _ = both(tmp_path, dtype, {"step": wrong, "said": said}, {"step": right, "said": said})
    assert found["named"] == ["another-weight-decay"], found["sentence"]
    assert "its weight decay is 0.01, not 0.1" in found["note"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_decay_that_is_missing_keeps_its_name(dtype: str, tmp_path: Path) -> None:
    said = AdamW(0.01, weight_decay=0.1)
    found, _ = both(tmp_path, dtype, {"step": adamw(), "said": said}, {"step": adamw(decay=0.1), "said": said})
    assert found["named"] == ["weight-decay-missing"], found["sentence"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("made", [adamw, sgd])
def test_a_warm_up_that_is_one_update_late_is_said_with_the_rates_of_both(
    made: Any, dtype: str, tmp_path: Path
) -> None:
    """No run says its optimizer."""

    def rate(late: int) -> Callable[[int], float]:
        return lambda update: 0.008 * min(1.0, (update - late) / 8)

    found, turned = both(tmp_path, dtype, {"step": made(rate(1))}, {"step": made(rate(0))})
    for one, late in ((found, "first"), (turned, "second")):
        assert one["named"] == ["learning-rate-of-another-update"], one["sentence"]
        assert "0, 0.001, 0.002" in one["note"]
        assert f"the {late}" in one["note"].partition(" 1 update late")[0][-30:]


def test_recorded_learning_rates_are_those_that_an_update_is_held_to(tmp_path: Path) -> None:
    """A schedule that a run records is no mistake, and one that it does not keep is."""

    def rate(update: int) -> float:
        return 0.1 * 0.9**update

    said = Sgd(0.1)
    told = {"step": sgd(rate), "said": said, "rates": rate}
    wrong = {"step": sgd(lambda update: rate(update) * (2 if update > 4 else 1)), "said": said, "rates": rate}
    found, turned = both(tmp_path, "float64", wrong, told)
    for one, which in ((found, "first"), (turned, "second")):
        assert (one["phase"], one["epoch"]) == ("update", 5)
        assert f"it is the {which} run whose updates" in one["note"]
        assert "in this update its steps are 2 times that optimizer's, everywhere" in one["note"]


def test_two_tensors_that_are_trained_as_one_are_said_of_that_one_alone(tmp_path: Path) -> None:
    def twice(update: int, params: Params, gradients: Params) -> Params:
        return sgd()(update, params, gradients | {"hidden/bias": 2 * gradients["hidden/bias"]})

    found, _ = both(tmp_path, "float64", {"step": twice, "said": Sgd(0.1)}, {"step": sgd(), "said": Sgd(0.1)})
    assert (found["phase"], found["parameter"]) == ("update", "hidden/bias")
    assert found["named"] == ["another-learning-rate-on-some-tensors"]
    assert (
        "its steps of hidden/bias are 2 times that optimizer's, and all others are its own"
        in found["note"] + found["why"]
    )


def test_slots_that_begin_otherwise_are_said_of_the_slots(tmp_path: Path) -> None:
    def adagrad(begun: float) -> dict[str, Any]:
        total = {name: np.full_like(value, begun) for name, value in weights().items()}

        def step(update: int, params: Params, gradients: Params) -> Params:
            for name, g in gradients.items():
                total[name] = total[name] + g * g
            return {name: p - 0.1 * gradients[name] / np.sqrt(total[name] + 1e-7) for name, p in params.items()}

        return {"step": step, "slots": lambda update: {"accumulator": total}}

    found, _ = both(tmp_path, "float64", adagrad(0.1), adagrad(0.0))
    assert "the optimizer's slots begin otherwise" in found["why"]
    assert "is 0.1 everywhere in the first run and 0 everywhere in the second" in found["why"]
    assert "parameters" not in found["why"]


def test_a_row_that_one_run_does_not_train_is_said(tmp_path: Path) -> None:
    def change(loss: float, gradients: Params) -> tuple[float, Params]:
        return loss, gradients | {"hidden/kernel": gradients["hidden/kernel"] * (np.arange(5) > 0)[:, None]}

    found, _ = both(tmp_path, "float64", {"step": sgd()}, {"step": sgd(), "change": change})
    assert (found["phase"], found["parameter"], found["named"]) == ("gradient", "hidden/kernel", [])
    assert "only row 0 of hidden/kernel parts: the second run has no gradient there" in found["why"]


def test_a_place_is_counted_in_the_run_s_own_epochs(tmp_path: Path) -> None:
    """An update that is wrong from the middle of an epoch on, in a run of several batches an epoch."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 3))
    for name, factor in (("wrong", 2.0), ("right", 1.0)):
        kernel = np.ones((3, 2))
        with Recorder(tmp_path / name, "float64", deep=10, optimizer=Sgd(0.1)) as recording:
            recording.snapshot({"kernel": kernel})
            for update in range(12):
                prediction = x[update % 4 :: 4] @ kernel
                gradient = x[update % 4 :: 4].T @ prediction
                recording.step(
                    float(np.sum(prediction**2) / 2),
                    rows=np.arange(12)[update % 4 :: 4],
                    prediction=prediction,
                    gradients={"kernel": gradient},
                    params={"kernel": kernel},
                )
                kernel = kernel - 0.1 * gradient * (factor if update >= 6 else 1.0)
                if update % 4 == 3:
                    recording.snapshot({"kernel": kernel})
    found = explained(tmp_path / "wrong", tmp_path / "right")
    assert (found["phase"], found["epoch"], found["batch"]) == ("update", 2, 2)
    assert "0.2 from update 6 on" in found["note"]


def test_where_no_mistake_can_be_tried_none_is_counted(tmp_path: Path) -> None:
    """Plain gradient descent in float32 has no mistake of the catalogue."""

    def root(update: int, params: Params, gradients: Params) -> Params:
        return {
            name: p - 0.1 * np.sign(gradients[name]) * np.sqrt(np.abs(gradients[name])) for name, p in params.items()
        }

    said = Sgd(0.1)
    found, _ = both(tmp_path, "float32", {"step": root, "said": said}, {"step": sgd(), "said": said})
    assert found["named"] == []
    assert "unexplained: no mistake is known that could be made here" in found["why"]
