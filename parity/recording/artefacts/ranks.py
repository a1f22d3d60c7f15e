"""Shards that each rank saved by itself: put together as a user says, replicas held against each other.

A specification is a list of statements between semicolons. One that begins with sizes is the mesh, whose last axis
changes fastest from rank to rank; it may be left out where tensors are split over one axis alone. The others are rules:
a name, in which ``*`` stands for any letters, and the axes of the tensors of that name, as einops writes them. An axis
that is split over an axis of the mesh stands with it in brackets.

    dp=2 tp=4; h.*.mlp.fc1.weight: (tp out) in; h.*.mlp.fc2.weight: out (tp in)

``out[tp] in`` is another way to write ``(tp out) in``. What no rule names is a replica in all ranks, and what a rule
splits over ``tp`` is a replica in the ranks of one place in ``tp``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity.recording.artefacts.artefact import Artefact, Entry, Tensors
from parity.recording.artefacts.joined import Piece, joined
from parity.recording.artefacts.safetensors_files import read_safetensors
from parity.recording.artefacts.torch_files import read_torch, read_training
from parity.recording.limits import Budget
from parity.recording.placed import Placed, blocks_of, size_of
from parity.trajectory import TrajectoryError

RANK = re.compile(r"rank[-_]?([0-9]{1,6})(?![0-9])")
"""What is in the name of a rank's file."""
MEGATRON = re.compile(r"mp_rank_([0-9]{2,6})((_[0-9]{3,6})*)")
"""The folder that Megatron-LM gives a rank of tensor parallelism; numbers of stages and of experts may follow.

``get_checkpoint_name`` in https://github.com/NVIDIA/Megatron-LM/blob/main/megatron/training/checkpointing.py.
"""
OF_THE_OPTIMIZER = ("optim", "distrib_optim")
"""How the names of files in such a folder begin that hold no weights."""
READERS = {".safetensors": read_safetensors, **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), read_torch)}
AXIS = re.compile(r"\(([^()]*)\)|([A-Za-z_]\w*)\[([^\[\]]*)\]|([A-Za-z_]\w*)")
NAME = re.compile(r"[A-Za-z_]\w*")
SIZE = re.compile(r"([A-Za-z_]\w*)=([1-9][0-9]{0,5})")
BLOCK = 1 << 19
"""So many bytes of two replicas are held against each other at a time."""


class ReplicasError(TrajectoryError):
    """Ranks that should hold the same numbers do not."""


@dataclass(frozen=True)
class Rule:
    """How the tensors of some names are split.

    Attributes:
        pattern: The names; ``*`` stands for any letters.
        axes: Of each axis, the axes of the mesh that it is split over.
    """

    pattern: str
    axes: tuple[tuple[str, ...], ...]

    @property
    def mesh(self) -> tuple[str, ...]:
        """All axes of the mesh that it names."""
        return tuple(itertools.chain.from_iterable(self.axes))

    def names(self, name: str) -> bool:
        """Say whether it is a rule of this tensor."""
        return re.fullmatch(".*".join(map(re.escape, self.pattern.split("*"))), name) is not None


def parsed_shards(text: str) -> tuple[dict[str, int], tuple[Rule, ...]]:
    """Read a specification.

    Args:
        text: The specification, as this module's own words say.

    Returns:
        The axes of the mesh and their sizes, as far as it says them; and the rules.

    Raises:
        TrajectoryError: If it is none. The message says which statement.

    Examples:
        >>> mesh, rules = parsed_shards("dp=2 tp=2; fc.*: (tp out) in")
        >>> mesh, rules[0].axes, rules[0].names("fc.weight")
        ({'dp': 2, 'tp': 2}, (('tp',), ()), True)
    """
    mesh: dict[str, int] = {}
    rules = []
    for statement in filter(None, map(str.strip, text.split(";"))):
        pattern, colon, axes = (part.strip() for part in statement.rpartition(":"))
        sizes = [SIZE.fullmatch(word) for word in statement.split()]
        if not colon and all(sizes) and not mesh:
            mesh = {found[1]: int(found[2]) for found in sizes if found}
            if len(mesh) != len(sizes):
                raise _wrong(statement, "an axis of the mesh is there twice")
        elif colon and pattern:
            rules.append(Rule(pattern, _axes(statement, axes)))
        else:
            raise _wrong(statement, "it is neither the mesh, 'dp=2 tp=4', nor a rule, 'h.*.fc1.weight: (tp out) in'")
    for rule in rules:
        if len(set(rule.mesh)) != len(rule.mesh):
            raise _wrong(rule.pattern, "a tensor is split once over an axis of the mesh")
    return mesh, tuple(rules)


def _axes(statement: str, text: str) -> tuple[tuple[str, ...], ...]:
    found: list[tuple[str, ...]] = []
    if AXIS.sub("", text).strip():
        raise _wrong(statement, "axes are names, with those of the mesh in brackets: '(tp out) in' or 'out[tp] in'")
    for inner, _, meshes, _ in AXIS.findall(text):
        words = inner.split()
        split = words[:-1] if words else meshes.split()
        if not all(NAME.fullmatch(word) for word in (*words, *split)):
            raise _wrong(statement, "axes are names")
        found.append(tuple(split))
    return tuple(found)


def _wrong(statement: str, what: str) -> TrajectoryError:
    return TrajectoryError(f"shards: {statement!r:.120}: {what}")


def ranks_in(folder: Path) -> dict[int, list[str]]:
    """The names of the files in a folder that a rank saved, by rank: they may lie in a folder of the rank's own."""
    found: dict[int, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if (own := MEGATRON.fullmatch(name)) and os.path.isdir(folder / name):
            files = sorted(os.listdir(folder / name))
            weights = [file for file in files if not file.startswith(OF_THE_OPTIMIZER) and Path(file).suffix in READERS]
            found.setdefault(int(own[1]), []).extend(f"{name}/{file}" for file in weights)
            continue
        rank = RANK.search(name)
        if rank and Path(name).suffix in READERS:
            found.setdefault(int(rank[1]), []).append(name)
    return found


def read_ranks(folder: Path, budget: Budget, text: str) -> Artefact:
    """Read a folder of shards, each saved by a rank, and join them.

    Args:
        folder: The folder.
        budget: What the reading may take.
        text: How they are split: see ``parsed_shards``.

    Returns:
        The whole tensors. What each rank holds beside the model's, as an optimizer's state, is not joined: its name
        begins with that of the rank's file.

    Raises:
        ReplicasError: If ranks that should hold the same numbers do not; the message names the rank and the tensor.
        TrajectoryError: If a rank is missing, or tensors cannot be joined.
    """
    sizes, rules = parsed_shards(text)
    files = ranks_in(folder)
    if not files:
        raise TrajectoryError(f"{folder}: holds no file of a rank, as rank0.safetensors or mp_rank_00.pt")
    for name in itertools.chain.from_iterable(files.values()):
        own = MEGATRON.fullmatch(name.partition("/")[0])
        if own and any(map(int, own[2].split("_")[1:])):
            raise TrajectoryError(
                f"{folder}: {name!r:.80} is of a later stage of a pipeline, or of some of the experts, which name what "
                "they hold as the first does: such are not joined; let Megatron-LM write one stage alone"
            )
    for rank in range(max(files) + 1):
        if len(files.get(rank, [])) != 1:
            raise TrajectoryError(f"{folder}: rank {rank} has {len(files.get(rank, []))} files, not one")
    mesh = _mesh(folder, sizes, rules, len(files))
    names = [files[rank][0] for rank in range(len(files))]
    ranks = [_reader(name)(folder / name, budget, folder) for name in names]
    held = [rank.tensors.entries for rank in ranks]
    for name, entries in zip(names, held, strict=True):
        if other := sorted(entries.keys() ^ held[0].keys()):
            raise TrajectoryError(f"{folder}: {other[0]!r:.80} is in one of {names[0]} and {name} alone: not joined")
    of = {name: [rule for rule in rules if rule.names(name)] for name in held[0]}
    for rule in rules:
        if not any(rule in some for some in of.values()):
            raise _wrong(rule.pattern, f"no tensor in {folder} has such a name")
    found = {}
    replicas: list[tuple[str, int, int]] = []
    for name, some in of.items():
        if len(some) > 1:
            raise _wrong(some[1].pattern, f"names {name}, which {some[0].pattern!r:.80} names too")
        each = [entries[name] for entries in held]
        pieces, pairs = _whole(name, some[0] if some else None, mesh, each, names[0])
        shape = tuple(max(box.stop for box in boxes) for boxes in zip(*(piece.box for piece in pieces), strict=True))
        found[name] = pieces[0].entry if len(pieces) == 1 else joined(folder, name, shape, pieces, budget)
        replicas += [(name, one, other) for one, other in pairs]
    # The time that a reading may take does not count what is read here: that is bounded by what lies on disk.
    budget.check_streamed(folder, sum(size_of(held[rank][name]) for name, *two in replicas for rank in two))
    for name, *two in replicas:
        _check_replica(folder, name, *((names[rank], held[rank][name]) for rank in two))
    notes = dict.fromkeys(note for rank in ranks for note in rank.notes)
    state = {
        f"{name}/{of}": entry
        for name, rank in zip(names, ranks, strict=True)
        for of, entry in rank.state.entries.items()
    }
    return Artefact(folder, f"shards of {len(ranks)} ranks", Tensors(found), Tensors(state), notes=tuple(notes))


def _reader(name: str) -> Callable[[Path, Budget, Path], Artefact]:
    """What reads a rank's file. Megatron-LM's holds all of a training, with objects of its own classes."""
    read = READERS[Path(name).suffix]
    return read_training if read is read_torch and "/" in name else read


def _mesh(folder: Path, sizes: Mapping[str, int], rules: Sequence[Rule], ranks: int) -> dict[str, int]:
    """The mesh, each axis with its size; the only axis that rules name is as long as there are ranks."""
    named = dict.fromkeys(itertools.chain.from_iterable(rule.mesh for rule in rules))
    if not sizes and len(named) <= 1:
        return dict.fromkeys(named or {"ranks": None}, ranks)
    if unknown := [name for name in named if name not in sizes]:
        raise TrajectoryError(f"shards: how long is the mesh along {unknown[0]!r:.40}? Begin with 'dp=2 tp=4' or so")
    if math.prod(sizes.values()) != ranks:
        said = " × ".join(f"{name}={size}" for name, size in sizes.items())
        raise TrajectoryError(f"{folder}: has {ranks} ranks, and the mesh {said} has {math.prod(sizes.values())}")
    return dict(sizes)


def _whole(
    name: str, rule: Rule | None, mesh: Mapping[str, int], each: Sequence[Entry], file: str
) -> tuple[list[Piece], list[tuple[int, int]]]:
    """The pieces of a tensor, and the pairs of ranks that are to hold the same one."""
    axes = rule.axes if rule else ((),) * len(each[0].shape)
    if len(axes) != len(each[0].shape):
        assert rule is not None
        raise _wrong(rule.pattern, f"has {len(axes)} axes, and {name} in {file} the shape {each[0].shape}")
    owners: dict[tuple[int, ...], int] = {}
    replicas = []
    for rank, place in enumerate(np.ndindex(*mesh.values())):
        at = dict(zip(mesh, place, strict=True))
        chunk = tuple(_place([at[one] for one in over], [mesh[one] for one in over]) for over in axes)
        # The first rank that holds a chunk is the one of place 0 in all axes that it is not split over.
        if owners.setdefault(chunk, rank) != rank:
            replicas.append((owners[chunk], rank))
    starts = []
    for axis, over in enumerate(axes):
        along = [
            tuple(k * (axis == other) for other in range(len(axes)))
            for k in range(math.prod(mesh[one] for one in over))
        ]
        starts.append([0, *itertools.accumulate(each[owners[chunk]].shape[axis] for chunk in along)])
    pieces = [
        Piece(tuple(ends[k] for ends, k in zip(starts, chunk, strict=True)), each[rank])
        for chunk, rank in owners.items()
    ]
    return pieces, replicas


def _place(indices: Sequence[int], sizes: Sequence[int]) -> int:
    """The number of a place in the axes of a mesh, of which the last changes fastest."""
    found = 0
    for index, size in zip(indices, sizes, strict=True):
        found = found * size + index
    return found


def _check_replica(folder: Path, name: str, one: tuple[str, Entry], other: tuple[str, Entry]) -> None:
    """Hold a tensor of one file against its replica in another: ReplicasError if a bit differs."""
    where = f"{folder}: {name} is one tensor in several ranks"
    kinds = [(entry.shape, entry.dtype, entry.narrow) for _, entry in (one, other)]
    if kinds[0] != kinds[1]:
        said = (f"{entry.shape} of {entry.dtype} in {file}" for file, entry in (one, other))
        raise ReplicasError(f"{where}: {', '.join(said)}")
    place = _first_difference(one[1].placed(), other[1].placed())
    if place is not None:
        shape = one[1].shape
        index = [int(axis) for axis in np.unravel_index(place, shape)] if shape else []
        said = (f"{entry.load().reshape(-1)[place]!s} in {file}" for file, entry in (one, other))
        raise ReplicasError(f"{where}: {name}{index} is {', and '.join(said)}")


def _first_difference(one: Placed, other: Placed) -> int | None:
    """The first place where two tensors of one shape and dtype are not equal to the bit."""
    x, y = (np.empty(BLOCK // one.dtype.itemsize, one.dtype) for _ in range(2))
    for block in blocks_of(one.shape, x.size):
        ours, theirs = x[: block.size], y[: block.size]
        one.read(block, ours)
        other.read(block, theirs)
        bits = f"u{one.dtype.itemsize}"
        differs = np.flatnonzero(ours.view(bits) != theirs.view(bits))
        if differs.size:
            return block.start + int(differs[0])
    return None
