"""``parity semantics``: where frameworks differ, as a table and as JSON."""

from __future__ import annotations

from parity.nn.table import read
from parity.tests.command import Parity
from parity.tests.suites import strict_json


def test_all_functions_are_listed_by_family(parity: Parity) -> None:
    said = parity("semantics")
    assert said.status == 0
    assert all(f" {name} " in said.out for name in read())


def test_a_function_is_shown_with_defaults_and_departures_of_each_framework(parity: Parity) -> None:
    lines = parity("semantics", "batch_norm").out.splitlines()
    (torch,) = [line for line in lines if line.startswith("torch.nn.BatchNorm1d, 2d, 3d")]
    assert "epsilon 1e-05, momentum 0.9" in torch
    assert "unbiased running variance: The running variance takes up" in torch


def test_what_is_written_as_json_is_what_was_asked_for(parity: Parity) -> None:
    everything = strict_json(parity("semantics", "--json", "-").out, "semantics")
    one = strict_json(parity("semantics", "layer_norm", "--json", "-").out, "semantics")
    assert [function["name"] for function in everything["functions"]] == list(read())
    assert one["functions"] == [function for function in everything["functions"] if function["name"] == "layer_norm"]
