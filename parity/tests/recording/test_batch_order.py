"""The hash of the batch order."""

import hashlib

import numpy as np

from parity.recording.format import batch_order_hash
from parity.spec import FullBatch, Shuffled


def test_the_batch_order_hash_sees_rows_order_and_cuts():
    schedules = [
        (Shuffled(4, 0), 10, 3),
        (Shuffled(4, 1), 10, 3),
        (Shuffled(5, 0), 10, 3),
        (Shuffled(4, 0, keep_last=False), 10, 3),
        (Shuffled(4, 0, reseed=True), 10, 3),
        (Shuffled(4, 0), 11, 3),
        (Shuffled(4, 0), 10, 4),
        (FullBatch(), 10, 3),
        (FullBatch(), 10, 4),
    ]
    hashes = [batch_order_hash(*arguments) for arguments in schedules]
    assert len(set(hashes)) == len(hashes)
    assert hashes == [batch_order_hash(*arguments) for arguments in schedules]


def test_the_batch_order_hash_is_what_its_description_says():
    digest = hashlib.sha256((3).to_bytes(8, "little") + np.arange(3, dtype="<i8").tobytes()).digest()
    assert batch_order_hash(FullBatch(), 3, 2) == hashlib.sha256(digest + digest).hexdigest()
