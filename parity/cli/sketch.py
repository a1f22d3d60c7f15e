"""The command that makes a sketch of a checkpoint: sketch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parity.cli.addresses import there
from parity.cli.options import Limits, Shards
from parity.cli.output import check_file, clear_errors, fail, say, write


def sketch(
    checkpoint: Annotated[
        Path, typer.Argument(parser=there, metavar="CHECKPOINT", help="A checkpoint, or a folder of shards.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the sketch goes.", show_default=False)],
    shards: Shards = "",
    limits: Limits = None,
) -> None:
    """Make a small file of a checkpoint, by which it is compared where the checkpoint itself does not go.

    Of each tensor it holds the SHA-256 of its numbers, which no file format changes, a random projection, from which
    its distance to another is estimated, the largest magnitude, and how many numbers are not finite: 2 KB a tensor,
    however large it is. The checkpoint is read once, in little memory. 'parity diff' takes a sketch for a checkpoint,
    on either side. The optimizer's state is left out.

    Status 0, or 2 if the checkpoint cannot be read or the file cannot be written.

    \b
    Examples:
      parity sketch model.safetensors --out here.sketch
      parity diff here.sketch there.sketch
      parity diff here.sketch model.safetensors
      parity sketch ranks --shards 'h.*.fc1.weight: (tp out) in' --out here.sketch
    """
    from parity.judging.sketching import sketch_of
    from parity.recording.artefacts import ranks_in, read_artefact
    from parity.recording.files import in_words
    from parity.recording.limits import Budget
    from parity.report.terminal import bytes_read, make_console

    if str(out) != "-":
        check_file(out)
        if not out.parent.is_dir():
            fail(f"cannot write {out}: {out.parent} is no folder")
    if shards and not (checkpoint.is_dir() and ranks_in(checkpoint)):
        fail(f"--shards belongs to a folder of shards: {checkpoint} holds none, as rank0.safetensors")
    with clear_errors(), bytes_read(make_console(stderr=True)) as begin:
        budget = Budget(streams=True)
        found = sketch_of(read_artefact(checkpoint, budget, shards), budget, begin)
        data = found.as_file()
    write(out, data)
    if str(out) != "-":
        say(f"{out}: {len(found.tensors)} tensors in {in_words(len(data))}")
        for note in found.notes:
            say(f"note: {note}")
