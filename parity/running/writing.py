"""Text that a model writes while it is trained, as training loops print it now and then. Nothing of it is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parity.running.executor import Emit, Environment, Progress, Resources
from parity.running.jobs import CellName

if TYPE_CHECKING:
    from parity.running.cells import Cell
    from parity.running.matrix import Matrix
    from parity.trainer import Trained
    from parity.typing import Array, Batches


@dataclass(frozen=True)
class Mark(Progress):
    """What a run wrote on its way: after ``done`` epochs, with the loss of their last batch and the time elapsed."""

    loss: float = 0.0
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class WriteWhileTraining:
    """Train a cell and let it write after epochs 1, 1 + every, 1 + 2 every, …; the result is its text at the end.

    Each of those texts is told as a ``Mark`` when it is written.
    """

    cell: CellName
    environment: Environment
    resources: Resources
    epochs: int
    every: int
    prime: str
    length: int
    temperature: float
    seed: int

    def run(self, emit: Emit) -> str:
        from parity.running.sampling import sample
        from parity.trainer import by_segment, record, verbs

        entry, implementation, _ = self.cell.find()
        case = replace(entry.case, every=1, metrics=())  # a segment is an epoch
        trainer = implementation.build(case, self.cell.dtype, self.cell.device)
        begun, done = time.perf_counter(), 0

        def text() -> str:
            wish = self.prime, self.length, self.temperature, self.seed
            return sample(trainer.predict, case.display.alphabet, *wish)

        def epoch_of(batches: Batches, inputs: Sequence[Array]) -> Trained:
            nonlocal done
            trained = trainer.train([batches], inputs)
            done += 1
            if (done - 1) % self.every == 0:
                loss, written = float(trained.losses[0, -1]), text()
                emit(Mark(done, self.epochs, loss, written, time.perf_counter() - begun))
            return trained

        for chunk in record(replace(verbs(trainer), train=by_segment(epoch_of)), case, self.epochs):
            emit(Progress(int(chunk.epochs[-1]), self.epochs))
        return text()


def write_while_training(
    matrix: Matrix, wish: Mapping[str, Any], every: int, on_mark: Callable[[Cell, Mark], None]
) -> dict[Cell, str | BaseException]:
    """Let every cell of a matrix train and write, and give its text at the end, or why it has none.

    ``wish`` has the keywords of ``sampling.sample``. ``on_mark`` is told of each text on the way, in whatever thread.
    """

    def told(cell: Cell) -> Callable[[Progress], None]:
        return lambda progress: on_mark(cell, progress) if isinstance(progress, Mark) else None

    with matrix.executor() as pool:
        texts = {}
        for cell in matrix.cells:
            name = matrix.options.cell_name(cell)
            job = WriteWhileTraining(name, name.environment, name.resources, matrix.epochs(cell), every, **wish)
            texts[cell] = pool.submit(job, told(cell))
        wait(texts.values())
    return {cell: text.exception() or text.result() for cell, text in texts.items()}
