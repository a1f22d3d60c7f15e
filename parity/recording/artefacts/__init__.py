"""Checkpoints and loss logs that people have already, read without the framework that wrote them.

Nothing in a file is run: no pickle is loaded, no layer is built. What a file may take of memory and time is bounded, as
that of a recording is.
"""

from parity.recording.artefacts.artefact import Artefact, Series
from parity.recording.artefacts.ranks import ReplicasError, ranks_in
from parity.recording.artefacts.reading import read_artefact
from parity.recording.artefacts.runs import as_trajectory, dtype_of, is_artefact, narrowest, open_run, shards_of

__all__ = [
    "Artefact",
    "ReplicasError",
    "Series",
    "as_trajectory",
    "dtype_of",
    "is_artefact",
    "narrowest",
    "open_run",
    "ranks_in",
    "read_artefact",
    "shards_of",
]
