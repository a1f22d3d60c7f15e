"""The matrix that fills while it is watched."""

from io import StringIO

import pytest
from rich.console import Console

from parity.judging.outcome import Outcome
from parity.judging.verdict import Judgement, Verdict
from parity.report.terminal import Watch
from parity.running.cells import Options, cells
from parity.suite import load_suite


def seen(watch, console):
    with console.capture() as captured:
        console.print(watch._view())
    return captured.get().splitlines()


def passed(cell):
    return Outcome(cell.entry.folder, cell.implementation, cell.dtype, cell.device, Judgement(Verdict.PASS, 0.5))


@pytest.fixture(scope="module")
def every_cell(tmp_path_factory):
    return cells(Options(load_suite("impls"), tmp_path_factory.mktemp("runs")))


@pytest.mark.parametrize("size", [(200, 50), (150, 24), (80, 24)])
def test_the_matrix_fits_on_the_screen_and_shows_what_was_heard_of_last(every_cell, size):
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=size[0], height=size[1])
    watch = Watch(console, len(every_cell), every_cell)
    for cell in every_cell[:: len(every_cell) // 7]:
        watch.epoch(cell, 1, 4)
        lines = seen(watch, console)
        assert len(lines) <= size[1]
        assert any("25%" in line for line in lines)
        watch.outcome(passed(cell))
        assert any("PASS .50" in line for line in seen(watch, console))


def test_where_there_is_no_room_for_a_row_there_is_the_bar_alone(every_cell):
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=60, height=10)
    watch = Watch(console, len(every_cell), every_cell)
    watch.epoch(every_cell[0], 1, 4)
    assert not any("25%" in line for line in seen(watch, console))


def test_what_is_no_cell_of_the_matrix_moves_the_bar_alone(every_cell):
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=150, height=30)
    some = [cell for cell in every_cell if cell.dtype == "float32"]
    watch = Watch(console, len(some), some)
    before = seen(watch, console)
    watch.epoch(next(cell for cell in every_cell if cell.dtype == "float64"), 1, 4)
    assert [line for line in seen(watch, console) if "1/4" not in line] == before[:-1]


def test_where_nobody_watches_every_finished_cell_is_a_line(every_cell):
    console = Console(file=StringIO(), width=150)
    with Watch(console, 1, every_cell) as watch:
        watch.epoch(every_cell[0], 1, 4)
        watch.outcome(passed(every_cell[0]))
    assert console.file.getvalue() == f"{every_cell[0].name}: PASS\n"
