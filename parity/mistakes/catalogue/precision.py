"""Mistakes in the precision that a model computes in."""

from __future__ import annotations

import numpy as np

from parity.mistakes.mistake import Gradients, Mistake, Unplanted, float64_alone
from parity.mistakes.pieces import with_products
from parity.mistakes.stepwise import honest, on_step
from parity.recording.steps import Phase
from parity.spec import Case, Optimizer
from parity.trainer import Build, State, Trainer
from parity.typing import Array, Params


def in_float32(params: Params) -> Params:
    return {name: p.astype(np.float32).astype(p.dtype) for name, p in params.items()}


def float32_layers(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
    def rule(optimizer: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
        return honest(optimizer, name, p, g, state).astype(np.float32)

    if dtype != "float64":
        return float64_alone(dtype)
    return on_step(in_float32, evaluate=_in_float32, rule=rule)(build, case, dtype, device)


def _in_float32(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    loss, found = gradients(x.astype(np.float32).astype(x.dtype) if x.dtype.kind == "f" else x, y)
    return float(np.float32(loss)), in_float32(found)


def tensor_float(x: Array) -> Array:
    """Round to ten bits after the leading one, as TF32 reads a factor."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(x.dtype)


def tensor_float_product(a: Array, b: Array) -> Array:
    return tensor_float(a) @ tensor_float(b)


HALF_BLOCK = 16
"""This many products are summed before a partial sum is rounded, as in one instruction of a tensor core."""


def half_product(a: Array, b: Array) -> Array:
    """Multiply ``a`` (…, k) by ``b`` (k, n) or (…, k, n) with partial sums in half precision."""
    total: Array = np.zeros((), np.float16)
    for start in range(0, a.shape[-1], HALF_BLOCK):
        block = slice(start, start + HALF_BLOCK)
        total = (total + a[..., block] @ (b[..., block, :] if b.ndim > 1 else b[block])).astype(np.float16)
    return total.astype(a.dtype)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="tf32-products",
        phase=Phase.PREDICTION,
        sentence="Matrix products read their factors in TF32, with ten bits of mantissa.",
        reference="pytorch/pytorch#67384; ml-explore/mlx#3860",
        how=with_products(tensor_float_product),
    ),
    Mistake(
        name="half-precision-accumulation",
        phase=Phase.PREDICTION,
        sentence="Matrix products keep their partial sums in half precision.",
        reference="chainer/chainer#6246; ROCm/AMDMIGraphX#1029",
        how=with_products(half_product),
    ),
    Mistake(
        name="float32-layers",
        phase=Phase.PREDICTION,
        sentence="In a float64 run the layers keep their parameters in float32.",
        reference="wala/ML#821; NVIDIA/TransformerEngine#270: layers cast to their own dtype",
        how=float32_layers,
    ),
)
