"""Losses are found in the logs of any program, and never guessed where two columns could be it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.recording.artefacts import read_artefact
from parity.recording.artefacts.tensorboard import masked_crc
from parity.trajectory import TrajectoryError


def losses(path: Path, text: str) -> dict[str, list[tuple[int, float]]]:
    path.write_text(text)
    return {
        name: list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
        for name, series in read_artefact(path).losses.items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step,loss\n1,0.5\n2,0.25\n", {"loss": [(1, 0.5), (2, 0.25)]}),
        ("0.5\n0.25\n", {"loss": [(0, 0.5), (1, 0.25)]}),
        ("10;0.5\n20;0.25\n", {"loss": [(10, 0.5), (20, 0.25)]}),
        # Lightning: each row has some of the columns, and the epoch is no step.
        (
            "epoch,step,train_loss,val_loss\n0,1,0.5,\n0,2,0.25,\n0,2,,0.75\n",
            {"train_loss": [(1, 0.5), (2, 0.25)], "val_loss": [(2, 0.75)]},
        ),
        # Keras's CSVLogger.
        ("epoch,accuracy,loss\n0,0.1,0.5\n1,0.2,nan\n", {"loss": [(0, 0.5), (1, np.nan)]}),
        ("\ufeffIteration\tnll\n3\t0.5\n", {"nll": [(3, 0.5)]}),
        # A run that was resumed at step 1 logs it again.
        ("step,loss\n0,1\n1,2\n1,3\n2,4\n", {"loss": [(0, 1), (1, 3), (2, 4)]}),
        # Epochs with fractions are no steps: the rows are counted.
        ("epoch,loss\n0.5,1\n1.0,2\n", {"loss": [(0, 1), (1, 2)]}),
    ],
)
def test_columns_are_told_apart(tmp_path: Path, text: str, expected: dict) -> None:
    np.testing.assert_equal(losses(tmp_path / "log.csv", text), expected)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("log.csv", "step,accuracy,lr\n1,2,3\n", "no column is a loss for certain"),
        ("log.csv", "1,2,3\n", "has no names of its columns"),
        ("log.csv", "", "no number at all"),
        ("log.csv", "a,b\n1\n", "line 2 has 1 columns, not 2"),
        ("log.csv", "step,lo\x1b[2Jss\n1,2\n", "is no name for"),
        ("log.jsonl", "[1]\n", "line 1 holds no JSON object"),
        ("log.jsonl", "{", "no valid JSON"),
        ("log.jsonl", '{"a":' + "[" * 100_000, "no valid JSON"),
        ("trainer_state.json", "{}", "has no log_history"),
        ("trainer_state.json", '{"log_history": [1]}', "has no log_history"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, name: str, text: str, match: str) -> None:
    with pytest.raises(TrajectoryError, match=match) as caught:
        losses(tmp_path / name, text)
    assert str(caught.value).isprintable()


def test_the_state_of_a_trainer_gives_each_loss(tmp_path: Path) -> None:
    history = [
        {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 5e-5, "loss": 2.5, "step": 10},
        {"epoch": 1.0, "eval_loss": 2.25, "eval_runtime": 3.0, "step": 20},
        {"epoch": 1.0, "loss": float("nan"), "step": 20},
        {"epoch": 1.0, "step": 20, "total_flos": 1e12, "train_loss": 2.4, "train_runtime": 9.0},
    ]
    found = losses(tmp_path / "trainer_state.json", json.dumps({"best_metric": None, "log_history": history}))
    expected = {"loss": [(10, 2.5), (20, np.nan)], "eval_loss": [(20, 2.25)], "train_loss": [(20, 2.4)]}
    np.testing.assert_equal(found, expected)
    # It lies beside the weights.
    np.savez(tmp_path / "model.npz", a=np.zeros(1))
    assert set(read_artefact(tmp_path).losses) == set(expected)


def test_lines_of_json_are_read(tmp_path: Path) -> None:
    text = '{"step": 0, "loss": 1.5, "text": "x"}\n\n{"step": 1, "loss": NaN, "lr": 0.1}\n'
    np.testing.assert_equal(losses(tmp_path / "log.jsonl", text), {"loss": [(0, 1.5), (1, np.nan)]})


def record(data: bytes) -> bytes:
    head = len(data).to_bytes(8, "little")
    return head + masked_crc(head).to_bytes(4, "little") + data + masked_crc(data).to_bytes(4, "little")


def scalar(step: int, value: float) -> bytes:
    inner = b"\x0a\x04loss" + b"\x15" + np.float32(value).tobytes()
    summary = b"\x0a" + bytes([len(inner)]) + inner
    return record(b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary)


def test_an_event_file_may_end_in_the_middle_and_a_damaged_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(record(b"\x1a\x0dbrain.Event:2") + scalar(1, 0.5) + scalar(2, 0.25) + scalar(3, 1)[:-6])
    found = read_artefact(path)
    assert found.losses["loss"].values.tolist() == [0.5, 0.25]
    assert "ends in the middle of a record" in found.notes[0]
    # A run that was resumed: a later file's value counts.
    (tmp_path / "events.out.tfevents.2").write_bytes(scalar(2, 8))
    assert read_artefact(tmp_path).losses["loss"].values.tolist() == [0.5, 8]
    for place in (3, 15):
        data = bytearray(scalar(1, 0.5))
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(TrajectoryError, match="a record is damaged: copy the file anew"):
            read_artefact(path)


@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_records(data: bytes) -> None:
    """Bit by bit, as CRC-32C is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            crc = crc >> 1 ^ (0x82F63B78 * ((crc ^ byte >> bit) & 1))
    crc ^= 0xFFFFFFFF
    assert masked_crc(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
