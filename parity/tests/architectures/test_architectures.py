"""Each architecture's right ports agree, tensor by tensor, and each mistake is found in its layer on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.explaining.layers.find import find_layers
from parity.judging.diff import compare
from parity.judging.tensors.matching import match
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.tests.architectures.runs import PORTS, Folder, layers_of_mistake, made, names_of
from parity.tests.warm import Warm

slow = pytest.mark.slow
QUICK = ("translator", "torch", "keras")
PAIRS = [(model, "torch", other) for model, ports in PORTS.items() for other in ports[1:]]
SURE = {
    "translator": ("mask", "padding-mask", "scale", "residual"),
    "mobile": ("norm-epsilon",),
    "stacked": ("norm-epsilon",),
}
"""The mistakes that torch's port can make whose layer has a name of its own in every framework."""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return lambda: tmp_path_factory.mktemp("port")


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=() if pair == QUICK else slow, id="-".join(pair)) for pair in PAIRS]
)
def test_every_tensor_is_matched_with_its_own(pair: tuple[str, str, str], warm: Warm, folder: Folder) -> None:
    model, one, other = pair
    runs = [Path(made(warm, folder, model, framework).result()) for framework in (one, other)]
    found = match(*map(read, runs))
    assert not found.missed
    names = [names_of(warm, folder, model, framework) for framework in (one, other)]
    for pairing in found.pairings:
        ours, theirs = (
            set().union(*(of[name] for name in side)) for of, side in zip(names, pairing.names, strict=True)
        )
        assert ours == theirs, pairing.names
    if model != "mobile":  # its running variances are the unbiased ones in torch alone
        assert compare(*runs).judgement.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("pair", "mistake"),
    [
        pytest.param(
            pair, mistake, marks=() if (pair, mistake) == (QUICK, "mask") else slow, id="-".join((*pair, mistake))
        )
        for pair in PAIRS
        for mistake in SURE[pair[0]]
    ],
)
def test_a_mistake_is_found_in_its_layer_on_both_sides(
    pair: tuple[str, str, str], mistake: str, warm: Warm, folder: Folder
) -> None:
    model, one, other = pair
    wrong = read(Path(made(warm, folder, model, one, mistake=mistake).result()))
    right = read(Path(made(warm, folder, model, other).result()))
    for runs in ((wrong, right), (right, wrong)):
        found = find_layers(*runs)
        assert found is not None
        assert found.partings
        for framework in (one, other):
            assert layers_of_mistake(model, framework)[mistake] in found.sentence
