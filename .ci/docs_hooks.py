"""The hooks that MkDocs calls while it builds the documentation: parts written from the code, and a check of the site.

Each build writes the commands, their options, the catalogue of mistakes and where frameworks differ from the code, so
that the pages are up to date. The built site must load nothing from elsewhere: no style, script, font or picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import typer

from parity.cli import app
from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.layer import LayerMistake
from parity.mistakes.mistake import Mistake
from parity.nn.table import read
from parity.report.semantics import page
from parity.running.packages import find
from parity.suite import load_suite

WRITTEN = re.compile(r"^<!-- parity: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with each ``<!-- parity: NAME -->`` replaced by the part of that name in ``PARTS``."""
    return WRITTEN.sub(lambda found: PARTS[found[1]](), markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Fail the build if a page or a style loads anything from elsewhere."""
    site = Path(config["site_dir"])
    asked = [f"{path.relative_to(site)} asks for {what}" for path in site.rglob("*.html") for what in asks_for(path)]
    styles = [
        (path, re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)", path.read_text())) for path in site.rglob("*.css")
    ]
    asked += [f"{path.relative_to(site)} asks for {what}" for path, found in styles for what in found]
    if asked:
        raise SystemExit("the site is not whole in itself:\n" + "\n".join(asked))


class Asked(HTMLParser):
    """Collects the addresses elsewhere that a browser would load for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        link = said.get("href") if tag == "link" and said.get("rel") not in ("canonical", "next", "prev") else None
        for address in (link, said.get("src"), said.get("srcset"), said.get("poster")):
            if address and re.match(r"(https?:)?//", address):
                self.found.append(address)


def asks_for(page: Path) -> list[str]:
    parser = Asked()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.found


def commands() -> str:
    """Every command with its help, arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join("\n".join(command(name, one)) for name, one in group.commands.items())


def command(name: str, one: Any) -> Iterator[str]:
    yield f"## parity {name}\n"
    paragraphs = re.split(r"\n\s*\n", one.help.strip())
    for paragraph in paragraphs:
        head, _, rest = paragraph.partition("\n")
        if head.strip() == "\b":
            lines = [line.strip() for line in rest.splitlines()[1:]]
            yield "```sh\n" + "\n".join(lines) + "\n```\n"
        else:
            yield " ".join(paragraph.split()).replace("<", "&lt;") + "\n"
    yield "| argument or option | meaning | default |\n|---|---|---|"
    for parameter in one.params:
        if parameter.name == "help":
            continue
        names = ", ".join((*parameter.opts, *parameter.secondary_opts)) if parameter.param_type_name == "option" else ""
        shown = " ".join(filter(None, (names, parameter.metavar)))
        default = parameter.default
        said = "" if default in (None, False, (), "") else f"`{shown_default(parameter)}`"
        text = (parameter.help or "").replace("|", "\\|")
        yield f"| `{shown}` | {text} | {said} |"


def shown_default(parameter: Any) -> str:
    return str(parameter.default if parameter.default is not True else parameter.opts[0])


def mistakes() -> str:
    """Every mistake of the catalogue and of the documents' models, by phase."""
    known: dict[str, Mistake | LayerMistake] = {}
    for entry in load_suite(find("impls")).entries.values():
        known |= {one.name: one for one in mistakes_for(entry)}
    planted = len(known)
    known |= {one.name: one for one in REPLAYED}
    phases = dict.fromkeys(one.phase for one in known.values())
    parts = [
        f"There are {len(known)}: {planted} that are planted in a case, and {len(REPLAYED)} in a layer, which are "
        "replayed on what two recordings have of it.\n"
    ]
    for phase in phases:
        parts.append(f"## {phase.capitalize()}\n")
        of_phase = [one for one in known.values() if one.phase == phase]
        parts += [f"- **`{one.name}`** {plain(one.sentence)} *Met in* {plain(one.reference)}." for one in of_phase]
        parts.append("")
    return "\n".join(parts)


def semantics() -> str:
    """Every function of ``parity.nn`` with what each framework has for it."""
    return page(read())


def plain(text: str) -> str:
    """Escape a text for Markdown, and make its addresses links."""
    either = r"(https?://[^\s,;)]+[^\s,;).])|([\\`*_\[\]<])"
    return re.sub(either, lambda at: f"<{at[1]}>" if at[1] else f"\\{at[2]}", " ".join(text.split()))


PARTS = {"commands": commands, "mistakes": mistakes, "semantics": semantics}
