"""The command that matches two runs' tensors: match."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parity.cli.addresses import there
from parity.cli.options import Json, Limits, Map, Shards
from parity.cli.output import clear_errors, write_json


def match(
    a: Annotated[Path, typer.Argument(parser=there, metavar="A", help="A trajectory's folder, or a checkpoint.")],
    b: Annotated[Path, typer.Argument(parser=there, metavar="B", help="Another's, of the same model.")],
    json_file: Json = None,
    map_file: Map = None,
    shards: Shards = "",
    limits: Limits = None,
) -> None:
    """Say which tensors of two recordings, or checkpoints, are the same.

    Both runs begin with the same values, so a tensor's values name it, whatever it is called and however its axes lie:
    transposed, reshaped, fused with others or split, stacked, its gates in another order. Tensors that begin equal,
    zeros or ones, are told apart by their first gradients, then by the layers that others were matched in, then by
    order. A pairing is proven if all initial values are equal and no other pairing fits. The layouts that are printed
    go into parity.watch or parity.Recorder. 'parity diff' and 'parity explain' match by themselves; what --json writes
    can be mended and given to them with --map.

    Status 0 if every trained tensor is matched and proven, 1 if a pairing begins with different values, 3 if something
    is ambiguous or has no partner.

    \b
    Examples:
      parity match runs/torch runs/flax
      parity match runs/torch runs/flax --json map.json
      parity match model.pt model.weights.h5
      parity match ranks model.safetensors --shards 'fc1.weight: (tp out) in; fc2.weight: out (tp in)'
    """
    from parity.judging.checkpoints import opened_checkpoints
    from parity.judging.renamed import held_under_other_names
    from parity.judging.tensors.correspondence import read_map
    from parity.judging.tensors.matching import match as matched
    from parity.judging.verdict import EXIT_STATUS, Verdict
    from parity.recording.artefacts import open_run
    from parity.recording.limits import LimitError
    from parity.report.pairings import print_match
    from parity.report.terminal import bytes_read, make_console

    with clear_errors(), bytes_read(make_console(stderr=True)) as begin:
        given = read_map(map_file) if map_file else ()
        try:
            found = matched(open_run(a, None, shards), open_run(b, None, shards), given)
        except LimitError:
            # What cannot be looked at whole is streamed, as far as values alone tell.
            both = None if given else opened_checkpoints(a, b, shards)
            streamed = both and held_under_other_names(both, begin)
            if not streamed:
                raise
            found = streamed[1]
    print_match(make_console(stderr=str(json_file) == "-"), a, b, found)
    write_json(json_file, found.as_json())
    verdict = Verdict.PASS if found.certain else Verdict.INCONCLUSIVE
    if any(pairing.differs for pairing in found.pairings):
        verdict = Verdict.FAIL
    raise SystemExit(EXIT_STATUS[verdict])
