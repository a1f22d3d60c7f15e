"""Compare the runs of every two environments: ``python .ci/cross.py FOLDER``.

Each folder in FOLDER holds the runs that one environment recorded with ``parity run --out``. All pairs are compared,
those of two versions of a framework as well as those of two frameworks. The exit status is the worst that ``parity
diff`` gave.
"""

import subprocess
import sys
from itertools import combinations
from pathlib import Path


def main(folder: Path) -> int:
    roots = sorted(path for path in folder.glob("*") if path.is_dir())
    if len(roots) < 2:
        print(f"{folder} holds {len(roots)} recorded roots, a comparison needs two: run the frameworks' envs first")
        return 2
    statuses = {}
    for a, b in combinations(roots, 2):
        print(f"\n{a.name} against {b.name}", flush=True)
        statuses[a.name, b.name] = subprocess.run(["parity", "diff", str(a), str(b)], check=False).returncode
    parted = [f"{a} and {b} do not agree" for (a, b), status in statuses.items() if status != 0]
    print(f"\n{', '.join(root.name for root in roots)}, pair by pair: {', '.join(parted) or 'all agree'}")
    # A difference (1) weighs more than a pair that could not be compared (2, 3).
    return 1 if 1 in statuses.values() else max(statuses.values())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
