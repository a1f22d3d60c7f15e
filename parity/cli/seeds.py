"""Compare many runs with other seeds, as ``parity diff --seeds … --against …``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from typer.core import TyperCommand

from parity.cli.output import clear_errors, fail, write, write_json

if TYPE_CHECKING:
    from parity.trajectory import Trajectory


def diff_seeds(
    seeds: list[Path] | None,
    against: list[Path] | None,
    json_file: Path | None,
    map_file: Path | None,
    page_file: Path | None,
    **given: Any,
) -> NoReturn:
    """Do what ``parity diff`` is asked with --seeds; ``given`` are the options that do not go with it, by name."""
    from parity.judging.seeds import compare_seeds
    from parity.judging.tensors.correspondence import read_map
    from parity.judging.verdict import EXIT_STATUS
    from parity.recording.artefacts import open_run
    from parity.recording.limits import FOLDER, Budget
    from parity.report.bands import page, title_of
    from parity.report.page import check_page
    from parity.report.seeds import print_seeds
    from parity.report.terminal import make_console, progress_on

    if not seeds or not against:
        fail("--seeds and --against belong together: name the runs of both implementations")
    for name, value in given.items():
        if value:
            what = "A and B belong" if name in ("a", "b") else f"--{name} belongs"
            fail(f"{what} to two recordings: with --seeds, runs are compared as many")
    console = make_console(stderr=True)
    with clear_errors(), progress_on(console, transient=True, disable=not console.is_terminal) as progress:
        if page_file is not None:
            check_page(page_file)
        pairings = read_map(map_file) if map_file else ()
        budget, sides = Budget(FOLDER), (_matching(seeds), _matching(against))
        task = progress.add_task("reading", total=sum(map(len, sides)), now="")

        def opened(folder: Path) -> Trajectory:
            progress.update(task, advance=1, now=folder.name)
            return open_run(folder, budget)

        ours, theirs = ([opened(folder) for folder in side] for side in sides)
        found = compare_seeds(ours, theirs, matching=pairings)
        text = page(found, (title_of(sides[0]), ours), (title_of(sides[1]), theirs)) if page_file is not None else ""
    print_seeds(make_console(stderr=str(json_file) == "-"), found)
    write_json(json_file, {"pairs": [], "unpaired": [], "seeds": found.as_json()})
    if page_file is not None:
        write(page_file, text)
    raise SystemExit(EXIT_STATUS[found.verdict])


def _matching(patterns: Sequence[Path]) -> list[Path]:
    """Find the runs that patterns name, where no shell has done so."""
    found: list[Path] = []
    for pattern in patterns:
        named = (
            [pattern]
            if pattern.exists() or not set("*?[") & set(str(pattern))
            else sorted(map(Path, glob(str(pattern))))
        )
        if not named:
            fail(f"no run is called {pattern}")
        found += named
    return found


class Several(TyperCommand):
    """A command whose options --seeds and --against take all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spread(args, ("--seeds", "--against")))


def _spread(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Repeat an option before each of the words that follow it.

    >>> _spread(["--seeds", "a", "b", "--against", "c", "--json", "-"], ("--seeds", "--against"))
    ['--seeds', 'a', '--seeds', 'b', '--against', 'c', '--json', '-']
    """
    found: list[str] = []
    option, bare = "", False
    for word in words:
        if word.startswith("-"):
            found += [option] if bare else []
            option, bare = (word, True) if word in options else ("", False)
            found += [] if option else [word]
        else:
            found += [option, word] if option else [word]
            bare = False
    return [*found, option] if bare else found
