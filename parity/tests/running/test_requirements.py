"""Packages of a framework's own: what a file says of them; on a cluster, two versions that one process cannot have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parity.running.on import OnError, executor, installed_on
from parity.running.ray.requirements import lines_of
from parity.running.versions import Versions
from parity.tests import suites
from parity.tests.command import Parity, complaint
from parity.tests.running.nodes import Nodes

OTHERS = ("0.2.5", "0.2.6")
"""Versions of optax that are not the one installed."""


def test_the_lines_of_a_file_name_other_files_by_their_whole_paths(tmp_path: Path) -> None:
    file = tmp_path / "jax.txt"
    file.write_text(
        "# JAX\n-c ../constraints.txt\n--requirement=/other.txt\n\njax[x]>=0.6  # the newest\na @ file:///a#b\n"
    )
    assert lines_of(str(file)) == (
        f"-c {tmp_path}/../constraints.txt",
        "--requirement /other.txt",
        "jax[x]>=0.6",
        "a @ file:///a#b",
    )


def test_on_this_machine_such_a_file_is_refused(parity: Parity, tmp_path: Path) -> None:
    pythons = {"jax": str(tmp_path / "jax.txt")}
    with pytest.raises(OnError, match=r"jax\.txt are installed on a Ray cluster alone: add --on ray"):
        executor(pythons=pythons)
    availability = Versions(pythons, installed_on("local")).availability("flax")
    assert not availability.available
    assert "on a Ray cluster alone" in availability.reason
    assert Versions(pythons).availability("numpy").available
    result = parity("run", "iris-logistic", "--python", "jax=jax.txt")
    assert complaint(result) == "parity: --python jax: there is no file jax.txt of packages"


@pytest.fixture(scope="module")
def cluster() -> Nodes:
    pytest.importorskip("ray", reason="what the extra ray brings")
    pytest.importorskip("virtualenv", reason="what the extra ray brings")
    nodes = Nodes()
    try:
        for _ in range(2):
            nodes.add(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
        yield nodes
    finally:
        nodes.shutdown()


IMPORTS = """
from importlib.metadata import version
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    import optax
    Path(__file__).with_suffix(".said").write_text(f"{version('optax')} {optax.__version__}")
    return toy.build(case, dtype, device)
"""


@pytest.mark.slow
def test_frameworks_that_cannot_be_installed_together_run_side_by_side(
    parity: Parity, tmp_path: Path, cluster: Nodes
) -> None:
    """Two frameworks whose workers have two versions of one package, neither of which the nodes have."""
    import optax

    assert optax.__version__ not in OTHERS
    package = suites.write_suite(tmp_path, jax=IMPORTS, torch=IMPORTS)
    words = []
    for framework, version in zip(("jax", "torch"), OTHERS, strict=True):
        (tmp_path / f"{framework}.txt").write_text(f"# what it needs of its own\noptax=={version}\n")
        words += ["--python", f"{framework}={framework}.txt"]
    asked = ("run", "--suite", package, "--dtype", "float64", "--on", f"ray://{cluster.address}", "--no-report", *words)
    result = parity(*asked)
    assert result.status == 0, result.out + result.err
    for framework, version in zip(("jax", "torch"), OTHERS, strict=True):
        assert (tmp_path / package / "toy" / f"toy_{framework}.said").read_text() == f"{version} {version}"
    manifest = tmp_path / "runs" / suites.CASE / "jax-float64-cpu" / "trajectory.json"
    text = manifest.read_text()
    assert json.loads(text)["versions"]["optax"] == OTHERS[0]
    # The same packages are the same run; others are another.
    assert parity(*asked).status == 0
    assert manifest.read_text() == text
    (tmp_path / "jax.txt").write_text("optax==99.9\n")
    result = parity(*asked)
    assert result.status == 3
    assert f"the packages of {tmp_path}/jax.txt cannot be installed on a node: ERROR: " in result.out
