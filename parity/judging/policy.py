"""What is asserted of a run's parameters: said once, for the matrix, the ladder, the report, the diff and the proof."""

from __future__ import annotations

from parity.spec import Case


def asserts_parameters(case: Case | None, dtype: str) -> bool:
    """Whether the verdict on a free run in ``dtype`` rests on its parameters too, and not on its losses alone.

    Rounding may lead the parameters of a case so far away that a free run's say nothing: such a case says
    ``Policy.float32_parameters="lockstep"``, and they are asserted where each stretch starts from the reference's
    state. Only a suite's case can say so. Where there is none (``case=None``) they are asserted: a recording must not
    loosen its own judgement.
    """
    return case is None or dtype == "float64" or case.policy.float32_parameters == "free"
