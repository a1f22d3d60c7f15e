"""No cell finds what the one before it has left in its process, and the one that left something is named."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from parity.frameworks import FRAMEWORKS, framework_of
from parity.running.executor import Emit, Environment, Resources
from parity.running.packages import Reach
from parity.running.workers.pool import Pool
from parity.running.workers.process import differences, own_state
from parity.suite import load_suite
from parity.tests.command import Parity
from parity.tests.running.test_pool import WAIT
from parity.tests.suites import each_framework, strict_json, write_suite
from parity.trainer import record
from parity.trajectory import gather

pytestmark = pytest.mark.slow  # each starts processes of its own

# Does something to its process, and is right nevertheless.
LEAVES = """
{imports}
from parity.tests import toy

def build(case, dtype, device):
    {does}
    return toy.build(case, dtype, device)
"""
# Says of what it finds, and in which process.
FINDS = """
import os
from pathlib import Path
from parity.tests import toy
from parity.running.workers.process import own_state

def build(case, dtype, device):
    found = {name: str(value) for name, value in own_state().items() if not name.startswith("the processes")}
    with Path(__file__).with_name("found").open("a") as file:
        print(os.getpid(), found, file=file)
    return toy.build(case, dtype, device)
"""

LEFT = {
    "the working directory": ("import os", "os.chdir('/')"),
    "the variable MINE_ALONE": ("import os", "os.environ['MINE_ALONE'] = '1'"),
    "NumPy's treatment of errors": ("import numpy as np", "np.seterr(all='raise')"),
    "NumPy's print options": ("import numpy as np", "np.set_printoptions(precision=2)"),
    "warnings that are errors": ("import warnings", "warnings.simplefilter('error')"),
    "the locale": ("import locale", "locale.setlocale(locale.LC_ALL, 'C.UTF-8')"),
    "the handler of SIGTERM": ("import signal", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    "the timer": ("import signal", "signal.setitimer(signal.ITIMER_REAL, 3600)"),
    "the limit RLIMIT_NOFILE": ("import resource as r", "r.setrlimit(r.RLIMIT_NOFILE, (99, 99))"),
    "the mask of new files": ("import os", "os.umask(0o077)"),
    "the recursion limit": ("import sys", "sys.setrecursionlimit(5000)"),
    "the garbage collector": ("import gc", "gc.disable()"),
    "tracing": ("import sys", "sys.setprofile(lambda *arguments: None)"),
    "the threads": ("import threading, time", "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"),
    "numpy.mean was replaced": ("import numpy as np", "np.mean = np.median"),
    "parity.trainers.numpy_trainer.NumpyTrainer.train was replaced": (
        "from parity.trainers.numpy_trainer import NumpyTrainer as T",
        "T.train = (lambda train: lambda self, *given: train(self, *given))(T.train)",
    ),
    "the processes that it started": ("import subprocess", "subprocess.Popen(['sleep', '60'])"),
    "the search path": ("import sys", "sys.path.insert(0, '/tmp')"),
}


@pytest.mark.slow
def test_what_a_cell_changes_is_found_by_no_other_and_said_of_it(parity: Parity, tmp_path: Path) -> None:
    """One slot, which would give the next cell the same process; every second cell looks around."""
    cells = {"numpy_00": FINDS}
    for place, (imports, does) in enumerate(LEFT.values(), 1):
        cells |= {f"numpy_{place:02d}_a": LEAVES.format(imports=imports, does=does), f"numpy_{place:02d}_b": FINDS}
    package = write_suite(tmp_path, **cells)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    result = parity(*command)
    assert result.status == 0, result.out + result.err
    notes = {cell["implementation"]: cell["note"] for cell in strict_json(result.out, "run")["cells"]}
    for place, what in enumerate(LEFT, 1):
        said = notes[f"numpy-{place:02d}-a"]
        assert said.startswith("it changed what its process keeps, so that another went on: "), what
        assert what in said
    assert {note for name, note in notes.items() if not name.endswith("-a")} == {""}
    found = [line.split(" ", 1) for line in (tmp_path / package / "toy" / "found").read_text().splitlines()]
    assert len({pid for pid, _ in found}) == len(found) == len(LEFT) + 1
    assert len({state for _, state in found}) == 1


def test_drawing_random_numbers_is_nobodys_fault_and_every_cell_draws_the_same(parity: Parity, tmp_path: Path) -> None:
    draws = "import os, random\nimport numpy as np\nfrom pathlib import Path\n" + LEAVES.format(
        imports="",
        does="drawn = (os.getpid(), random.random(), np.random.normal())\n"
        "    print(*drawn, file=Path(__file__).with_name('drawn').open('a'))",
    )
    package = write_suite(tmp_path, numpy_a=draws, numpy_b=draws)
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    assert {cell["note"] for cell in strict_json(result.out)["cells"]} == {""}
    first, second = (tmp_path / package / "toy" / "drawn").read_text().splitlines()
    assert first == second


WRONG_RATE = """
import torch
from parity.tests import toy
from dataclasses import replace

def build(case, dtype, device):
    rate = torch.tensor(case.optimizer.learning_rate).item()  # of torch's default dtype, float32
    return toy.build(replace(case, optimizer=replace(case.optimizer, learning_rate=rate)), dtype, device)
"""


def test_the_next_cell_is_not_right_for_the_default_dtype_of_the_one_before(parity: Parity, tmp_path: Path) -> None:
    sets = LEAVES.format(imports="import torch", does="torch.set_default_dtype(torch.float64)")
    package = write_suite(tmp_path, torch=sets, torch_wrong=WRONG_RATE)
    (tmp_path / package / "toy" / "spec.py").write_text(
        "from dataclasses import replace\nfrom parity.tests import toy\nCASES = (replace(toy.MOMENTUM, absent={}),)\n"
    )
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    cells = {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}
    assert {name: cell["verdict"] for name, cell in cells.items()} == {
        "numpy": "PASS",
        "torch": "PASS",
        "torch-wrong": "FAIL",
    }
    assert "torch's default dtype was torch.float32 and is torch.float64" in cells["torch"]["note"]


# Of modules, by what is said of them. All are done in one process after the other, none of which does two.
OF_MODULES = {
    "builtins.sum was replaced": "import builtins; builtins.sum = lambda *given: 0",
    "builtins.mine was added": "import builtins; builtins.mine = 1",
    "math.sqrt was replaced": "import math; math.sqrt = lambda x: 2 * x",
    "math.pi was replaced": "import math; math.pi = 3.0",
    "random.random was replaced": "import random; random.random = lambda: .5",
    "random.Random.choice was replaced": "import random; random.Random.choice = lambda self, of: of[0]",
    "numpy.pi was replaced": "import numpy; numpy.pi = 3.0",
    "numpy.add was replaced": "import numpy; numpy.add = numpy.subtract",
    "numpy.linalg._linalg.svd was taken away": "import numpy.linalg._linalg as linalg; del linalg.svd",
    "numpy.linalg._linalg.norm was changed": "import numpy; "
    "numpy.linalg.norm.__wrapped__.__defaults__ = (1, None, False)",
    "parity.tolerance.RUNS was changed": "import parity.tolerance; parity.tolerance.RUNS = 1",
    "parity.frameworks.COMMON was changed": "import parity.frameworks; parity.frameworks.COMMON['A'] = '1'",
    "parity.trainers.numpy_trainer.NumpyTrainer.mine was added": (
        "from parity.trainers.numpy_trainer import NumpyTrainer; NumpyTrainer.mine = 1"
    ),
    "the decimal context": "import decimal; decimal.getcontext().prec = 3",
    "the streams": "import io, sys; sys.stdout = io.StringIO()",
    "the longest number": "import sys; sys.set_int_max_str_digits(0)",
    "tracing": "import threading; threading.settrace(lambda *given: None)",
    "the finders of modules": "import sys; sys.meta_path.append(object())",
}


def test_what_a_job_puts_into_a_module_is_seen() -> None:
    told: list[tuple[str, ...]] = []
    with Pool(1, on_changed=lambda job, changes: told.append(changes)) as pool:
        for what, statement in OF_MODULES.items():
            told.clear()
            pool.submit(Do(Environment("numpy"), statement)).result(WAIT)
            assert told, what
            assert any(change.startswith(what) for change in told[0]), (what, told)


# A module that two implementations share: what the first puts there, and what the second must not find.
SHARED = """
import itertools
import numpy as np

scale = 1.0
items = []
table = {"rates": [1.0]}
array = np.ones(3)
generator = np.random.default_rng(0)
numbers = itertools.count()

class Settings:
    rate = 1.0
    def __init__(self):
        self.depth = 1

settings = Settings()

def give(x=1.0, *, y=[1.0]):
    return x
"""
IN_SHARED = {
    "scale": "scale = 1.01",
    "items": "items.append(1)",
    "table": "table['rates'][0] = 1.01",
    "array": "array[1] = 2",
    "generator": "generator.normal()",
    "numbers": "next(zz.numbers)",
    "Settings.rate": "Settings.rate = 2.0",
    "settings": "settings.depth = 2",
    "give": "give.__defaults__ = (1.01,)",
    "mine": "mine = 1",
    "give.": "give.__kwdefaults__['y'].append(1)",
}


def test_what_a_job_puts_into_a_module_of_the_suite_is_seen(tmp_path: Path) -> None:
    (tmp_path / "shared_by_two.py").write_text(SHARED)
    told: list[tuple[str, ...]] = []
    reach = Reach(folders=(str(tmp_path),))
    with Pool(1, reach=reach, on_changed=lambda job, changes: told.append(changes)) as pool:
        for name, does in IN_SHARED.items():
            told.clear()
            does = does if does.startswith("next") else f"zz.{does}"
            pool.submit(Do(Environment("numpy"), "import shared_by_two as zz")).result(WAIT)
            assert not told, "importing it is no change"
            pool.submit(Do(Environment("numpy"), f"import shared_by_two as zz; {does}")).result(WAIT)
            assert [one.split(" was ")[0] for one in told[0]] == [f"shared_by_two.{name.rstrip('.')}"], (name, told)


SETS_SCALE = """
import zz_shared_{number}
from parity.tests import toy
{top}
from dataclasses import replace

def build(case, dtype, device):
    {inner}
    rate = case.optimizer.learning_rate * zz_shared_{number}.scale
    return toy.build(replace(case, optimizer=replace(case.optimizer, learning_rate=rate)), dtype, device)
"""


@pytest.mark.parametrize("where", ["top", "inner"])
def test_a_cell_is_not_right_for_what_another_has_put_into_a_shared_module(
    parity: Parity, tmp_path: Path, where: str
) -> None:
    deeds = {"top": "", "inner": "pass"}
    sets = SETS_SCALE.format(number=where, **(deeds | {where: f"zz_shared_{where}.scale = 1.0"}))
    package = write_suite(tmp_path, numpy_a=sets, numpy_b=SETS_SCALE.format(number=where, **deeds))
    (tmp_path / f"zz_shared_{where}.py").write_text("scale = 1.01\n")
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    cells = {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}
    assert {name: cell["verdict"] for name, cell in cells.items()} == {
        "numpy": "PASS",
        "numpy-a": "PASS",
        "numpy-b": "FAIL",
    }
    assert f"zz_shared_{where}.scale was changed" in cells["numpy-a"]["note"]


ROOTS = {"torch": "torch", "tensorflow": "tensorflow", "keras": "keras", "jax": "jax"}
QUICK = "torch's default dtype"
OF_FRAMEWORKS = {
    "torch": [
        ("torch's default dtype", "import torch; torch.set_default_dtype(torch.float64)"),
        ("torch's default device", "import torch; torch.set_default_device('meta')"),
        ("torch's precision", "import torch; torch.set_float32_matmul_precision('medium')"),
        ("torch's threads", "import torch; torch.set_num_threads(2)"),
        ("torch's determinism", "import torch; torch.use_deterministic_algorithms(False)"),
        ("torch's autograd", "import torch; torch.set_grad_enabled(False)"),
        ("torch's subnormal numbers", "import torch; torch.set_flush_denormal(True)"),
        ("torch's oneDNN", "import torch; torch.backends.mkldnn.enabled = False"),
        ("torch.Tensor.relu was added", "import torch; torch.Tensor.relu = lambda self: self"),
        ("torch.Tensor.__add__ was added", "import torch; torch.Tensor.__add__ = torch.Tensor.__sub__"),
        (
            "torch.nn.modules.module._global_forward_hooks was changed",
            "import torch; torch.nn.modules.module.register_module_forward_hook(lambda *given: None)",
        ),
        (
            "torch.optim.optimizer._global_optimizer_pre_hooks was changed",
            "import torch.optim.optimizer as one; one.register_optimizer_step_pre_hook(lambda *given: None)",
        ),
        (
            "torch.optim.sgd.SGD.__init__ was changed",
            "import torch; torch.optim.SGD.__init__.__kwdefaults__['foreach'] = True",
        ),
    ],
    "tensorflow": [
        ("TensorFlow's eager mode", "import tensorflow as tf; tf.compat.v1.disable_eager_execution()"),
        ("TensorFlow's functions", "import tensorflow as tf; tf.config.run_functions_eagerly(True)"),
        ("TensorFlow's seed", "import tensorflow as tf; tf.random.set_seed(1)"),
        (
            "TensorFlow's graph",
            "import tensorflow as tf; tf.kept = tf.Graph().as_default(); tf.kept.__enter__()",
        ),
        ("TensorFlow's compiler", "import tensorflow as tf; tf.config.optimizer.set_jit(True)"),
    ],
    "keras": [
        ("Keras's epsilon", "import keras; keras.config.set_epsilon(1e-3)"),
        ("Keras's dtype policy", "import keras; keras.config.set_dtype_policy('float64')"),
        ("Keras's layout of images", "import keras; keras.config.set_image_data_format('channels_first')"),
    ],
    "jax": [
        ("JAX's jax_enable_x64", "import jax; jax.config.update('jax_enable_x64', False)"),
        (
            "JAX's jax_default_matmul_precision",
            "import jax; jax.config.update('jax_default_matmul_precision', 'bfloat16')",
        ),
        ("JAX's jax_disable_jit", "import jax; jax.config.update('jax_disable_jit', True)"),
    ],
}


RESOURCES = Resources(about="a statement")


@dataclass(frozen=True)
class Do:
    """A job that carries out a statement in a framework's process."""

    environment: Environment
    statement: str
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> None:
        exec(self.statement, {})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "statement" not in metafunc.fixturenames:
        each_framework(metafunc)
        return
    chosen = metafunc.config.getoption("--parity-framework") or list(OF_FRAMEWORKS)
    found = [(name, what, code) for name in chosen for what, code in OF_FRAMEWORKS.get(name, ())]
    # Each imports the framework anew.
    values = [pytest.param(*one, marks=() if one[1] == QUICK else pytest.mark.slow) for one in found]
    metafunc.parametrize(("framework", "what", "statement"), values, ids=[what for _, what, _ in found])


@pytest.mark.slow
def test_what_a_job_changes_of_its_framework_is_seen(framework: str, what: str, statement: str) -> None:
    told: list[tuple[str, ...]] = []
    with Pool(1, on_changed=lambda job, changes: told.append(changes)) as pool:
        pool.submit(Do(Environment(framework), "import " + ROOTS[framework])).result(WAIT)
        assert not told, "importing a framework is no job's doing"
        pool.submit(Do(Environment(framework), statement)).result(WAIT)
    (changes,) = told
    assert any(change.startswith(what) for change in changes), changes


def kept(framework: str) -> list[str]:
    """What running the first case in every way of a framework leaves in its process."""
    known = next(one for one in FRAMEWORKS if one.name == framework)
    trainer = import_module(known.trainer)
    settle, process_state = getattr(trainer, "settle", lambda device: None), getattr(trainer, "process_state", dict)
    entry = load_suite("impls").entry("iris-logistic")
    found = []
    for label, one in entry.implementations.items():
        for dtype in ("float64", "float32") if framework_of(label).name == framework else ():
            one.load()
            settle("cpu")
            before = own_state() | process_state()
            gather(record(one.build(entry.case, dtype, "cpu"), entry.case, 2))
            found += [f"{label}: {what}" for what in differences(before, own_state() | process_state()).values()]
    return found


@pytest.mark.asks(question=kept)
def test_a_run_of_ours_changes_nothing_that_the_next_would_find(framework: str, answer: list[str]) -> None:
    assert list(answer) == []


@pytest.mark.slow
def test_what_was_changed_before_the_framework_came_is_no_work_of_its_import() -> None:
    told: list[tuple[str, ...]] = []
    with Pool(1, on_changed=lambda job, changes: told.append(changes)) as pool:
        statement = "import os; os.environ['MINE'] = '1'; import torch"
        pool.submit(Do(Environment("torch"), statement)).result(WAIT)
    assert told == [("the variable MINE was not there",)]


def test_a_secret_is_not_said() -> None:
    changed = differences({"the variable KEY": "a secret"}, {"the variable KEY": "another"})
    assert changed == {"the variable KEY": "the variable KEY was changed"}
