"""Tensors of any framework, as a user hands them over, brought to NumPy without importing that framework."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parity.frameworks import FRAMEWORKS
from parity.recording.format import FLOATS
from parity.typing import Array


def versions_of_imported() -> dict[str, str]:
    """The versions of the frameworks that this process has imported, and of NumPy."""
    packages = dict.fromkeys(name for known in FRAMEWORKS for names in known.packages.values() for name in names)
    return {
        name: str(sys.modules[name].__version__) for name in packages if hasattr(sys.modules.get(name), "__version__")
    }


def dtype_name(said: Any) -> str:
    """The name of a dtype, which a framework may have said: ``torch.float32``, ``np.float64``, ``jnp.bfloat16``."""
    name = said if isinstance(said, str) else str(getattr(said, "name", said)).strip("<>'").rpartition(".")[2]
    if name not in FLOATS:
        raise ValueError(f"the dtype of a run is one of {', '.join(FLOATS)}, not {said!r:.80}")
    return name


def flat(tensors: Any, what: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor that is not None by its name, those of a nested mapping too, as in ``Dense_0/kernel``."""
    if not isinstance(tensors, Mapping):
        raise ValueError(
            f"the {what} are a mapping of names to tensors, as dict(model.named_parameters()), not a "
            f"{type(tensors).__name__}"
        )
    for name, value in tensors.items():
        if isinstance(value, Mapping):
            yield from flat(value, what, f"{prefix}{name}/")
        elif value is not None:
            yield prefix + str(name), value


def dtype_of_numbers(what: str, value: Array) -> str:
    """The name of the dtype of what must be numbers, integers as the float64 that holds them."""
    if value.dtype == np.float32:  # NumPy takes a while to say a name
        return "float32"
    if value.dtype.kind not in "fiub":
        raise ValueError(f"{what} is {value.dtype}: it must be numbers")
    return value.dtype.name if value.dtype.kind == "f" else "float64"


def as_array(value: Any, copied: bool = True) -> Array:
    """Bring a tensor to NumPy, bfloat16 in float32, which holds it exactly.

    Args:
        value: Of any framework.
        copied: Without it, the array may share the memory of a tensor that nobody changes.

    Returns:
        An array of the same shape, of floats or of int64.
    """
    if hasattr(value, "detach"):  # torch: away from its graph and its device
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    if callable(getattr(value, "numpy", None)):  # of a TensorFlow scalar NumPy by itself makes no array
        value = value.numpy()
    array = np.array(value) if copied else np.asarray(value)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub":  # as safetensors and the format have them
        return array.astype(np.int64)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
