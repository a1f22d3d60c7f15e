"""``python -m parity.tests.fuzzing [COUNT] [SEED]``: make so many mutations, 200,000 unless told. Status 1 if one goes
wrong. ``COUNT`` may be ``=NUMBER``: that mutation alone, with its traceback."""

from __future__ import annotations

import sys
import time

from parity.tests.fuzzing.fuzz import Found, asked, fuzz

MEMORY = 256
"""The MiB that the process may grow by."""


def main(arguments: list[str]) -> int:
    numbers, seed = asked(arguments, 200_000, "Change recordings at random. Status 1 if a mutation goes wrong.")
    begun = time.perf_counter()

    def progress(number: int, found: Found) -> None:
        if number in found.crashes and len(found.crashes) <= 20:
            print(f"{number} crashed:\n{found.crashes[number]}", flush=True)
        if number % 5000 == 0:
            print(f"{number:,} of {len(numbers):,} in {time.perf_counter() - begun:.0f} s: {found}", flush=True)

    found = fuzz(numbers, seed, progress)
    print(f"{len(numbers):,} mutations with seed {seed} in {time.perf_counter() - begun:.0f} s: {found}")
    kinds: dict[str, list[int]] = {}
    for number, trace in found.crashes.items():
        kinds.setdefault(trace, []).append(number)
    for trace, places in kinds.items():
        print(f"\n{len(places)} times, first at {places[0]}:\n{trace}")
    for what, places in (("false PASS", found.passed), ("hangs", found.hangs)):
        if places:
            print(f"{what}: {places[:20]}")
    if found.memory > MEMORY:
        print(f"the process grew by more than {MEMORY} MiB")
    return 0 if found.sound and found.memory <= MEMORY else 1


sys.exit(main(sys.argv[1:]))
