"""Changes of a recording: of bytes, of a shard's header and tensors, of what the manifest says, and of whole files."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from parity.recording.format import CODES, MANIFEST
from parity.tests.fuzzing.subjects import Tree

Mutation = Callable[[Tree, Random], None]
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    2**31,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    10**30,
    10**300,
    0.5,
    1e308,
    5e-324,
)
TEXTS = ("", "\x1b[2J", "a[", ":x:", "\ud800", "..", "a/b", "\n", "x" * 3000, "numpy", "float64", "\u202e", "0" * 64)
VALUES = (None, True, False, *NUMBERS, *TEXTS, [], {}, [[]], {"a": {}}, [None] * 50, {"file": "x"}, math.inf, math.nan)
KEYS = (
    *("schema", "version", "complete", "dtype", "shards", "case", "implementation", "device", "versions", "platform"),
    *("threads", "settings", "batch_order", "key", "origin", "lockstep", "deep", "floor", "seconds", "timings"),
    *("hyper_parameters", "float32_parameters", "anything"),
)
OPTIMIZERS = (
    "Sgd(learning_rate=0.125)",
    "Adam(learning_rate=1e-300)",
    "AdamW()",
    "Sgd(",
    "__import__('os')",
    "Sgd(nan)",
)
LARGEST = 1 << 22
"""The bytes of the largest tensor that a mutation makes up."""
SPECIAL = (0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 1e308, 5e-324, 1e-45, 65504.0)


def mutate(tree: Tree, random: Random) -> list[str]:
    """Change a folder's files by one to three mutations, in place. Returns their names."""
    names = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        mutation = random.choice(MUTATIONS)
        names.append(mutation.__name__)
        mutation(tree, random)
    return names


def _pick(tree: Tree, random: Random, ending: str) -> str:
    return random.choice([name for name in tree if name.endswith(ending)] or sorted(tree))


def _seal(tree: Tree, name: str) -> None:
    """Give a shard the checksum and size that it has now, where there is a manifest that has them."""
    folder, _, file = name.rpartition("/")
    place = f"{folder}/{MANIFEST}" if folder else MANIFEST
    try:
        meta = json.loads(tree[place])
        for shard in meta["shards"]:
            if shard["file"] == file:
                shard |= {"sha256": hashlib.sha256(tree[name]).hexdigest(), "bytes": len(tree[name])}
        tree[place] = json.dumps(meta).encode()
    except (KeyError, TypeError, ValueError, RecursionError):
        pass


def flip_bits(tree: Tree, random: Random) -> None:
    """Of a shard, sealed again but for one in ten."""
    name = _pick(tree, random, ".safetensors")
    data = bytearray(tree[name])
    for _ in range(random.choice((1, 1, 1, 4, 16)) if data else 0):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    tree[name] = bytes(data)
    if random.random() < 0.9:
        _seal(tree, name)


def cut_or_grow(tree: Tree, random: Random) -> None:
    name = random.choice(sorted(tree))
    data = tree[name]
    tree[name] = data[: random.randrange(len(data) + 1)] if random.random() < 0.7 else data + random.randbytes(40)
    _seal(tree, name)


def splice(tree: Tree, random: Random) -> None:
    """Put a piece of one file into another."""
    source, name = tree[random.choice(sorted(tree))], random.choice(sorted(tree))
    start, place = random.randrange(len(source) + 1), random.randrange(len(tree[name]) + 1)
    piece = source[start : start + random.randrange(1, 64)]
    tree[name] = tree[name][:place] + piece + tree[name][place + random.choice((0, len(piece))) :]
    _seal(tree, name)


def lie_in_length(tree: Tree, random: Random) -> None:
    name = _pick(tree, random, ".safetensors")
    length = random.choice((0, 1, 2**20, 2**22, 2**32, 2**63, 2**64 - 1, max(0, len(tree[name]) - 8)))
    tree[name] = length.to_bytes(8, "little") + tree[name][8:]
    _seal(tree, name)


def change_header(tree: Tree, random: Random) -> None:
    """Change a value of a shard's header, whatever follows."""
    name = _pick(tree, random, ".safetensors")
    split = _split(tree[name])
    if split is not None:
        header, data = split
        _change(header, random)
        _join(tree, name, header, data)


def change_tensor(tree: Tree, random: Random) -> None:
    """Change a tensor's name, dtype, shape or values, drop or add one: the file stays a safetensors file."""
    name = _pick(tree, random, ".safetensors")
    split = _split(tree[name])
    if split is None:
        return
    header, data = split
    try:
        tensors = {
            key: [one["dtype"], list(one["shape"]), data[slice(*one["data_offsets"])]]
            for key, one in header.items()
            if key != "__metadata__"
        }
        key = random.choice(sorted(tensors))
        _TENSOR[random.randrange(len(_TENSOR))](tensors, key, random)
        start, described, pieces = 0, {}, []
        for key, (code, shape, piece) in tensors.items():
            size = math.prod(shape) * WIDTHS.get(code, 1)
            if size > LARGEST:
                return  # a mutation before said so: what has so many values is not written here
            pieces.append((piece * (size // max(1, len(piece)) + 1))[:size] if len(piece) != size else piece)
            described[key] = {"dtype": code, "shape": shape, "data_offsets": [start, start + size]}
            start += size
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return
    _join(tree, name, described, b"".join(pieces))


def _value(tensors: dict[str, Any], key: str, random: Random) -> None:
    code, _, piece = tensors[key]
    width, data = WIDTHS.get(code, 1), bytearray(piece)
    place = random.randrange(len(data) // width) * width if data else 0
    if code in ("F64", "F32", "F16") and random.random() < 0.7 and data:
        pattern = {"F64": "<d", "F32": "<f", "F16": "<e"}[code]
        (old,) = struct.unpack_from(pattern, data, place)
        new = random.choice((*SPECIAL, old * (1 + 2.0 ** -random.randrange(1, 55)), -old, old + 1e-3, old * 2))
        struct.pack_into(pattern, data, place, new)
    elif data:
        data[place : place + width] = random.randbytes(width)
    tensors[key][2] = bytes(data)


def _dtype(tensors: dict[str, Any], key: str, random: Random) -> None:
    tensors[key][0] = random.choice(sorted((*CODES, "I32", "U8", "BOOL")))


def _shape(tensors: dict[str, Any], key: str, random: Random) -> None:
    shape = tensors[key][1]
    choice = random.randrange(5)
    if choice == 0:
        shape.clear()
    elif choice == 1:
        shape.insert(random.randrange(len(shape) + 1), random.choice((0, 1, 1, 2)))
    elif choice == 2 and shape:
        shape.pop(random.randrange(len(shape)))
    elif choice == 3:
        shape[:] = shape[::-1]
    elif shape:
        shape[random.randrange(len(shape))] = random.choice((0, 1, 2, 5, 100))


def _rename(tensors: dict[str, Any], key: str, random: Random) -> None:
    parts = key.split("/")
    parts[random.randrange(len(parts))] = random.choice(
        ("0", "1", "3", "params", "steps", "slots", "loss", "rows", "x", "..")
    )
    tensors["/".join(parts)] = tensors.pop(key)


def _drop(tensors: dict[str, Any], key: str, random: Random) -> None:
    del tensors[key]


def _copy(tensors: dict[str, Any], key: str, random: Random) -> None:
    name = random.choice(("params/new", "slots/m/new", "metrics/new", f"steps/{random.randrange(5)}/new", f"{key}/new"))
    tensors[name] = list(tensors[key])


def _exchange(tensors: dict[str, Any], key: str, random: Random) -> None:
    other = random.choice(sorted(tensors))
    tensors[key], tensors[other] = tensors[other], tensors[key]


_TENSOR = (*[_value] * 8, _dtype, _shape, _shape, _rename, _drop, _copy, _exchange)


def change_manifest(tree: Tree, random: Random) -> None:
    """Change a value that the manifest, or another JSON of the folder, says."""
    name = _pick(tree, random, ".json")
    try:
        meta = json.loads(tree[name])
    except (ValueError, RecursionError):
        return
    _change(meta, random)
    tree[name] = json.dumps(meta).encode()


def say_more(tree: Tree, random: Random) -> None:
    """Give the manifest a known key with a value that it does not expect."""
    name = _pick(tree, random, MANIFEST)
    try:
        meta = json.loads(tree[name])
        key = random.choice(KEYS)
        if key == "hyper_parameters":
            value = random.choice(({"optimizer": random.choice(OPTIMIZERS)}, *VALUES))
        elif key in ("settings", "versions", "platform", "timings"):
            value = {random.choice(TEXTS): random.choice(VALUES)}
        else:
            value = random.choice(VALUES)
        meta[key] = value
        tree[name] = json.dumps(meta).encode()
    except (KeyError, TypeError, ValueError, RecursionError):
        pass


def shuffle_shards(tree: Tree, random: Random) -> None:
    """Let the manifest name its shards in another order, twice, or not all."""
    name = _pick(tree, random, MANIFEST)
    try:
        meta = json.loads(tree[name])
        shards = meta["shards"]
        random.choice((random.shuffle, lambda all: all.pop(), lambda all: all.append(all[0]), lambda all: all.clear()))(
            shards
        )
        tree[name] = json.dumps(meta).encode()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        pass


def write_json_anew(tree: Tree, random: Random) -> None:
    """Text that is no JSON, or very deep, or has a key twice."""
    name = _pick(tree, random, ".json")
    data = tree[name]
    place = random.randrange(len(data) + 1)
    tree[name] = random.choice(
        (
            b"[" * 3000 + b"]" * 3000,
            data.replace(b":", b': {"a": ' * 20, 1),
            data[:place] + bytes([random.randrange(256)]) + data[place + 1 :],
            data.replace(b"{", b'{"dtype": "float64", ', 1),
            b"\xef\xbb\xbf" + data,
            data.decode(errors="replace").encode("utf-16"),
            data.replace(b"1", b"1e999", 1),
            b"",
        )
    )


def lose_a_file(tree: Tree, random: Random) -> None:
    if len(tree) > 1:
        del tree[random.choice(sorted(tree))]


def write_noise(tree: Tree, random: Random) -> None:
    """Replace a file, or one beside it that may be looked for."""
    name = random.choice((*sorted(tree), "explanation.json", "checkpoint.safetensors"))
    tree[name] = random.randbytes(random.choice((0, 1, 8, 100, 5000)))


def _change(content: Any, random: Random) -> None:
    """Change one value somewhere in plain data: another, none, or a new one beside it."""
    places = []
    left = [content]
    while left:
        one = left.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        places += [(one, key) for key, _ in inner]
        left += [value for _, value in inner]
    if not places:
        return
    where, key = random.choice(places)
    if random.random() < 0.15:
        del where[key]
    elif isinstance(where, dict) and random.random() < 0.15:
        where[random.choice((*KEYS, *TEXTS))] = where.pop(key)
    elif isinstance(where[key], int) and random.random() < 0.5:
        where[key] += random.choice((1, -1, 8, -8, 2**63))
    else:
        where[key] = random.choice(VALUES)


def _split(data: bytes) -> tuple[Any, bytes] | None:
    """A shard's header and the bytes after it; None where it has none."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    return (header, data[8 + length :]) if isinstance(header, dict) else None


def _join(tree: Tree, name: str, header: Any, data: bytes) -> None:
    text = json.dumps(header).encode()
    tree[name] = len(text).to_bytes(8, "little") + text + data
    _seal(tree, name)


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, flip_bits, flip_bits),
    *[change_tensor] * 8,
    *(change_header, change_header, lie_in_length),
    *(change_manifest, change_manifest, say_more, say_more, shuffle_shards, write_json_anew),
    *(cut_or_grow, splice, lose_a_file, write_noise),
)
