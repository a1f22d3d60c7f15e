"""The options that commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from parity.cli.addresses import there, to_write
from parity.cli.output import fail
from parity.running.variables import variable

Cases = Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help="Cases to run; all of them by default.")]
SuiteName = Annotated[
    str | None,
    typer.Option("--suite", metavar="PACKAGE", help="Package that holds the cases; else the documents', of a clone."),
]
Impls = Annotated[
    list[str] | None, typer.Option("--impl", metavar="NAME", help="Only this implementation; may be repeated.")
]
Frameworks = Annotated[
    list[str] | None, typer.Option("--framework", metavar="NAME", help="Only this framework's; may be repeated.")
]


def _dtypes(otherwise: str) -> Any:
    return typer.Option(
        "--dtype",
        metavar="float64|float32|float16|bfloat16",
        help=f"Only this dtype; may be repeated. Else {otherwise}.",
    )


Dtypes = Annotated[list[str] | None, _dtypes("float32 and float64")]
ElseFloat32 = Annotated[list[str] | None, _dtypes("float32")]
ElseFloat64 = Annotated[list[str] | None, _dtypes("float64")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda_tf32",
        help="Where the implementations run; the last with float32 products in TF32, which should fail.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, metavar="N", help="Train N epochs instead of the case's own number.")
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        parser=to_write,
        metavar="DIR|URL",
        help="Where trajectories go and are found again: a folder, or shared storage, as s3://BUCKET/FOLDER.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="Worker processes at a time; else as many as there are cores where they run."
    ),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="local|ray[://HOST:PORT]",
        help="Where jobs run: on this machine, or on the nodes of a Ray cluster: the one at that address, else the one "
        "that Ray finds here, else one that is begun on this machine.",
    ),
]
Pythons = Annotated[
    list[str] | None,
    typer.Option(
        "--python",
        metavar="FRAMEWORK=PATH",
        help="Run a framework's workers with another environment's interpreter; on Ray also with packages of a file "
        "that ends in .txt, as pip reads it.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=1,
        metavar="SECONDS",
        help="Give a cell up after so long; else after many times what its case takes elsewhere, 10 minutes or more.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run again what is already on disk.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON; - is standard output.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|FILE",
        help="Other data: 'full', the documented scale, or a file of yours.",
    ),
]
Noise = Annotated[
    list[Path] | None,
    typer.Option(
        "--noise",
        parser=there,
        metavar="RUN",
        help="A repetition of A or B with its roundings stirred; may be repeated.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="clip-epsilon|unbiased-variance|float32-constants",
        help="A known departure that may differ; may be repeated.",
    ),
]
Shards = Annotated[
    str,
    typer.Option(
        "--shards",
        metavar="'NAME: AXES; …'",
        help="How files that ranks saved are joined: 'h.*.fc1.weight: (tp out) in' says that the first axis is split.",
    ),
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map", metavar="FILE", help="Which tensors are the same, as 'parity match A B --json FILE' writes it."
    ),
]


@contextlib.contextmanager
def _limited(times: float) -> Iterator[None]:
    """Raise the limits of all readings meanwhile, in this process and the workers that it starts."""
    from parity.recording.limits import OPTION, VARIABLE, allowed
    from parity.trajectory import TrajectoryError

    with variable(VARIABLE, repr(times)):
        try:
            allowed()
        except TrajectoryError:
            fail(f"{OPTION} takes a number above 0 and below a million, not {times:g}")
        yield


def _raise_limits(context: typer.Context, times: float | None) -> float | None:
    if times is not None:
        context.with_resource(_limited(times))
    return times


Limits = Annotated[
    float | None,
    typer.Option(
        "--limits",
        metavar="N",
        callback=_raise_limits,
        help="Let readings take N times as many bytes, tensors and seconds; as PARITY_LIMITS=N does.",
    ),
]
Deep = Annotated[
    int | None,
    typer.Option("--deep", min=1, metavar="N", help="Record all of the first N updates, for 'explain A B'."),
]
LockstepLength = Annotated[
    int | None,
    typer.Option(
        "--lockstep", min=1, metavar="N", help="Also restart from the reference's exact state every N epochs."
    ),
]
