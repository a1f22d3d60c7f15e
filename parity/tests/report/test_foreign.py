"""Names, settings and errors may come from anyone: they are shown letter by letter wherever they are shown."""

from __future__ import annotations

import io
import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from parity.recording.places import keep_failure
from parity.report.foreign import foreign, foreign_in
from parity.report.terminal import make_console, plain_table
from parity.tests.command import Parity, make_run
from parity.tests.recording.runs import exhaustive

CLEAR = "\x1b[2J\x1b]0;owned\x1b\\"
NAMES = {
    "an escape": CLEAR,
    "markup": "a[bold]b[",
    "an emoji's name": ":x:",
    "bytes that are no text": os.fsdecode(b"\xff\xfe"),
    "a line break": "a\nPASS b",
    "a turned text": "\u202egnp",
    "a C1 control": "\x9b2J",
}


@exhaustive
@given(st.text())
def test_what_is_written_can_be_printed_and_encoded(text: str) -> None:
    for lines in (False, True):
        found = foreign(text, lines)
        assert all(letter.isprintable() or (lines and letter in "\n\t") for letter in found)
        found.encode()
        assert foreign(found, lines) == found
    if text.isprintable():
        assert foreign(text) == text


def test_texts_in_plain_data_are_written_so_too() -> None:
    assert foreign_in({"a\x1b": ["\udcff", 1, None, ("b",)]}) == {"a\\x1b": ["\\udcff", 1, None, ["b"]]}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_console_shows_letters_and_nothing_else(name: str) -> None:
    console = make_console()
    console.file = io.StringIO()
    table = plain_table(name)
    table.add_row(name)
    for shown in (name, Text(name), table):
        console.print(shown)
    said = console.file.getvalue()
    assert "\x1b" not in said
    assert "\x9b" not in said
    assert said.count(foreign(name, lines=True)) >= 2
    said.encode()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_command_on_recordings_shows_such_names(parity: Parity, tmp_path: Path, name: str) -> None:
    runs = tmp_path / "runs" / f"case{name}"
    # A recording holds no text that cannot be encoded; the name of a folder may.
    said = name.encode(errors="replace").decode()
    about = {"case": f"case{said}", "device": said, "implementation": said, "settings": {said: said}}

    def other(run: dict) -> None:
        run["loss"] = run["loss"] + 1

    a = make_run(runs / f"numpy{name}", **about)
    b = make_run(runs / f"torch{name}", other, **about)
    keep_failure(runs / f"jax{name}", f"died of {name}")
    found = {
        "diff": parity("diff", a, b, "--json", "diff.json"),
        "explain": parity("explain", a, b, "--json", "explain.json", "--page", "explain.html"),
        "folders": parity("diff", tmp_path / "runs", tmp_path / "runs"),
        "nowhere": parity("diff", a, tmp_path / name),
        **{form: parity("report", tmp_path / "runs", "--format", form) for form in ("html", "md", "junit", "json")},
    }
    for command, result in found.items():
        assert result.status in (1, 2, 3), (command, result)
        said = result.out + result.err
        assert all(letter.isprintable() or letter in "\n\t" for letter in said), (command, said)
    assert found["diff"].status == found["explain"].status == 1
    assert found["nowhere"].status == 2
    ET.fromstring(found["junit"].out.encode())
    for text in (found["json"].out, Path("diff.json").read_text(), Path("explain.json").read_text()):
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    for page in (tmp_path / "runs" / "report.html", Path("explain.html")):
        text = page.read_text()
        assert "ud800" not in text
        assert foreign(f"case{name}").replace("<", "&lt;") in text
