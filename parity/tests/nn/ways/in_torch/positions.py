"""Rotary positions by torch's complex numbers, as in Meta's LLaMA: a pair is two neighbours."""

from __future__ import annotations

from typing import Any

import torch

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.positions import angles


def rotary(x: Any, positions: Any, *, base: float, interleaved: bool) -> dict[str, Any]:
    turn = angles(positions, base)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return {"output": torch.view_as_real(pairs * torch.polar(torch.ones_like(turn), turn)).flatten(-2)}


HALVES = {"pairs from both halves": lambda asked: not asked.configuration["interleaved"]}
WAYS = (Way("rotary", ("torch.view_as_complex",), rotary, HALVES),)
