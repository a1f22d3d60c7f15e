"""The documentation and the README do what they say: every block of code is checked, and every link leads somewhere.

A test's name says how a block is checked. ``run-in-torch`` ran in a process that has imported torch, ``saved`` was
written to the file that it names, ``run`` are commands whose output was compared, with numbers left open, and
``parsed`` are commands that install something, take minutes or need a GPU: their names, options and files must exist.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from parity import pytest_plugin
from parity.cli import app
from parity.frameworks import FRAMEWORKS
from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.nn.table import read
from parity.running.workers.started import worker_environment
from parity.suite import load_suite

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "console")
LANGUAGES = ("python", "diff", "json", "text", *SHELL)
FRAMEWORK = {
    "torch": "torch",
    "jax": "jax",
    "optax": "jax",
    "flax": "jax",
    "keras": "keras",
    "tensorflow": "keras",
}
"""By what a block imports, the framework whose process it runs in; numpy's if it imports none."""
SLOW = (
    (r"\bpip\b|pre-commit", "installs"),
    (r"\b(tox|pytest|mkdocs|ruff|mypy)\b|\.ci/|-m fixtures", "takes minutes, or a tool that is not the tests'"),
    (r"parity (prove|bench|floor|sample|sweep)\b|--data|--lockstep|--deep|--plot|--dtype|--epochs", "takes minutes"),
    (r"parity run(?! iris-logistic| --suite)|runs/iris-logistic", "takes minutes, or reads what does"),
    (r"--device|--python|iter_\d", "needs a GPU or another environment, or what another program has written"),
    (r"\bray (start|stop)\b|--on ray", "needs a cluster"),
    (r"\bparity \w+ .*<|GITHUB_STEP_SUMMARY|s3://", "needs a server"),
)
"""What makes a shell block one that is parsed and not run: a pattern, and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def how(self) -> str:
        """The way in which it is checked."""
        if self.language in SHELL:
            return "parsed" if why_parsed(self.text) or self.page.name == "CONTRIBUTING.md" else "run"
        if self.language == "python":
            return "saved" if self.title else f"run-in-{framework_of(self.text)}"
        return {"diff": "applied", "json": "read"}.get(self.language, "shown")

    @property
    def commands(self) -> list[str]:
        """The shell's commands, one by one."""
        lines = self.text.splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [part.strip() for line in lines for part in line.split(" && ") if part.strip()]


def why_parsed(text: str) -> str:
    return next((why for pattern, why in SLOW if re.search(pattern, text)), "")


def framework_of(code: str) -> str:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    return next((FRAMEWORK[name] for name in FRAMEWORK if name in imported), "numpy")


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[1], match[2] or "", match[3]))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


# No settings of a framework, as a stranger has none; wide enough that no line of a transcript is broken.
ENVIRONMENT = {
    **worker_environment("numpy", [str(ROOT)]),
    "COLUMNS": "200",
    "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
}


class Kitchen:
    """The processes that run the pages' code, one for each framework, each begun when it is first needed."""

    def __init__(self) -> None:
        self._cooks: dict[str, subprocess.Popen[str]] = {}

    def run(self, framework: str, folder: Path, **job: Any) -> dict[str, Any]:
        cook = self._cooks.get(framework) or self._begin(framework)
        assert cook.stdin is not None
        assert cook.stdout is not None
        cook.stdin.write(json.dumps({"folder": str(folder), **job}) + "\n")
        cook.stdin.flush()
        answer = cook.stdout.readline()
        assert answer, f"the process that runs {framework}'s blocks died with status {cook.wait()}"
        found: dict[str, Any] = json.loads(answer)
        return found

    def _begin(self, framework: str) -> subprocess.Popen[str]:
        assert any(known.name == framework for known in FRAMEWORKS)
        command = [sys.executable, "-m", "parity.tests.snippets"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._cooks[framework] = subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes)
        return self._cooks[framework]


@cache
def kitchen() -> Kitchen:
    return Kitchen()


def served(page: str, folder: str) -> list[str]:
    """What is wrong with each block of a page: they are checked in order, in a folder of the page's own."""
    table = Table(kitchen())
    return ["\n".join(table.serve(block, Path(folder))) for block in BLOCKS if block.page == ROOT / page]


@dataclass
class Table:
    """Where the blocks of a page are checked."""

    kitchen: Kitchen

    def serve(self, block: Block, folder: Path) -> Iterator[str]:
        """What is wrong with a block."""
        if block.language not in LANGUAGES:
            yield f"a block is one of {', '.join(LANGUAGES)}, not {block.language!r}"
        elif block.how == "parsed":
            yield from (f"{command}: {wrong}" for command in block.commands for wrong in parsed(command, folder))
        elif block.how == "run":
            yield from self._shell(block, folder)
        elif block.how == "saved":
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            ast.parse(block.text)
        elif block.how == "applied":
            yield from applied(block.text, folder / block.title)
        elif block.how == "read":
            json.loads(block.text)
        elif block.how.startswith("run-in-"):
            framework = block.how.removeprefix("run-in-")
            # The lines count as the page's.
            code = "\n" * block.line + block.text
            answer = self.kitchen.run(framework, folder, code=code, where=block.where.partition(":")[0])
            if answer["status"]:
                yield answer["error"]

    def _shell(self, block: Block, folder: Path) -> Iterator[str]:
        printed = []
        for command in block.commands:
            words = shlex.split(command)
            if words[0] == "parity":
                answer = self.kitchen.run("numpy", folder, parity=words[1:])
                ran = answer["status"] in (0, 1)
            elif words[0] == "python" and len(words) == 2:
                framework = framework_of((folder / words[1]).read_text())
                answer = self.kitchen.run(framework, folder, script=words[1])
                ran = answer["status"] == 0
            else:
                place: dict[str, Any] = {"cwd": folder, "env": ENVIRONMENT}
                done = subprocess.run(words, **place, capture_output=True, text=True, check=False, timeout=60)
                answer, ran = {"out": done.stdout, "error": done.stderr}, done.returncode == 0
            if not ran:
                yield f"{command}: {answer['out']}{answer['error']}"
            printed.append((command, answer["out"]))
        if block.language == "console":
            yield from differing(block.text, printed)


def differing(shown: str, printed: list[tuple[str, str]]) -> Iterator[str]:
    """Where a transcript is not what was printed. Numbers may be others, and a line of … stands for any lines."""
    parts = re.split(r"^\$ (.*)$", shown, flags=re.MULTILINE)
    for line, said in zip(parts[1::2], parts[2::2], strict=True):
        commands = [part.strip() for part in line.split(" && ")]
        out = "".join(text for command, text in printed if command in commands)
        if not said.strip():
            continue  # What is of no interest is not shown.
        wanted = [r"(?:.*\n)*?" if one == "…" else f"{re.escape(one)}\n" for one in masked(said)]
        if not re.fullmatch("".join(wanted), "".join(f"{one}\n" for one in masked(out))):
            yield f"{line}\nprinted\n{out}\nand not what is shown"


def masked(text: str) -> list[str]:
    """The lines that are not empty, with their numbers and their spaces left open."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [re.sub(r"-?[\d.,]*\d(e[-+]?\d+)?", "#", line) for line in lines if line]


def applied(text: str, path: Path) -> Iterator[str]:
    """Change a saved file as a diff says; what is wrong if its lines are not there, or there twice."""
    before, after = ("".join(f"{line[1:]}\n" for line in text.splitlines() if line[0] in kept) for kept in (" -", " +"))
    now = path.read_text()
    if now.count(before) != 1:
        yield f"{path.name} holds these lines {now.count(before)} times:\n{before}"
    path.write_text(now.replace(before, after))


@cache
def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def parsed(command: str, folder: Path) -> Iterator[str]:
    """What is wrong with a command that is not run."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[:2] == ["python", "-m"]:
        words = words[2:]
    name, *rest = words
    if name == "parity":
        yield from wrong_arguments(rest)
    elif name == "pip":
        for names in re.findall(r"^(?:\.|cross-framework-parity)\[(.*)\]$", "\n".join(rest), re.MULTILINE):
            yield from (f"no extra {extra}" for extra in names.split(",") if extra not in extras())
        yield from (f"no file {word}" for word in rest if word.endswith(".txt") and not (ROOT / word).exists())
    elif name == "tox":
        known = (ROOT / "tox.ini").read_text()
        for environment in rest[1].split(",") if rest[:1] == ["-e"] else []:
            if not re.search(rf"^    {environment.split('-')[0]}: |^\[testenv:{environment}\]", known, re.MULTILINE):
                yield f"no environment {environment}"
    elif name == "pytest":
        yield from wrong_for_pytest(rest)
    elif name == "python" or "/" in name:
        paths = [word for word in words if "/" in word and not word.startswith("runs")]
        yield from (f"no file {path}" for path in paths if not (ROOT / path).exists())
    elif shutil.which(name) is None and name not in ("pre-commit", "ruff", "mypy", "mkdocs", "fixtures", "ray"):
        yield f"no command {name}"


def wrong_arguments(arguments: list[str]) -> Iterator[str]:
    """What the command line would say of arguments, without doing what they ask."""
    group: Any = typer.main.get_command(app)
    try:
        with group.make_context("parity", list(arguments)) as context:
            name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
            with command.make_context(name, rest, parent=context):
                pass
    except SystemExit as end:
        if end.code:
            yield f"ends with status {end.code}"
    except Exception as error:
        if type(error).__name__ not in ("Exit", "NoArgsIsHelpError"):
            yield f"{type(error).__name__}: {error}"


@cache
def plugin_options() -> list[str]:
    """The options that the plugin asks pytest to add."""
    found: list[str] = []
    parser = SimpleNamespace(addoption=lambda name, **_: found.append(name))
    parser.getgroup = lambda *_: parser
    pytest_plugin.pytest_addoption(parser)  # type: ignore[arg-type]
    return found


def wrong_for_pytest(arguments: list[str]) -> Iterator[str]:
    options = plugin_options()
    for word, after in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        path = word.partition("::")[0]
        if word.startswith("--parity-") and word not in options:
            yield f"no option {word}"
        elif word == "-m" and f"pytest.mark.{after}" not in (ROOT / "parity/tests/test_gpu.py").read_text():
            yield f"no marker {after}"
        elif "/" in word and not (ROOT / path).exists():
            yield f"no file {path}"
        elif word.startswith("parity.") and not (ROOT / f"{word.replace('.', '/')}.py").exists():
            yield f"no module {word}"


PLACES = [(page, place, block) for page in PAGES for place, block in enumerate(blocks_of(page))]


# In a process apart, which begins those of the frameworks, beside the other tests.
@pytest.mark.asks(question=served, framework="numpy", apart="the documentation")
@pytest.mark.parametrize(
    ("page", "place"),
    [
        pytest.param(str(page.relative_to(ROOT)), place, id=f"{block.where}-{block.language}-{block.how}")
        for page, place, block in PLACES
    ],
)
def test_a_block_of_code_does_what_it_says(page: str, place: int, answer: tuple[str, ...]) -> None:
    assert not answer[place], answer[place]


def test_every_fence_is_a_block() -> None:
    for page in PAGES:
        assert page.read_text().count("```") == 2 * len(blocks_of(page)), page


def test_every_example_of_a_command_can_be_parsed() -> None:
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        examples = re.findall(rf"^\s*(parity {name}\b.*)$", command.help.partition("Examples:")[2], re.MULTILINE)
        assert examples, f"parity {name} shows no example"
        for example in examples:
            assert not list(wrong_arguments(shlex.split(example)[1:])), example


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_that_is_named_in_passing_exists(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    for said in re.findall(r"`(parity [a-z][^`]*)`", FENCE.sub("", page.read_text())):
        _, name, *rest = said.split()
        assert name in group.commands, f"`{said}` names no command"
        known = {option for parameter in group.commands[name].params for option in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= known, f"`{said}` has an option that is not there"


LINK = re.compile(r"(?<!\\)!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "fixtures/README.md"]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))


def links_of(page: Path) -> list[str]:
    text = without_code(page.read_text())
    return LINK.findall(text) + re.findall(r"<(https?://[^>]+)>", text)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them of plain words."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        if re.match(r"\w+:", link):
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[^\s<>]*)?", link), f"{link} has no address's form"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        in_docs = page.is_relative_to(ROOT / "docs")
        assert target.is_relative_to(ROOT / "docs") or not in_docs, f"{link} leaves the documentation"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_every_option_of_the_plugin_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/pytest-plugin.md").read_text()
    assert set(re.findall(r"^\| `(--parity-[a-z-]+)", page, re.MULTILINE)) == set(plugin_options())


def test_a_page_that_asks_for_something_from_elsewhere_is_seen(tmp_path: Path) -> None:
    hooks = runpy.run_path(str(ROOT / ".ci/docs_hooks.py"))
    page = tmp_path / "page.html"
    page.write_text(
        "<link rel=canonical href='https://a.org'><a href='https://b.org'></a><script src='own.js'></script>"
    )
    hooks["on_post_build"]({"site_dir": tmp_path})
    page.write_text("<script src='https://c.org/fonts.js'></script><link rel=stylesheet href='//d.org/style.css'>")
    (tmp_path / "style.css").write_text("@font-face { src: url(https://e.org/font.woff) }")
    with pytest.raises(SystemExit, match=r"c\.org.*\n.*d\.org.*\n.*e\.org"):
        hooks["on_post_build"]({"site_dir": tmp_path})


def test_what_the_code_writes_into_pages_is_markdown_of_all_that_it_knows() -> None:
    write = runpy.run_path(str(ROOT / ".ci/docs_hooks.py"))["on_page_markdown"]
    page = write("# Commands\n\n<!-- parity: commands -->\n")
    group: Any = typer.main.get_command(app)
    assert re.findall(r"^## parity (\w+)$", page, re.MULTILINE) == list(group.commands)
    assert "| `--noise RUN` |" in page
    assert "| `--on local|ray[://HOST:PORT]` |" in page
    page = write("<!-- parity: mistakes -->")
    known = {one.name for entry in load_suite("impls").entries.values() for one in mistakes_for(entry)}
    known |= {one.name for one in REPLAYED}
    assert set(re.findall(r"^- \*\*`(\S+)`\*\*", page, re.MULTILINE)) == known
    page = write("<!-- parity: semantics -->")
    same = ",".join(re.findall(r"^The same in every framework that has it: (.*)\.$", page, re.MULTILINE))
    assert {*re.findall(r"^### (\w+)$", page, re.MULTILINE), *re.findall(r"`(\w+)`", same)} == set(read())
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)


def test_a_transcript_that_is_not_what_is_printed_is_seen() -> None:
    said = [("parity diff a b", "PASS\nnote: 64 roundings\n")]
    assert not list(differing("$ parity diff a b\nPASS\nnote: 3 roundings\n", said))
    assert not list(differing("$ parity diff a b\nPASS\n…\n", said))
    assert list(differing("$ parity diff a b\nFAIL\n…\n", said))
    assert list(differing("$ parity diff a b\nPASS\n", said))


def test_a_command_that_is_not_there_is_seen() -> None:
    assert list(wrong_arguments(["run", "--no-such-option"]))
    assert list(wrong_arguments(["dance"]))
    assert list(wrong_arguments(["match", "a"]))
    assert not list(wrong_arguments(["diff", "a", "b", "--noise", "c"]))
    assert list(wrong_for_pytest(["--parity-dance"]))
    assert list(wrong_for_pytest(["-m", "dance"]))
