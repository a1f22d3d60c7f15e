"""A suite: the cases of a package and the implementations beside them, found by name.

A suite is a package of model packages. Each model package has a ``spec.py`` with ``CASES``, and beside it one
file ``<model>_<label>.py`` for every implementation; the label's underscores read as hyphens, so that
``logistic_torch_manual.py`` is ``torch-manual``. Finding an implementation does not import it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

from parity.frameworks import framework_of
from parity.spec import Case, Dataset
from parity.trainer import Trainer


class SuiteError(ValueError):
    """A suite, case or implementation that cannot be used. The message is one line and says what to do.

    Examples:
        >>> try:
        ...     load_suite("no_suite")
        ... except SuiteError as error:
        ...     print(error)
        suite 'no_suite' cannot be imported: ModuleNotFoundError: No module named 'no_suite'
    """


SEEDED = "+seed"
"""In the name of a case's folder, before the seed."""
_FOLDER = re.compile(rf"(?P<case>[^@]*?)(?:@(?P<data>.*?))?(?:{re.escape(SEEDED)}(?P<seed>[0-9]{{1,9}}))?")


class Named(NamedTuple):
    """What the name of a case's folder says.

    Attributes:
        case: The case's name.
        data: The name of the data, None for the case's own.
        seed: The seed, None for the case's own.

    Examples:
        >>> named("line@full+seed7")
        Named(case='line', data='full', seed=7)
    """

    case: str
    data: str | None = None
    seed: int | None = None


def named(folder: str) -> Named:
    """Take the name of a case's folder apart, as ``Entry.folder`` makes it.

    Args:
        folder: The folder's name.

    Returns:
        Its parts.

    Examples:
        >>> named("line"), named("line+seed")
        (Named(case='line', data=None, seed=None), Named(case='line+seed', data=None, seed=None))
    """
    found = _FOLDER.fullmatch(folder)
    if found is None:  # a line break within
        return Named(folder)
    return Named(found["case"], found["data"] or None, None if found["seed"] is None else int(found["seed"]))


@dataclass(frozen=True)
class Implementation:
    """A model in one framework, one way. Nothing is imported before ``load`` or ``build``.

    Attributes:
        label: The label, whose first word names the framework: ``torch-manual``.
        module: The module that has ``build``.
        path: Its file.

    Examples:
        >>> one = Implementation("torch", "my_suite.line.line_torch", Path("my_suite/line/line_torch.py"))
        >>> one.label
        'torch'
    """

    label: str
    module: str
    path: Path

    def load(self) -> ModuleType:
        """Import the implementation, and with it its framework.

        Returns:
            The module.
        """
        return importlib.import_module(self.module)

    def build(self, case: Case, dtype: str, device: str) -> Trainer:
        """Import the implementation and make it ready for one case.

        Args:
            case: The case.
            dtype: float64, float32, float16 or bfloat16.
            device: ``cpu``, ``cuda`` or ``cuda_tf32``.

        Returns:
            The trainer, at the case's initial state.
        """
        return cast(Trainer, self.load().build(case, dtype, device))


@dataclass(frozen=True, eq=False)
class Entry:
    """A case and the implementations that its model has.

    Attributes:
        case: The case.
        spec: The ``spec.py`` that defines it.
        implementations: Label to implementation, as people look for them: by framework, the plain label first.
        variant: The name of other data than the case's default, if it has such.
        file: Where these data are, if the user brought them.
        seed: The seed of its initial parameters and batch order, where it is not the case's own.

    Examples:
        >>> from parity import Case, Dataset, FullBatch, Loss, Sgd
        >>> line = Case("line", "an example", Dataset, dict, Loss("squared_error", "mean"), Sgd(0.1), FullBatch(), 5)
        >>> Entry(line, Path("my_suite/line/spec.py"), {}, variant="full").folder
        'line@full'
    """

    case: Case
    spec: Path
    implementations: Mapping[str, Implementation]
    variant: str | None = None
    file: Path | None = None
    seed: int | None = None

    @property
    def folder(self) -> str:
        """The name of the folder that the case's results have, which ``named`` takes apart.

        Runs on other data, or with other seeds, do not overwrite each other.
        """
        data = "" if self.variant is None else f"@{self.variant}"
        return self.case.name + data + ("" if self.seed is None else f"{SEEDED}{self.seed}")

    @property
    def data(self) -> str | None:
        """What ``Suite.entry`` is given to find this entry's data again."""
        return self.variant if self.file is None else str(self.file)

    def sources(self, label: str) -> list[Path]:
        """List the suite's files that an implementation's result may depend on: its own and its model's helpers.

        Other models and mistakes are not among them. Another implementation is if one of these files names it.

        Args:
            label: The implementation.

        Returns:
            Paths of files that exist.
        """
        own, model, root = self.implementations[label].path, self.spec.parent, self.spec.parent.parent
        others = {other.path for other in self.implementations.values()} - {own}
        folders = [path for path in root.iterdir() if path == model or not (path / "spec.py").exists()]
        paths = sorted([*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))])
        # What begins with a dot is an editor's or a file system's.
        seen = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
        found = new = [path for path in seen if path.is_file() and path not in others and path.name != "mistakes.py"]
        while new:
            text = b"".join(path.read_bytes() for path in new)
            new = [path for path in sorted(others) if path.stem.encode() in text]
            others -= set(new)
            found = [*found, *new]
        return found


@dataclass(frozen=True)
class Suite:
    """All cases of a package, in the order of its models.

    Attributes:
        package: The package's name.
        reference: The label of the implementation that the others are held against.
        entries: Case name to entry.
        floors: The folder where the suite keeps its noise floors, if it has one.

    Examples:
        >>> Suite("my_suite", "numpy", {}, None).labels
        []
    """

    package: str
    reference: str
    entries: Mapping[str, Entry]
    floors: Path | None

    def entry(self, case: str, variant: str | None = None, seed: int | None = None) -> Entry:
        """Find a case.

        Args:
            case: Its name.
            variant: The name of other data that the case has, or a user's own file if the case can read one.
            seed: Another seed than the case's own: see ``Case.seeded``.

        Returns:
            The case's entry, on these data and with this seed.

        Raises:
            SuiteError: If there is no such case or data. The message lists what there is, or says what is wrong with
                the file.
        """
        if case not in self.entries:
            raise SuiteError(f"unknown case {case!r}: {self.package} has {', '.join(self.entries)}")
        found = self._on_data(self.entries[case], variant)
        return found if seed is None else replace(found, case=found.case.seeded(seed), seed=seed)

    def _on_data(self, entry: Entry, variant: str | None) -> Entry:
        if variant is None:
            return entry
        if variant in entry.case.variants:
            return replace(entry, case=entry.case.variants[variant], variant=variant)
        file = Path(variant)
        if entry.case.from_file is not None and (file.suffix or file.exists()):
            return _on_file(entry, file, entry.case.from_file)
        known = ", ".join(entry.case.variants) or "none but the default"
        known += " and files" if entry.case.from_file is not None else ""
        raise SuiteError(f"case {entry.case.name!r} has no data {variant!r}: it knows {known}")

    def implementation(self, entry: Entry, label: str) -> Implementation:
        """Find an implementation.

        Args:
            entry: The case's entry.
            label: The implementation's label.

        Returns:
            The implementation, not imported yet.

        Raises:
            SuiteError: If the case has none of that label. The message lists those that it has.
        """
        if label not in entry.implementations:
            raise SuiteError(
                f"case {entry.case.name!r} has no implementation {label!r}: {', '.join(entry.implementations)}"
            )
        return entry.implementations[label]

    @property
    def frameworks(self) -> list[str]:
        """The frameworks in which the suite writes its models, by plain label, in the order of ``rank``.

        ``torch-manual`` is a way of ``torch``; ``keras`` and ``flax`` count beside ``tf1`` and ``jax``.
        """
        return sorted({_plain(label) for entry in self.entries.values() for label in entry.implementations}, key=rank)

    def owed(self, entry: Entry) -> dict[str, str]:
        """Say what a case owes: a cell that is only missing must fail, and so must an excuse for one that exists.

        A case owes an implementation, or a reason in ``Case.absent``, in every framework that any case of its suite
        is written in. A suite in NumPy and torch alone therefore owes nothing in JAX; as soon as one of its models
        has a JAX implementation, the other models owe theirs. Any way of writing a framework pays for it:
        ``torch-manual`` alone is enough where others have ``torch``.

        Args:
            entry: A case of this suite.

        Returns:
            The reason by label, one for each framework without an implementation or a reason, and one for each
            implementation that ``Case.absent`` says cannot be. Empty where the case owes nothing.
        """
        case, model = entry.case, entry.spec.parent.name
        written = {_plain(label) for label in entry.implementations}
        missing = {
            label: f"{case.name} has no {label} implementation and gives no reason: write {model}_{label}.py, or say "
            "in Case.absent why it cannot be"
            for label in self.frameworks
            if label not in written and not case.absent.get(label)
        }
        stale = {
            label: f"{case.name} has {implementation.path.name}, and its Case.absent says why it cannot have it "
            f"({case.absent[label]}): take one of them away"
            for label, implementation in entry.implementations.items()
            if label in case.absent
        }
        return missing | stale

    @property
    def labels(self) -> list[str]:
        """Every implementation label of the suite, the reference first."""
        found = {label for entry in self.entries.values() for label in entry.implementations}
        return sorted(found, key=lambda label: (label != self.reference, rank(label)))


def _on_file(entry: Entry, file: Path, read: Callable[[Path], Dataset]) -> Entry:
    """A case on a user's own data, read once now: what is wrong with them is said before anything is trained."""
    try:
        read(file)
    except OSError as error:
        raise SuiteError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise SuiteError(str(error)) from error
    case = replace(entry.case.on_other_data(f"data from {file}"), data=partial(read, file), variants={})
    return replace(entry, case=case, variant=file.stem, file=file.absolute())


def _plain(label: str) -> str:
    return label.partition("-")[0]


def rank(label: str) -> tuple[int, str]:
    """Give the place of an implementation label among others: by framework, the plain label before its ways.

    Args:
        label: A label, such as ``torch-manual``.

    Returns:
        A key for ``sorted``.

    Examples:
        >>> sorted(["flax", "torch-manual", "torch", "numpy"], key=rank)
        ['numpy', 'torch', 'torch-manual', 'flax']
    """
    order = ("numpy", "torch", "tf1", "keras", "jax", "flax")
    prefix = _plain(label)
    return (order.index(prefix) if prefix in order else len(order), label)


def load_suite(package: str) -> Suite:
    """Find the cases and implementations of a package. Implementations are not imported.

    Args:
        package: The package's name. It must be importable.

    Returns:
        The suite.

    Raises:
        SuiteError: If the package cannot be imported, holds no cases, or names two alike.

    Examples:
        The suite of the documents' models, in a clone of this project:

        >>> load_suite("impls").reference
        'numpy'
    """
    root = _imported(package, f"suite {package!r}")
    file = getattr(root, "__file__", None)
    if file is None:
        raise SuiteError(f"suite {package!r} has no __init__.py")
    entries: dict[str, Entry] = {}
    for spec in sorted(Path(file).parent.glob("*/spec.py")):
        model = spec.parent.name
        implementations = _implementations(package, model, spec.parent)
        for case in _cases(package, model):
            if case.name in entries:
                raise SuiteError(f"two cases of {package} are called {case.name!r}")
            entries[case.name] = Entry(case, spec, implementations)
    if not entries:
        raise SuiteError(f"suite {package!r} holds no cases: it needs <model>/spec.py files with CASES in them")
    return Suite(package, getattr(root, "REFERENCE", "numpy"), entries, getattr(root, "FLOORS", None))


def _imported(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # what a user's own file raises may be anything
        text = " ".join(str(error).split())
        raise SuiteError(f"{what} cannot be imported: {type(error).__name__}: {text}") from error


def _cases(package: str, model: str) -> tuple[Case, ...]:
    name = f"{package}.{model}.spec"
    cases = getattr(_imported(name, name), "CASES", None)
    if not isinstance(cases, tuple) or not all(isinstance(case, Case) for case in cases):
        raise SuiteError(f"{name} must define CASES, a tuple of parity.spec.Case")
    return cases


def _implementations(package: str, model: str, folder: Path) -> dict[str, Implementation]:
    found = {}
    for path in folder.glob(f"{model}_*.py"):
        label = path.stem.removeprefix(f"{model}_").replace("_", "-")
        try:
            framework_of(label)
        except ValueError as error:
            raise SuiteError(f"{path}: {error}; what is no implementation needs another name") from error
        found[label] = Implementation(label, f"{package}.{model}.{path.stem}", path)
    return {label: found[label] for label in sorted(found, key=rank)}
