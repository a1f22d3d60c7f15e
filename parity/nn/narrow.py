"""float16 and bfloat16 in NumPy: computed in float32, rounded after every operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.dtypes import rounded


class Narrow(np.ndarray):
    """A float32 array that rounds the result of every operation to a narrow dtype, as processors do.

    Processors add up in float32 and keep the result of an operation in two bytes. A sum or a matrix product is one
    operation. An array of floats that is computed from a narrow one is narrow, too.
    """

    narrow: str

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
        plain = [_plain(value) for value in inputs]
        if out:
            kwargs["out"] = tuple(_plain(value) for value in out)
        result = getattr(ufunc, method)(*plain, **kwargs)
        for written in inputs[:1] if method == "at" else out:
            _plain(written)[...] = rounded(_plain(written), self.narrow)
        if method == "at":
            return None
        if out:
            return out[0] if len(out) == 1 else out
        return narrowed(result, self.narrow) if _is_float(result) else result


class Float16(Narrow):
    narrow = "float16"


class Bfloat16(Narrow):
    narrow = "bfloat16"


_NARROW = {kind.narrow: kind for kind in (Float16, Bfloat16)}


def narrowed(values: Any, dtype: str) -> Narrow:
    return rounded(np.asarray(values), dtype).astype(np.float32, copy=False).view(_NARROW[dtype])


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value


def _is_float(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "f"
