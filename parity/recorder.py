"""Record a training loop of your own, in any framework, for ``parity diff`` and ``parity explain``.

Tensors may be NumPy's, torch's, TensorFlow's, Keras's or JAX's. They are copied when they are handed over. No framework
is imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from parity.dtypes import carrier, rounded, unit
from parity.frameworks import known_framework, settings_of
from parity.layout import Layout, Slot, to_canonical
from parity.recording.format import check_optional, check_steps, order_of_epoch
from parity.recording.sketch import sketch
from parity.recording.steps import AFTER
from parity.recording.tensors import as_array, dtype_name, dtype_of_numbers, flat, versions_of_imported
from parity.recording.writer import SHARD_BYTES, Writer
from parity.rules import in_python
from parity.spec import Adam, Optimizer, Sgd
from parity.trajectory import Chunk
from parity.typing import Array, Params

Tensors = Mapping[str, Any]
"""Names to tensors of any framework, or to further mappings, as flax nests them."""


class Recorder:
    """Write a run to a folder as it goes, as a context manager.

    The run is written beside ``folder`` and put in its place when the context ends. If an exception leaves the context,
    what was written stays beside it, incomplete, and an earlier recording in ``folder`` stays as it was.

    Args:
        folder: Where the run goes. It is made, or replaced if it holds an earlier recording.
        dtype: The dtype that the run's parameters must have: float64, float32, float16 or bfloat16, as a name or as a
            framework's own object, such as ``torch.float32``.
        case: The case of a suite that this is a run of, if it is one.
        implementation: What recorded the run. Its first word names the framework, as in ``torch-manual``; then the
            framework's settings are recorded too.
        device: Where the run was computed, as a text.
        layout: Which of the framework's tensors is which canonical one. Without a layout the names and shapes of both
            runs must be alike.
        deep: Of how many first updates everything is recorded: batch, prediction, gradients and state. ``parity
            explain`` then names the phase in which two runs part.
        optimizer: The optimizer that the run is meant to have, in the words of ``parity.spec``. ``parity explain``
            holds the recorded updates against it, and says by which of its numbers they depart. If the loop has a
            learning-rate schedule, say it in ``rates`` or hand ``learning_rate`` to each step; if it clips, hand over
            the gradients that are clipped already, and those before as ``unclipped``; if some parameters alone decay,
            name them in ``decayed``. An optimizer of another kind is left out.
        copied: Whether tensors are copied when they are handed over. Without it, nobody may change them any more.

    Raises:
        ValueError: If an argument is not one of those above.
        TrajectoryError: If ``folder`` holds something that is no recording.

    Examples:
        >>> import numpy as np
        >>> from parity import Recorder, read
        >>> kernel = np.ones((2, 1))
        >>> with Recorder("runs/numpy", "float64") as run:
        ...     run.snapshot({"dense/kernel": kernel})  # before training: epoch 0
        ...     for loss in (0.5, 0.25):
        ...         run.step(loss)  # after the backward pass, before the update
        ...         kernel = kernel * 0.5
        ...         run.snapshot({"dense/kernel": kernel})
        >>> read("runs/numpy").loss.tolist()
        [[0.5], [0.25]]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        dtype: Any,
        *,
        case: str | None = None,
        implementation: str | None = None,
        device: str = "cpu",
        layout: Layout | None = None,
        deep: int = 0,
        optimizer: Optimizer | None = None,
        copied: bool = True,
    ) -> None:
        dtype = dtype_name(dtype)
        if not isinstance(deep, int | np.integer) or deep < 0:
            raise ValueError(f"deep is a number of updates, 0 or more, not {deep!r:.80}")
        if optimizer is not None and not isinstance(optimizer, Sgd | Adam):
            raise ValueError(
                f"the optimizer is told in the words of parity.spec, Sgd, Adam or AdamW, not as {optimizer!r:.80}: "
                "leave it out if it is of another kind"
            )
        if layout is not None and not all(isinstance(slot, Slot) for slot in layout):
            raise ValueError(
                "a layout is a sequence of parity.layout.Slot, each with a canonical name and the framework's"
            )
        said = {"case": case, "implementation": implementation, "device": device, "dtype": dtype}
        meta: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        meta["versions"] = versions_of_imported()
        meta["platform"] = {"system": platform.system(), "machine": platform.machine()}
        if implementation is not None and known_framework(implementation) is not None:
            meta["settings"] = settings_of(implementation, device)
        if optimizer is not None:
            meta["hyper_parameters"] = {"optimizer": repr(in_python(optimizer))}
        self.dtype, self.layout, self.deep, self._copied = dtype, layout, deep, copied
        # A loss may be beyond float16, in which nobody adds one up.
        self._of_losses = "float32" if dtype == "float16" else dtype
        self._writer = Writer(folder, meta)
        self._epoch = -1
        self._updates = 0
        self._losses: list[Array] = []
        self._width: int | None = None
        self._rows: list[Array] | None = []
        self._order = hashlib.sha256()
        self._steps: Params = {}
        self._waiting: tuple[Chunk, Params] | None = None
        self._described: dict[str, Any] = {}
        self._closed = False

    def step(
        self,
        loss: Any,
        *,
        rows: Any = None,
        prediction: Any = None,
        gradients: Tensors | None = None,
        params: Tensors | None = None,
        slots: Mapping[str, Tensors] | None = None,
        inputs: Sequence[Any] = (),
        activations: Mapping[str, Any] | None = None,
        activation_gradients: Mapping[str, Any] | None = None,
        unclipped: Tensors | None = None,
        learning_rate: float | None = None,
        strays: Mapping[str, Array] | None = None,
        after: Tensors | None = None,
        after_slots: Mapping[str, Tensors] | None = None,
    ) -> None:
        """Record one batch. Call it after the backward pass and before the update.

        A deep recording needs ``rows`` or ``inputs``, ``prediction``, ``gradients`` and ``params`` in each of its first
        ``deep`` calls, and ``params`` once more in the call after those unless a snapshot comes between. Later calls
        may hand them over still; only ``loss`` and ``rows`` are kept then.

        Args:
            loss: The batch's loss, one number of any shape. It is kept in the run's dtype, or in float32 if that is
                float16.
            rows: Integers (batch,), the indices of the batch's rows in the data. If every step of two runs has them,
                runs whose batches differ are never held against each other.
            prediction: Numbers (batch, ...), what the model said of the batch before the update.
            gradients: The gradient of each trained parameter, shaped as the parameter and of no coarser dtype, as the
                optimizer gets it, clipped if it is clipped. What is not trained has none, or None.
            params: All parameters before the update, in the run's dtype.
            slots: The optimizer's slots by name, as in ``{"momentum": {"dense/kernel": ...}}``.
            inputs: The tensors that the model is given, of any shapes. A sketch of their values is kept, by which two
                runs that know no rows tell whether they saw one batch: see ``parity.recording.sketch``.
            activations: What each layer gave, by the layer's name, in any order.
            activation_gradients: The loss's gradient for what each layer gave, by the layer's name.
            unclipped: The gradients before they were clipped, if they were.
            learning_rate: The learning rate of this update, if it is not the same in all of them.
            strays: How far repetitions of the run strayed from it in this update: (repetitions,) float64 for each
                tensor, by its name in the recorded step, as ``gradients/dense/kernel``.
            after: All parameters after the update, if the next update does not begin from them.
            after_slots: The optimizer's slots after the update, likewise.

        Raises:
            ValueError: If something is missing, has another name, shape or dtype, or comes at the wrong time.
        """
        self._open()
        if self._epoch < 0:
            raise ValueError("a recording begins with the state before training: call snapshot before the first step")
        value = as_array(loss)
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise ValueError(f"a batch has one number for its loss, not {value.dtype} of shape {value.shape}")
        seen = None if rows is None else as_array(rows).reshape(-1)
        if seen is not None and seen.dtype.kind not in "iu":
            raise ValueError(f"rows are integers, not {seen.dtype}")
        deep = self._updates < self.deep
        if deep:
            batch = seen if seen is not None else inputs or None
            given = {"rows": batch, "gradients": gradients, "params": params}
            if not activations:
                given["prediction"] = prediction
            missing = [name for name, what in given.items() if what is None]
            if missing:
                raise ValueError(
                    f"update {self._updates} is one of the {self.deep} that are recorded deeply, and step was given "
                    f"no {', '.join(missing)}"
                )
        elif 0 < self.deep == self._updates and params is None and self._waiting is None:
            raise ValueError(f"the state after the last of {self.deep} deep updates is missing: give step its params")
        state: Params = {}
        kept = rounded(value.astype(np.float64), self._of_losses).reshape(())
        if params is not None and 0 < self.deep >= self._updates:
            now = self._params(params)
            state = self._state(now, slots)
            if deep and gradients is not None:
                trained = self._gradients(gradients, now)
                if not self._updates:
                    self._unmoved({name: now[name] for name in trained})
                found: Params = {"loss": kept, "trained": kept}
                if prediction is not None:
                    found["prediction"] = _numbers("the prediction", prediction, self._copied)
                found |= {f"gradients/{name}": g for name, g in trained.items()}
                if seen is not None:
                    found["rows"] = seen
                if inputs:
                    found["batch"] = np.stack([sketch(_numbers("an input", each, copied=False)) for each in inputs])
                if learning_rate is not None:
                    found["learning_rate"] = np.array(learning_rate, np.float64)
                if unclipped is not None:
                    found |= {f"unclipped/{name}": g for name, g in self._gradients(unclipped, now).items()}
                for kind, tensors in (
                    ("activations", activations),
                    ("activation_gradients", activation_gradients),
                ):
                    found |= {
                        f"{kind}/{name}": _numbers(name, each, self._copied) for name, each in (tensors or {}).items()
                    }
                found |= {f"strays/{name}": np.asarray(far, np.float64) for name, far in (strays or {}).items()}
                if after is not None:
                    found |= {f"{AFTER}{name}": g for name, g in self._named(self._params(after), after_slots).items()}
                state |= {f"{self._updates}/{name}": value for name, value in found.items()}
        check_steps(state)
        state = self._write(stated=bool(state)) | state
        self._steps |= state
        if sum(value.nbytes for value in self._steps.values()) >= SHARD_BYTES:
            self._writer.add_steps(self._steps)
            self._steps = {}
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
        """Record the parameters after an epoch; the first time before training, which is epoch 0.

        Args:
            params: All parameters, in the run's dtype, with those that are not trained, such as running statistics.
            epoch: The number of epochs done. Without it, one more than at the snapshot before.
            slots: The optimizer's slots, as in ``step``.
            metrics: Figures to keep beside the parameters, float64. Each snapshot must have the same names.

        Raises:
            ValueError: If the epochs so far had different numbers of batches, or if a parameter has another name, shape
                or dtype than before.
        """
        self._open()
        epoch = self._epoch + 1 if epoch is None else epoch
        done = epoch - max(self._epoch, 0)
        state = self._params(params)
        if self._epoch < 0 and epoch:
            raise ValueError(f"the first snapshot is that of epoch 0, before training, not of epoch {epoch}")
        count = len(self._losses)
        width = count // done if done > 0 else 0
        if self._epoch >= 0 and (not width or width * done != count or self._width not in (None, width)):
            raise ValueError(
                f"{_many(count, 'step', 'steps')} came for {_many(done, 'epoch', 'epochs')}"
                + (f" of {_many(self._width, 'batch', 'batches')}" if self._width else "")
                + ": call step once for each batch, and snapshot where an epoch ends, or with its number"
            )
        self._write()
        chunk = Chunk(
            np.array([epoch], np.int64),
            np.array(self._losses, carrier(self._of_losses)).reshape(done, width),
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

    def describe(self, **meta: Any) -> None:
        """Add to what the recording says of the run, at any time before its end.

        Args:
            meta: Plain values that JSON can hold, by name. ``layers`` is a list of what ran, in order, each with
                ``name``, ``kind`` and ``configuration``; ``buffers`` the names of parameters that are not trained;
                ``notes`` a list of sentences. Any other name is kept as it is.

        Raises:
            TrajectoryError: If a value is of another kind than the format has.
        """
        self._open()
        check_optional(meta, self._writer.folder)
        json.dumps(meta, allow_nan=False)
        self._described |= meta

    def close(self) -> None:
        """End the run and put it in its place, as leaving the context does. A second call does nothing.

        Raises:
            ValueError: If steps came after the last snapshot.
        """
        if not self._closed:
            self.__exit__(None, None, None)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return None
        self._closed = True
        self._write()
        if kind is not None:
            return self._writer.__exit__(kind, error, trace)
        if self._losses:
            complaint = ValueError(
                f"{_many(len(self._losses), 'step', 'steps')} came after the last snapshot: take one where an epoch "
                "ends, the last too"
            )
            self._writer.__exit__(ValueError, complaint, None)
            raise complaint
        ordered = self._rows is not None and self._updates
        return self._writer.finish(**self._described, batch_order=self._order.hexdigest() if ordered else None)

    def _open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._writer.folder}: this recording has ended: record another run with a new Recorder")

    def _params(self, tensors: Tensors) -> Params:
        """All parameters, in the canonical layout and the run's dtype."""
        params = self.canonical(tensors, "parameters")
        for name, value in params.items():
            if value.dtype.kind == "i":
                raise ValueError(f"{name} is {value.dtype}: a count is no parameter, leave it out")
            if value.dtype != carrier(self.dtype):
                raise ValueError(f"{name} is {value.dtype} where the run declares {self.dtype}")
        missing = [slot.framework for slot in self.layout or () if slot.canonical not in params]
        if missing:
            raise ValueError(f"the layout names {missing[0]}, which is not among the parameters")
        return params

    def _gradients(self, tensors: Tensors, params: Params) -> Params:
        found = self.canonical(tensors, "gradients")
        if not found:
            raise ValueError("no parameter has a gradient: call step after the backward pass")
        for name, value in found.items():
            if name not in params:
                raise ValueError(f"there is a gradient of {name}, which is not among the parameters")
            if value.shape != params[name].shape:
                raise ValueError(f"the gradient of {name} has shape {value.shape}, the parameter {params[name].shape}")
            if unit(dtype_of_numbers(f"the gradient of {name}", value)) > unit(carrier(self.dtype).name):
                raise ValueError(f"the gradient of {name} is {value.dtype} where the run declares {self.dtype}")
        return found

    def _unmoved(self, params: Params) -> None:
        """That the first step begins where the snapshot was taken; else it comes after its own update.

        Of trained parameters: a forward pass may move running statistics.
        """
        assert self._waiting is not None, "the first snapshot waits for the first step"
        begun = self._waiting[0].params
        for name, value in params.items():
            if name in begun and not np.array_equal(value, begun[name][0], equal_nan=True):
                raise ValueError(
                    f"{name} is not what it was in the snapshot before: step takes params as they are before the update"
                )

    def canonical(self, tensors: Tensors, what: str) -> Params:
        """Bring tensors to NumPy and to the recording's layout.

        Args:
            tensors: Tensors by the framework's name. Those that are None are left out.
            what: What they are, for a message.

        Returns:
            Copies by canonical name.

        Raises:
            ValueError: If a name stands twice or is in no slot of the layout, or if a shape does not fit its slot.
        """
        arrays: Params = {}
        for name, value in flat(tensors, what):
            if name in arrays:
                raise ValueError(f"two of the {what} are called {name}")
            arrays[name] = as_array(value, self._copied)
        if self.layout is None:
            return arrays
        known = {slot.framework for slot in self.layout}
        for name in arrays:
            if name not in known:
                raise ValueError(f"{name}, one of the {what}, is in no slot of the layout: add one or leave it out")
        # A canonical tensor may be made of several.
        missing = {slot.canonical for slot in self.layout if slot.framework not in arrays}
        try:
            return to_canonical([slot for slot in self.layout if slot.canonical not in missing], arrays)
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"the {what} do not fit the layout: {error}") from error

    def _state(self, params: Params, slots: Mapping[str, Tensors] | None) -> Params:
        """The state after the updates so far, as a deep recording names it."""
        return {f"{self._updates}/{name}": value for name, value in self._named(params, slots).items()}

    def _named(self, params: Params, slots: Mapping[str, Tensors] | None) -> Params:
        """A state, as a deep recording names it within a step."""
        found = {f"params/{name}": value for name, value in params.items()}
        for slot, tensors in (slots or {}).items():
            named = self.canonical(tensors, f"slots {slot}")
            found |= {f"slots/{slot}/{name}": value for name, value in named.items()}
        return found

    def _write(self, stated: bool = False) -> Params:
        """Hand over the snapshot that waits, with the state it is of, or give that back to be ``stated`` elsewhere."""
        if self._waiting is None:
            return {}
        chunk, state = self._waiting
        self._waiting = None
        self._writer.add(chunk, self._steps if stated else self._steps | state)
        self._steps = {}
        return state if stated else {}


def _numbers(what: str, value: Any, copied: bool) -> Array:
    """Bring a tensor of numbers to NumPy; ValueError if it holds anything else."""
    array = as_array(value, copied)
    dtype_of_numbers(what, array)
    return array


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
