"""A loop that is recorded by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parity.recorder import Recorder
from parity.recording.reader import read
from parity.spec import Shuffled
from parity.trajectory import Trajectory
from parity.typing import Params

ROWS, BATCHES = 12, 3
SCHEDULE = Shuffled(batch_size=ROWS // BATCHES, seed=3)


def params(value: float, dtype: str = "float32") -> Params:
    return {"dense/kernel": np.full((2, 1), value, dtype), "dense/bias": np.zeros(1, dtype)}


def record(folder: Path, epochs: int = 4, every: int = 1, deep: int = 0, rows: bool = True, **said: Any) -> Trajectory:
    """A loop whose tensors are changed in place, as an optimizer changes them."""
    now, gradient, count = params(0.0), params(1.0), 0
    with Recorder(folder, "float32", deep=deep, **said) as run:
        run.snapshot(now, metrics={"accuracy": 0.5})
        order = SCHEDULE.epochs(ROWS)
        for epoch in range(1, epochs + 1):
            for batch in next(order):
                seen = {"rows": batch, "prediction": batch * 0.5, "gradients": gradient, "params": now}
                run.step(count, **(seen if rows else {**seen, "rows": None}))
                count += 1
                now["dense/kernel"] += gradient["dense/kernel"]
            if epoch % every == 0 or epoch == epochs:
                run.snapshot(now, epoch, metrics={"accuracy": epoch / 8})
    return read(folder)
