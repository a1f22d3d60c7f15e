"""Recording a training loop of one's own, in any framework: ``parity diff`` and ``parity explain`` read what it writes.

    with Recorder("my-model/torch", "float32", implementation="torch") as run:
        run.snapshot(parameters)                # before training: epoch 0
        for batches in epochs:
            for rows in batches:
                ...                             # forward and backward
                run.step(loss)                  # before the update
                ...                             # the update
            run.snapshot(parameters)

Tensors may be NumPy's, torch's, TensorFlow's, Keras's or JAX's, and are copied when they are handed over. No framework
is imported here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from parity.dtypes import carrier, rounded
from parity.frameworks import FRAMEWORKS, known_framework, settings_of
from parity.layout import Layout, to_canonical
from parity.spec import Array, Optimizer, Params
from parity.trainer import Chunk
from parity.trajectory import Writer, order_of_epoch

Tensors = Mapping[str, Any]


class Recorder:
    """Writes a run to ``folder`` as it goes; a context manager, see ``parity.trajectory.Writer`` for what it leaves.

    ``dtype`` is what the run's parameters are meant to have: float64, float32, float16 or bfloat16. With a ``layout``
    parameters, gradients and slots are given as the framework has them, by its names, and recorded in the canonical
    layout; without one their names must be canonical, as in ``dense/kernel``, and both runs' shapes alike.

    Of the first ``deep`` updates all that goes into them is recorded too, which tells ``parity explain`` the phase in
    which two runs part. ``optimizer`` says what the run's is meant to be, in the words of ``parity.spec``: then the
    recorded updates are held against it. ``implementation``, whose first word names the framework, ``case`` and
    ``device`` are what ``trajectory.json`` will say of the run.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        dtype: str,
        *,
        case: str | None = None,
        implementation: str | None = None,
        device: str = "cpu",
        layout: Layout | None = None,
        deep: int = 0,
        optimizer: Optimizer | None = None,
    ) -> None:
        said = {"case": case, "implementation": implementation, "device": device, "dtype": dtype}
        meta: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        meta["versions"] = versions_of_imported()
        meta["platform"] = {"system": platform.system(), "machine": platform.machine()}
        if implementation is not None and known_framework(implementation) is not None:
            meta["settings"] = settings_of(implementation, device)
        if optimizer is not None:
            meta["hyper_parameters"] = {"optimizer": repr(optimizer)}
        self.dtype, self.layout, self.deep = dtype, layout, deep
        self._writer = Writer(folder, meta)
        self._epoch = -1
        self._updates = 0
        self._losses: list[Array] = []
        self._width: int | None = None
        self._rows: list[Array] | None = []
        self._order = hashlib.sha256()
        self._steps: Params = {}
        self._waiting: tuple[Chunk, Params] | None = None

    def step(
        self,
        loss: Any,
        *,
        rows: Any = None,
        prediction: Any = None,
        gradients: Tensors | None = None,
        params: Tensors | None = None,
        slots: Mapping[str, Tensors] | None = None,
    ) -> None:
        """Take one batch, between its backward pass and its update. ``loss`` is one number, kept in the run's dtype.

        ``rows`` are the indices (batch,) of the rows in the batch, or other integers that tell it from every other;
        where each step has them, two runs whose batches differ are never held against each other. For the first
        ``deep`` updates ``rows``, ``prediction`` (batch, ...), ``gradients`` and ``params``, as they are before the
        update, must be there, and ``params`` once more with the step that follows, unless a snapshot comes between.
        ``slots`` are the optimizer's, as in ``{"momentum": {...}}``. Beyond that they are not looked at, so that the
        call may stay as it is. ValueError where something is missing or has no place.
        """
        if self._epoch < 0:
            raise ValueError("a recording begins with the state before training: call snapshot before the first step")
        value = _array(loss)
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise ValueError(f"a batch has one number for its loss, not {value.dtype} of shape {value.shape}")
        seen = None if rows is None else _array(rows).reshape(-1)
        if seen is not None and seen.dtype.kind not in "iu":
            raise ValueError(f"rows are integers, not {seen.dtype}")
        if self._updates < self.deep:
            given = {"rows": seen, "prediction": prediction, "gradients": gradients, "params": params}
            missing = [name for name, what in given.items() if what is None]
            if missing:
                raise ValueError(
                    f"update {self._updates} is one of the {self.deep} that are recorded deeply, and step was given "
                    f"no {', '.join(missing)}"
                )
        elif 0 < self.deep == self._updates and params is None and self._waiting is None:
            raise ValueError(f"the state after the last of {self.deep} deep updates is missing: give step its params")
        state = {}
        if params is not None and self._updates <= self.deep:
            state = self._state(self._canonical(params), slots)
        self._write(stated=bool(state))
        self._steps |= state
        kept = rounded(value.astype(np.float64), self.dtype).reshape(())
        if seen is not None and gradients is not None and self._updates < self.deep:
            found = {"rows": seen.astype(np.int64), "prediction": _array(prediction), "loss": kept, "trained": kept}
            found |= {f"gradients/{name}": g for name, g in self._canonical(gradients).items()}
            self._steps |= {f"{self._updates}/{name}": value for name, value in found.items()}
        self._losses.append(kept)
        if seen is None:
            self._rows = None
        elif self._rows is not None:
            self._rows.append(seen)
        self._updates += 1

    def snapshot(
        self,
        params: Tensors,
        epoch: int | None = None,
        *,
        slots: Mapping[str, Tensors] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Take the parameters after an epoch; the first time those before training, which is epoch 0.

        ``epoch`` is the number of epochs done, by default one more than the last time. ``metrics`` are figures to keep
        beside, the same names each time. ValueError where epochs have different numbers of batches.
        """
        epoch = self._epoch + 1 if epoch is None else epoch
        done = epoch - max(self._epoch, 0)
        state = self._canonical(params)
        for name, value in state.items():
            if value.dtype != carrier(self.dtype):
                raise ValueError(f"{name} is {value.dtype} where the run declares {self.dtype}")
        if self._epoch < 0 and epoch:
            raise ValueError(f"the first snapshot is that of epoch 0, before training, not of epoch {epoch}")
        count = len(self._losses)
        width = count // done if done > 0 else 0
        if self._epoch >= 0 and (not width or width * done != count or self._width not in (None, width)):
            raise ValueError(
                f"{count} steps were recorded for {done} epochs"
                + (f" of {self._width} batches" if self._width else "")
                + ": call step once for each batch, and snapshot where an epoch ends, or with its number"
            )
        self._write()
        chunk = Chunk(
            np.array([epoch], np.int64),
            np.array(self._losses, carrier(self.dtype)).reshape(done, width),
            {name: value[None] for name, value in state.items()},
            {name: np.array([figure], np.float64) for name, figure in (metrics or {}).items()},
        )
        self._writer.check(chunk)
        # It waits for the next step, which may say more of the state that the update before has left.
        self._waiting = chunk, self._state(state, slots) if 0 < self._updates <= self.deep else {}
        if self._rows is not None:
            for start in range(0, count, max(1, width)):
                self._order.update(order_of_epoch(self._rows[start : start + width]))
            self._rows = []
        self._epoch, self._losses, self._width = epoch, [], width or None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        if kind is not None:
            return self._writer.__exit__(kind, error, trace)
        if self._losses:
            complaint = ValueError(
                f"{len(self._losses)} steps came after the last snapshot: take one where an epoch ends, the last too"
            )
            self._writer.__exit__(ValueError, complaint, None)
            raise complaint
        ordered = self._rows is not None and self._updates
        return self._writer.finish(batch_order=self._order.hexdigest() if ordered else None)

    def _canonical(self, tensors: Tensors) -> Params:
        arrays = {name: _array(value) for name, value in tensors.items()}
        return arrays if self.layout is None else to_canonical(self.layout, arrays)

    def _state(self, params: Params, slots: Mapping[str, Tensors] | None) -> Params:
        """The state after the updates so far, as a deep recording names it."""
        found = {f"params/{name}": value for name, value in params.items()}
        for slot, tensors in (slots or {}).items():
            found |= {f"slots/{slot}/{name}": value for name, value in self._canonical(tensors).items()}
        return {f"{self._updates}/{name}": value for name, value in found.items()}

    def _write(self, stated: bool = False) -> None:
        """Hand over the snapshot that waits, with the state it is of, unless that was ``stated`` elsewhere."""
        if self._waiting is None:
            return
        chunk, state = self._waiting
        self._waiting = None
        self._writer.add(chunk, self._steps | ({} if stated else state))
        self._steps = {}


def versions_of_imported() -> dict[str, str]:
    """The versions of the frameworks that this process has imported, and of NumPy."""
    packages = dict.fromkeys(name for known in FRAMEWORKS for names in known.packages.values() for name in names)
    return {
        name: str(sys.modules[name].__version__) for name in packages if hasattr(sys.modules.get(name), "__version__")
    }


def _array(value: Any) -> Array:
    """A copy in NumPy, bfloat16 in float32, which holds it exactly."""
    if hasattr(value, "detach"):  # torch: away from its graph and its device
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    if callable(getattr(value, "numpy", None)):  # of a TensorFlow scalar NumPy by itself makes no array
        value = value.numpy()
    array = np.array(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
