"""The rule for asserting parameters, the same for the matrix, the ladder, the report, the diff and the proof."""

from __future__ import annotations

from parity.spec import Case


def asserts_parameters(case: Case | None, dtype: str) -> bool:
    """Say whether the verdict on a free run in ``dtype`` rests on its parameters too, and not on its losses alone.

    Rounding may lead a free run's parameters so far away that they say nothing. A case that does so sets
    ``Policy.float32_parameters="lockstep"``: its parameters are asserted in a run whose stretches each start from the
    reference's state. Only a suite's case can set this. Without a case (None) the parameters are asserted, because a
    recording must not loosen its own judgement.
    """
    return case is None or dtype == "float64" or case.policy.float32_parameters == "free"
