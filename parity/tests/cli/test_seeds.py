"""``parity diff --seeds … --against …``: many runs with other seeds, and what they say together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from parity.recording.reader import read
from parity.recording.writer import write
from parity.tests.command import Parity, complaint
from parity.tests.report.test_page import Parsed
from parity.tests.suites import strict_json

UPDATES = 30


def side(folder: Path, count: int, seed: int, rate: float = 0.1) -> list[Path]:
    """Runs of one implementation: a loss that falls, and a kernel that moves."""
    found = []
    for k in range(count):
        draw = np.random.default_rng((seed, k))
        way = np.exp(-rate * np.arange(UPDATES + 1))
        loss = way[:-1] * draw.normal(1, 0.05) + draw.normal(0, 0.01, UPDATES)
        kernel = draw.normal(size=(1, 6)) + (1 - way[:, None]) * (1 + draw.normal(0, 0.05, (1, 6)))
        found.append(folder / f"{k}")
        write(found[-1], np.arange(UPDATES + 1), loss[:, None], {"dense/kernel": kernel}, meta={"unit": "update"})
    return found


def test_two_implementations_that_are_the_same_pass(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = side(tmp_path / "a", 14, 1), side(tmp_path / "b", 14, 2)
    result = parity("diff", "--seeds", *ours, "--against", *theirs, "--json", "seeds.json")
    assert result.status == 0, result.out + result.err
    assert result.out.startswith("PASS\nno difference was found (p = ")
    assert "14 and 14 runs would have shown a learning rate that is" in result.out
    found = strict_json(Path("seeds.json").read_text(), "diff")
    assert found["pairs"] == []
    assert found["seeds"]["runs"] == [14, 14]
    assert set(found["seeds"]["quantities"]) == {"loss", "size of dense/kernel", "movement of dense/kernel"}


def test_another_learning_rate_fails(parity: Parity, tmp_path: Path) -> None:
    ours = side(tmp_path / "a", 8, 1, rate=0.12)
    side(tmp_path / "b", 8, 2)
    result = parity("diff", "--against", tmp_path / "b" / "*", "--seeds", *ours)
    assert result.status == 1
    assert "loss differs in distribution (p = " in result.out
    assert "between seeds" in result.out


def test_too_few_runs_are_inconclusive_and_say_how_many_it_takes(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = side(tmp_path / "a", 2, 1), side(tmp_path / "b", 2, 2)
    result = parity("diff", "--seeds", *ours, "--against", *theirs, "--json", "-")
    assert result.status == 3
    found = strict_json(result.out, "diff")["seeds"]
    assert f"about {found['needed']} runs a side would say" in found["reason"]


def numbers(points: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split(",")] for point in points.split()])


@pytest.mark.parametrize(("count", "reach"), [(4, "all of its runs"), (12, "10 to 90 % of its runs")])
def test_the_page_draws_both_sides_as_bands(parity: Parity, tmp_path: Path, count: int, reach: str) -> None:
    ours, theirs = side(tmp_path / "a", count, 1, rate=0.2), side(tmp_path / "b", count, 2)
    result = parity("diff", "--seeds", *ours, "--against", *theirs, "--page", "seeds.html")
    assert result.status == (1 if count > 4 else result.status)
    text = Path("seeds.html").read_text(encoding="utf-8")
    words = "".join(Parsed(text).words)
    assert result.out.splitlines()[1] in words, "the verdict in words"
    figures = re.findall(r"<figure>(.*?)</figure>", text)
    assert len(figures) == 3, "the losses, and a tensor's size and movement"
    for drawn, caption in zip(figures, ("Loss", "", ""), strict=True):
        assert caption in drawn
        bands = {
            kind: numbers(points) for points, kind in re.findall(r'<polygon points="([^"]+)" class="band (.)"', drawn)
        }
        medians = {
            kind: numbers(points) for points, kind in re.findall(r'<polyline points="([^"]+)" class="line (.)"', drawn)
        }
        assert set(bands) == set(medians) == {"a", "b"}
        assert drawn.count('class="line a thin"') == drawn.count('class="line b thin"') == count
        assert drawn.count(reach) == 2
        for kind, band in bands.items():
            low, high = np.split(band, 2)
            assert np.all(high[::-1, 1] <= low[:, 1] + 0.11), "an edge above, on a picture that counts downwards"
            middle = np.interp(medians[kind][:, 0], low[:, 0], low[:, 1])
            assert np.all(medians[kind][:, 1] <= middle + 0.11), "the median within"


def test_the_page_is_left_out_where_nothing_can_be_drawn_of_what_is_not_finite(parity: Parity, tmp_path: Path) -> None:
    folders = [*side(tmp_path / "a", 4, 1), *side(tmp_path / "b", 4, 2)]
    for place, folder in enumerate(folders):
        loss = np.full((UPDATES, 1), np.nan) if place < 4 else np.ones((UPDATES, 1))
        write(
            folder, np.arange(UPDATES + 1), loss, {"dense/kernel": np.ones((UPDATES + 1, 2))}, meta={"unit": "update"}
        )
    result = parity("diff", "--seeds", *folders[:4], "--against", *folders[4:], "--page", "seeds.html")
    assert result.status == 3
    assert "loss is not finite in some run" in Path("seeds.html").read_text(encoding="utf-8")


def test_a_map_brings_tensors_of_other_names_together(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = side(tmp_path / "a", 6, 1), side(tmp_path / "b", 6, 2)
    for folder in theirs:
        run = read(folder)
        params = {"fc.weight": np.asarray(run.params["dense/kernel"])}
        write(folder, run.epochs, run.loss, params, meta={"unit": "update"})
    apart = parity("diff", "--seeds", *ours, "--against", *theirs)
    assert "no --map says which are the same" in apart.out
    parity("match", ours[0], theirs[0], "--json", "map.json")
    words = ("--seeds", *ours, "--against", *theirs, "--map", "map.json", "--json", "-")
    found = strict_json(parity("diff", *words).out, "diff")["seeds"]
    assert found["notes"] == []
    assert set(found["quantities"]) == {"loss", "size of fc.weight", "movement of fc.weight"}
    turned = parity("diff", "--seeds", *theirs, "--against", *ours, "--map", "map.json")
    assert turned.status == 2
    assert "the other way round" in complaint(turned)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "a"), "--seeds and --against belong together"),
        (("--seeds", "a", "--against"), "--against"),
        (("--seeds", "a", "--against", "b"), "a/trajectory.json: is missing"),
        (("--seeds", "a", "--against", "b", "--noise", "c"), "--noise belongs to two recordings"),
        (("--seeds", "a-*", "--against", "b"), "no run is called a-*"),
        (("a", "b", "--page", "p.html"), "--page belongs to --seeds"),
        (("--seeds", "a", "--against", "b", "--page", "no/p.html"), "no such folder"),
        (("--seeds", "a", "--against", "b", "--map", "no.json"), "no.json: cannot be read"),
        ((), "name two recordings, A and B, or several with --seeds and --against"),
        (("a",), "name two recordings, A and B"),
    ],
)
def test_wrong_use_is_said(parity: Parity, words: tuple[str, ...], said: str) -> None:
    result = parity("diff", *words)
    assert result.status == 2
    assert said in (complaint(result) if said != "--against" else result.err)
