"""Prove that one model, written in several frameworks, trains the same way in each.

The public names stand here: ``from parity import Recorder``. Importing this package loads nothing else, neither NumPy
nor any framework. A name's module is loaded when the name is first asked for, so that the command line answers at
once and a worker process can set a framework's environment before the framework is loaded.
"""

# As ``typing`` has it, and imported from nowhere: ``python -m parity`` comes by here while the current folder, which
# may be a stranger's, is still the first place in which Python looks for a module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from parity.judging.diff import Comparison as Comparison
    from parity.judging.diff import compare as compare
    from parity.judging.verdict import Judgement as Judgement
    from parity.judging.verdict import Verdict as Verdict
    from parity.layout import Layout as Layout
    from parity.layout import Slot as Slot
    from parity.layout import to_canonical as to_canonical
    from parity.layout import to_framework as to_framework
    from parity.recorder import Recorder as Recorder
    from parity.recording.artefacts.artefact import Artefact as Artefact
    from parity.recording.artefacts.reading import read_artefact as read_artefact
    from parity.recording.reader import read as read
    from parity.report.asserting import assert_same_training as assert_same_training
    from parity.spec import Adam as Adam
    from parity.spec import AdamW as AdamW
    from parity.spec import Case as Case
    from parity.spec import Clipping as Clipping
    from parity.spec import CosineDecay as CosineDecay
    from parity.spec import CyclicRow as CyclicRow
    from parity.spec import Dataset as Dataset
    from parity.spec import Display as Display
    from parity.spec import FullBatch as FullBatch
    from parity.spec import InOrder as InOrder
    from parity.spec import LinearWarmup as LinearWarmup
    from parity.spec import Loss as Loss
    from parity.spec import Metric as Metric
    from parity.spec import Policy as Policy
    from parity.spec import Publication as Publication
    from parity.spec import Published as Published
    from parity.spec import RandomRow as RandomRow
    from parity.spec import RandomRows as RandomRows
    from parity.spec import Schedule as Schedule
    from parity.spec import Sgd as Sgd
    from parity.spec import Shuffled as Shuffled
    from parity.spec import ShuffledByLoader as ShuffledByLoader
    from parity.spec import StepDecay as StepDecay
    from parity.spec import WarmupCosine as WarmupCosine
    from parity.suite import Entry as Entry
    from parity.suite import Implementation as Implementation
    from parity.suite import Suite as Suite
    from parity.suite import SuiteError as SuiteError
    from parity.suite import load_suite as load_suite
    from parity.tolerance import stir as stir
    from parity.trainer import State as State
    from parity.trainer import Trained as Trained
    from parity.trainer import Trainer as Trainer
    from parity.trainer import record as record
    from parity.trajectory import Chunk as Chunk
    from parity.trajectory import Trajectory as Trajectory
    from parity.trajectory import TrajectoryError as TrajectoryError
    from parity.trajectory import gather as gather
    from parity.typing import Array as Array
    from parity.typing import Batches as Batches
    from parity.typing import Params as Params
    from parity.watching import watch as watch
    from parity.watching.transfer import transfer as transfer

__version__ = "0.1.0"

_HOMES = {
    "judging.diff": ("Comparison", "compare"),
    "judging.verdict": ("Judgement", "Verdict"),
    "layout": ("Layout", "Slot", "to_canonical", "to_framework"),
    "recorder": ("Recorder",),
    "recording.artefacts.artefact": ("Artefact",),
    "recording.artefacts.reading": ("read_artefact",),
    "recording.reader": ("read",),
    "report.asserting": ("assert_same_training",),
    "spec": (
        *("Case", "Dataset", "Display", "Loss", "Metric", "Policy", "Publication", "Published"),
        *("Adam", "AdamW", "Sgd"),
        *("Clipping", "CosineDecay", "LinearWarmup", "StepDecay", "WarmupCosine"),
        *("CyclicRow", "FullBatch", "InOrder", "RandomRow", "RandomRows"),
        *("Schedule", "Shuffled", "ShuffledByLoader"),
    ),
    "suite": ("Entry", "Implementation", "Suite", "SuiteError", "load_suite"),
    "tolerance": ("stir",),
    "trainer": ("State", "Trained", "Trainer", "record"),
    "trajectory": ("Chunk", "Trajectory", "TrajectoryError", "gather"),
    "typing": ("Array", "Batches", "Params"),
    "watching": ("watch",),
    "watching.transfer": ("transfer",),
}
_HOME = {name: f"parity.{module}" for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]

if not TYPE_CHECKING:  # a checker believes the imports above, and no other name

    def __getattr__(name: str) -> object:
        import importlib

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
