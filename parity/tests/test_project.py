"""What the project's files say more than once, they must say alike."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from parity.frameworks import FRAMEWORKS
from parity.pytest_plugin import pytest_addoption
from parity.tests.command import make_run

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
REQUIREMENTS = sorted({*PROJECT["dependencies"], *(requirement for extra in EXTRAS.values() for requirement in extra)})


@pytest.mark.parametrize(
    "requirement", [requirement for requirement in REQUIREMENTS if not requirement.startswith(PROJECT["name"])]
)
def test_every_dependency_is_pinned_no_lower_than_it_is_asked_for(requirement):
    name, least = re.sub(r"\[.*\]", "", requirement).split(">=")
    assert [int(part) for part in PINS[name].split(".")] >= [int(part) for part in least.split(".")]


def test_every_framework_has_its_extra_and_all_has_them_all():
    extras = {framework.extra for framework in FRAMEWORKS} - {None}
    assert extras <= set(EXTRAS)
    (everything,) = EXTRAS["all"]
    assert extras <= set(re.search(r"\[(.*)\]", everything)[1].split(","))


def test_every_framework_has_its_environment_in_tox():
    text = (ROOT / "tox.ini").read_text()
    lines = dict(re.findall(r"^    (\w+): (--framework .*)$", text, re.MULTILINE))
    named = [name for line in lines.values() for name in re.findall(r"--framework (\S+)", line)]
    assert sorted(named) == sorted(framework.name for framework in FRAMEWORKS)
    (compared,) = re.findall(r"^depends = (.*)$", text, re.MULTILINE)
    assert {name.split("-")[0] for name in compared.split(", ")} == set(lines)


def test_what_is_passed_to_tox_names_cases_for_the_ladder_and_for_the_recordings():
    text = (ROOT / "tox.ini").read_text()
    (commands,) = re.findall(r"^commands =\n    (pytest .*)\n    (parity run .*)$", text, re.MULTILINE)
    for names, cases in (("", []), ("iris-logistic", ["iris-logistic"]), ("a b", ["a", "b"])):
        climb, run = (shlex.split(command.replace("{posargs}", names)) for command in commands)
        (option,) = [word for word in climb if word.startswith("--parity-case")]
        parser = pytest.Parser(_ispytest=True)
        pytest_addoption(parser)
        assert parser.parse_known_args([option]).parity_case == cases
        assert run[run.index("{[testenv]recordings}") + 1 :] == cases


def test_a_recording_that_is_missing_in_one_environment_is_no_agreement(tmp_path):
    for root in ("torch", "jax"):
        for case in ("one", "two"):
            make_run(tmp_path / root / case / "numpy-float64-cpu")

    def cross():
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = [sys.executable, ROOT / ".ci/cross.py", tmp_path]
        done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    status, said = cross()
    assert (status, said.splitlines()[-1]) == (0, "jax, torch, pair by pair: all agree")
    shutil.rmtree(tmp_path / "jax" / "two")
    status, said = cross()
    assert (status, said.splitlines()[-1]) == (3, "jax, torch, pair by pair: jax and torch do not agree")
    assert "not compared, for want of a counterpart" in said
    shutil.rmtree(tmp_path / "jax")
    assert cross()[0] == 2


def test_a_virtual_environment_of_any_kind_is_ignored(tmp_path):
    """``.venv`` may be a link or a file that names another folder."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in (".venv", ".venv-ci"):
        (tmp_path / name).write_text("elsewhere")
    said = subprocess.run(
        ["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert said == "?? .gitignore\n"


def test_the_other_jax_differs_from_the_pinned_one_in_what_belongs_to_jax_alone():
    other = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / ".ci/constraints-jax-0.9.txt").read_text(), re.MULTILINE))
    assert other["jax"].startswith("0.9.")
    moved = {name for name in set(other) & set(PINS) if other[name] != PINS[name]}
    assert moved <= {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint"}


def test_hooks_run_the_pinned_ruff():
    assert set(re.findall(r"ruff==([\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text())) == {PINS["ruff"]}


def test_continuous_integration_runs_the_test_command_of_the_readme():
    commands = re.findall(r"^python -m pip install .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    script = (ROOT / ".ci/run").read_text()
    parts = re.findall(r"^part (?:install|tests) (.*?)(?: \|\| finish)?$", script, re.MULTILINE)
    assert " && ".join(parts).removesuffix(' "$@"') in commands
    in_tox = re.findall(r"^(?:commands = |    )(pytest .*)$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert len(in_tox) == 3
    assert [command for command in in_tox if " --slow" not in command] == [
        command for command in in_tox if "-m gpu" in command
    ]


def test_every_file_pattern_of_the_package_finds_a_file():
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}: {pattern} matches nothing"


OWN = {"parity", "impls", "fixtures", "benchmarks"}
DISTRIBUTIONS = {"jaxlib": "jax", "orbax": "flax"}
"""The package to the distribution that brings it, where they differ."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("folder", sorted(OWN))
def test_every_package_that_is_imported_is_declared(folder):
    declared = {name for requirement in REQUIREMENTS for name in re.findall(r"^[\w-]+(?=>)", requirement)}
    # What one environment of tox alone installs, for no extra could hold it beside the others.
    for path in (ROOT / ".ci").glob("requirements-*.txt"):
        declared |= {*re.findall(r"^[\w-]+(?===)", path.read_text(), re.MULTILINE)}
    names = {name for path in sorted((ROOT / folder).rglob("*.py")) for name in imported(path)}
    foreign = names - OWN - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in foreign} <= declared
