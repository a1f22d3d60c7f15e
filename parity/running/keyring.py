"""The keys of one matrix's runs and the marks and places of its noise floors, each made once."""

from __future__ import annotations

import filecmp
import hashlib
import platform
from pathlib import Path

from parity.frameworks import framework_of
from parity.judging.floors.floor import load
from parity.recording.files import write_whole
from parity.recording.places import CHECKED, floor_name
from parity.running.cells import Cell, Options
from parity.running.jobs import FloorFile
from parity.running.keys import fingerprint, harness_code, mark
from parity.running.versions import Versions
from parity.running.workers.started import worker_environment

READ_BY_FRAMEWORKS = (
    *("JAX_", "XLA_", "TF_", "TF2_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "KERAS_", "ATEN_", "NPY_", "NUMPY_"),
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "TRITON_", "AMD_", "HIP_", "ROCR_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "ONEDNN_", "DNNL_", "EIGEN_"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_", "MALLOC_", "PYTHONOPTIMIZE"),
)
"""How variables begin that change what a framework computes, or with what, and that no source of a suite asks for."""


class Keyring:
    """What the runs of a matrix are known by on disk: under the same key a run need not be made again."""

    def __init__(self, options: Options, versions: Versions) -> None:
        self.options, self.suite, self.versions = options, options.suite, versions
        self._fingerprints: dict[tuple[str, int], str] = {}
        self._marks: dict[str, str] = {}
        self._origins: dict[tuple[str, str, str], str] = {}
        self._placed: set[Path] = set()

    def epochs(self, cell: Cell) -> int:
        """The epochs that are asked for: the case's own unless the options say others."""
        return cell.entry.case.epochs if self.options.epochs is None else self.options.epochs

    def length(self, cell: Cell, lockstep: int | None) -> int:
        """The epochs of a cell's run. The reference is checked as far as its floor reaches; in lockstep, to the end."""
        epochs = self.epochs(cell)
        return cell.entry.case.floor_length(epochs) if cell.dtype == CHECKED and not lockstep else epochs

    def floor_length(self, cell: Cell) -> int:
        """The epochs that the noise floor of a cell's case is measured for.

        A floor grows along the run, so that the one of the case's own length serves every shorter run. No floor of
        another seed is kept with the suite: that one is measured as far as it is asked for.
        """
        case = cell.entry.case
        longest = self.epochs(cell) if cell.entry.seed is not None else max(self.epochs(cell), case.epochs)
        return case.floor_length(longest)

    def key(self, cell: Cell, lockstep: int | None) -> str:
        """A hash of everything that a recorded run depends on."""
        known = cell.entry.folder, self.length(cell, lockstep)
        if known not in self._fingerprints:
            self._fingerprints[known] = fingerprint(cell.entry.case, known[1])
        parts = self.origin(cell), self._fingerprints[known], cell.dtype, cell.device, lockstep
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def origin(self, cell: Cell) -> str:
        """The part of the key that a free run and those in lockstep share: code, versions, what frameworks are told."""
        known = cell.entry.folder, cell.implementation, cell.device
        if known not in self._origins:
            parts = (
                harness_code(*cell.entry.sources(cell.implementation)),
                # A run names its floor, and one in lockstep starts from the states of the reference: its code is here.
                self.mark(cell),
                sorted(self.versions.of(cell.implementation).items()),
                self.versions.python(cell.implementation),
                platform.machine(),
                sorted(framework_variables(cell).items()),
            )
            self._origins[known] = hashlib.sha256(repr(parts).encode()).hexdigest()
        return self._origins[known]

    def mark(self, cell: Cell) -> str:
        """The mark that the noise floor of a cell's case must bear."""
        if cell.entry.folder not in self._marks:
            self._marks[cell.entry.folder] = mark(self.suite, cell.entry, self.floor_length(cell))
        return self._marks[cell.entry.folder]

    def floor(self, cell: Cell, lockstep: int | None) -> FloorFile:
        """Where the noise floor of a cell's case is among the results, or will be.

        The suite's own is put there first, so that the results can be compared again without the suite.
        """
        wanted = self.floor_in(self.options.out / "floors", cell, lockstep)
        path = Path(wanted.path)
        if path not in self._placed:
            shipped = self.shipped(wanted)
            if shipped is not None and not (path.exists() and filecmp.cmp(shipped, path, shallow=False)):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, shipped.read_bytes(), self.options.out)
            self._placed.add(path)
        return wanted

    def floor_in(self, folder: Path, cell: Cell, lockstep: int | None) -> FloorFile:
        """What the noise floor of a cell's case is called in a folder of floors, and the mark that it must bear."""
        return FloorFile(str(folder / floor_name(cell.entry.folder, lockstep, cell.dtype)), self.mark(cell))

    def shipped(self, floor: FloorFile) -> Path | None:
        """The suite's own file of a floor; None where it has none, or one that was measured on something else."""
        if self.suite.floors is None:
            return None
        own = self.suite.floors / Path(floor.path).name
        return None if load(own, floor.mark) is None else own


def framework_variables(cell: Cell) -> dict[str, str]:
    """The variables of a cell's worker that frameworks and their libraries read by themselves."""
    variables = worker_environment(framework_of(cell.implementation).name, device=cell.device)
    return {name: value for name, value in variables.items() if name.startswith(READ_BY_FRAMEWORKS)}
