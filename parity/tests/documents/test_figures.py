"""The figures that were printed of each case, typed once more: by whom, how many, and how each is held."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from parity.dtypes import DTYPES
from parity.spec import Case
from parity.suite import load_suite

SUITE = load_suite("impls")


def case_of(name: str) -> Case:
    return SUITE.entry(name).case


def test_what_one_draw_of_many_printed() -> None:
    """Average losses of the tutorial's perceptron, and losses of the character model's public run."""
    averages = (
        "2.3054928541183473 2.3014203310012817 2.2982772827148437 2.2965104579925537 2.2955925703048705 "
        "2.2952797651290893 2.2953588247299193 2.2957545042037966 2.29633150100708 2.296979832649231"
    )
    published = case_of("mnist-mlp").publication.figures
    found = [value for figure in published for value in figure.values.values()]
    assert found == averages.split()
    assert [epoch for figure in published for epoch in figure.values] == list(range(1, 11))
    characters = "4.58 1.81 1.72 1.73 1.77 1.46 1.64 1.64 1.66 1.53 1.30 1.73 1.68 1.42 1.78 1.54 1.52 1.58 1.49 1.78"
    novel = SUITE.entry("char-gru", "full").case.publication.figures
    values = {epoch: value for figure in novel for epoch, value in figure.values.items()}
    assert values == {1 + 1000 * mark: value for mark, value in enumerate(characters.split())}
    # Rounding makes each run another draw but its first loss: two of torch's stayed within .16.
    assert [(figure.rule, figure.margin) for figure in novel] == [("printed", 0.0), ("envelope", 0.16)]


PRINTED_BY = {
    "iris-logistic": {"document"},
    "iris-logistic-minibatch": {"document", "own run"},
    "mnist-mlp": {"document"},
    "sine-legendre": {"public run"},
}


def test_figures_are_said_to_be_of_those_who_printed_them() -> None:
    found = {name: {figure.by for figure in entry.case.publication.figures} for name, entry in SUITE.entries.items()}
    assert {name: by for name, by in found.items() if by} == PRINTED_BY
    for name in ("mnist-softmax", "char-gru"):
        figures = SUITE.entry(name, "full").case.publication.figures
        assert {figure.by for figure in figures} == {"public run"}
    own = [figure for figure in case_of("iris-logistic-minibatch").publication.figures if figure.by == "own run"]
    assert [(figure.quantity, figure.dtypes) for figure in own] == [
        (name, ("float64",)) for name in ("weights[0]", "weights[1]", "bias")
    ]


def test_the_figures_are_as_many_of_each_as_the_readme_and_the_proof_say() -> None:
    count: Counter[str] = Counter()
    for entry in SUITE.entries.values():
        for label in entry.implementations:
            for dtype in DTYPES if label not in entry.case.absent else ():
                for figure in entry.case.publication.figures:
                    count[figure.by] += len(figure.values) if dtype in figure.dtypes else 0
    root = Path(__file__).parents[3]
    for page in ("README.md", "docs/explanation/proof.md"):
        said = " ".join((root / page).read_text().split())
        for kind in ("document", "public run"):
            assert f"{count[kind]:,} of {count[kind]:,} " in said, (page, kind)
    assert f"{count['own run']} of {count['own run']} of a run of our own" in said


def test_what_a_public_run_of_the_softmax_script_printed() -> None:
    costs = """
        2.3026 .7941 .5651 .4603 .4822 | .4105 .4415 .4367 .4289 .3926 | .4112 .3579 .3013 .3258 .4254
        .3988 .3690 .3459 .4030 .3240 | .3265 .3673 .3085 .3183 .3316 | .4518 .3863 .3620 .3733 .3289
        .3450 .2289 .3073 .2750 .3456 | .4900 .3479 .2343 .3059 .3684 | .3762 .2976 .2690 .2610 .3140
        .2790 .3070 .3300 .2520 .3301"""
    printed = np.array(costs.replace("|", " ").split(), float).reshape(10, 5)
    published = {figure.quantity: figure for figure in SUITE.entry("mnist-softmax", "full").case.publication.figures}
    for place, batch in enumerate((0, 50, 100, 150, 200)):
        figure = published[f"cost of batch {batch}"]
        assert {epoch: float(value) for epoch, value in figure.values.items()} == dict(enumerate(printed[:, place], 1))
        assert figure.index == (batch,)
    accuracies = ["88.04", "89.37", "89.98", "90.35", "90.64", "90.86", "91.00", "91.22", "91.34", "91.40"]
    assert list(published["training accuracy"].values.values()) == accuracies
    assert published["test accuracy"].values == {10: "91.77"}
