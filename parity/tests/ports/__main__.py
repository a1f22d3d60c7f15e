"""``python -m parity.tests.ports``: the table of all pairs, right ones and with mistakes. See ``--help``."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from parity.judging.verdict import Verdict
from parity.report.terminal import make_console, plain_table, progress_on
from parity.running.executor import WorkerError
from parity.tests.ports.mistakes import MISTAKES, Mistake
from parity.tests.ports.pairs import DEEP, MODELS, STEPS, Found, Port, followed, judged
from parity.tests.ports.weights import FRAMEWORKS
from parity.tests.warm import Warm


@dataclass(frozen=True)
class Pair:
    """Two ports of one model; the first may make a mistake."""

    one: Port
    other: Port
    mistake: Mistake | None = None


def pairs(
    models: Sequence[str], frameworks: Sequence[str], dtypes: Sequence[str], seeds: int, mistakes: Sequence[str] = ()
) -> Iterator[Pair]:
    """Give every pair of frameworks; with mistakes, each in every framework that can make it, against the next one.

    One seed after the other, so that a table that was stopped has all models.
    """
    for seed, model, dtype in itertools.product(range(seeds), models, dtypes):
        ports = {name: Port(model, name, dtype, seed) for name in frameworks}
        if not mistakes:
            yield from (Pair(*two) for two in itertools.combinations(ports.values(), 2))
        for mistake in MISTAKES:
            if mistake.model != model or not {mistake.name, "all"} & set(mistakes):
                continue
            for name in mistake.frameworks:
                other = next((one for one in frameworks if one != name), None)
                if name in ports and other is not None:
                    yield Pair(replace(ports[name], mistake=mistake.name), ports[other], mistake)


Names = Annotated[list[str] | None, typer.Option()]


def main(
    model: Names = None,
    framework: Names = None,
    dtype: Names = None,
    seeds: int = 10,
    steps: int = STEPS,
    deep: int = DEEP,
    shadows: int = 3,
    mistake: Annotated[list[str] | None, typer.Option(help="A mistake's name, or 'all'. Without: right pairs.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Let the first port of each pair follow the second.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep the recordings here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Train the ports, watched by closures, judge every pair, and say what was right."""
    console, started = make_console(), time.perf_counter()
    wanted = pairs(model or MODELS, framework or FRAMEWORKS, dtype or ("float32", "float64"), seeds, mistake or ())
    work, found = list(wanted), list[tuple[Pair, Found | str]]()
    table = plain_table("model", "pair", "dtype", "seed", "verdict", "ratio", "by", "said", "seconds")
    with _kept(folder) as root, Warm() as warm, progress_on(console, transient=True) as progress:
        number, task = itertools.count(), progress.add_task("pairs", total=len(work), now="")

        def empty() -> Path:
            path = root / str(next(number))
            path.mkdir(parents=True)
            return path

        made: dict[Port, Future[Any]] = {}
        for pair in work:  # the runs of one seed at a time, in their own processes beside each other
            given = {"steps": steps, "deep": steps if follow else deep, "shadows": shadows}
            both = replace(pair.one, **given), replace(pair.other, **given)
            progress.update(task, now=f"{pair.one.model} {pair.one.framework} {pair.one.dtype} {pair.one.seed}")
            try:
                said: Found | str = (
                    followed(warm, empty, both[1], both[0], pair.mistake)
                    if follow
                    else judged(*_results(both, made, lambda port: port.made(warm, empty, "ports")), pair.mistake)
                )
            except WorkerError as error:
                said = str(error).splitlines()[0]
            found.append((pair, said))
            progress.advance(task)
            row = _row(pair, said)
            table.add_row(*row)
            if not console.is_terminal:
                console.print(" | ".join(row), soft_wrap=True, markup=False, highlight=False)
            if json_file is not None:
                json_file.write_text(json.dumps([_plain(*one) for one in found], indent=1))
    if console.is_terminal:
        console.print(table)
    for line in summary(found):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds")


def _results(
    both: Sequence[Port], made: dict[Port, Future[Any]], make: Callable[[Port], Future[Any]]
) -> list[dict[str, Any]]:
    """Give what came of two ports, each of which is trained once."""
    for each in both:
        if each not in made:
            made[each] = make(each)
    return [made[each].result() for each in both]


def summary(found: Sequence[tuple[Pair, Found | str]]) -> Iterator[str]:
    """Say how many pairs of each model and dtype were judged rightly, and how."""

    def key_of(one: tuple[Pair, Found | str]) -> tuple[str, str]:
        return one[0].one.model, one[0].one.dtype

    for key, group in itertools.groupby(sorted(found, key=key_of), key_of):
        said = list(group)
        counts = {verdict: sum(isinstance(s, Found) and s.verdict == verdict for _, s in said) for verdict in Verdict}
        broken = sum(isinstance(s, str) for _, s in said)
        line = f"{' '.join(key)}: {len(said)} pairs, " + ", ".join(f"{count} {name}" for name, count in counts.items())
        right = [s for pair, s in said if isinstance(s, Found) and pair.mistake is None]
        if right:
            alarms = sum(s.verdict is Verdict.FAIL for s in right)
            line += f"; false alarms {alarms}; largest ratio {max((s.ratio or 0.0) for s in right):.3g}"
        wrong = [s for pair, s in said if isinstance(s, Found) and pair.mistake is not None]
        if wrong:
            line += f"; caught {sum(s.verdict is Verdict.FAIL for s in wrong)} of {len(wrong)}"
            line += (
                f", phase right {sum(s.phase_right for s in wrong)}, layer named {sum(s.layer_right for s in wrong)}"
                f", cause named {sum(s.cause_right for s in wrong)}"
            )
        line += f"; matched {', '.join(sorted({s.matched for _, s in said if isinstance(s, Found)}))}"
        line += f"; wrongly proven {sum(len(s.wrongly) for _, s in said if isinstance(s, Found))}"
        yield line + (f"; {broken} did not run" if broken else "")


def _row(pair: Pair, said: Found | str) -> tuple[str, ...]:
    one, other = pair.one, pair.other
    names = f"{one.framework}{f' with {one.mistake}' if one.mistake else ''}, {other.framework}"
    if isinstance(said, str):
        return one.model, names, one.dtype, str(one.seed), "broken", "", "", said, ""
    ratio = "" if said.ratio is None else f"{said.ratio:.3g}"
    words = said.words
    if pair.mistake:
        right = (
            (said.phase_right, "phase"),
            (said.layer_right, "layer"),
            (said.cause_right or not pair.mistake.cause, "cause"),
        )
        words = ", ".join(f"{name} {'right' if yes else 'WRONG'}" for yes, name in right) + f": {words}"
    return one.model, names, one.dtype, str(one.seed), str(said.verdict), ratio, said.by, words, f"{said.seconds:.1f}"


def _plain(pair: Pair, said: Found | str) -> dict[str, Any]:
    return {"one": asdict(pair.one), "other": asdict(pair.other)} | (
        {"broken": said} if isinstance(said, str) else asdict(said)
    )


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as found:
        yield Path(found)


if __name__ == "__main__":
    typer.run(main)
