"""Which of a framework's tensors has which weight decay, and whether they can be clipped one by one."""

from __future__ import annotations

from parity.layout import Layout
from parity.spec import Optimizer, decay_of


def decays(rule: Optimizer, layout: Layout) -> dict[str, float]:
    """Give the weight decay of each of a framework's tensors.

    Args:
        rule: The optimizer, which says it by canonical names.
        layout: Which canonical tensor is which of the framework's.

    Returns:
        The decay by the framework's name.

    Raises:
        ValueError: If a tensor of the framework holds several of the case's, and one of them decays otherwise; or if
            each of the case's is to be clipped by its own norm, and the framework's are other ones.

    Examples:
        >>> from parity.layout import Slot
        >>> from parity.spec import AdamW
        >>> layout = [Slot("dense/kernel", "weight", axes=(1, 0)), Slot("dense/bias", "bias")]
        >>> decays(AdamW(0.1, weight_decay=0.5, decayed=("kernel",)), layout)
        {'weight': 0.5, 'bias': 0.0}
    """
    found: dict[str, float] = {}
    for slot in layout:
        own = decay_of(rule, slot.canonical)
        if found.setdefault(slot.framework, own) != own:
            raise ValueError(f"{slot.framework} holds {slot.canonical} and others, whose weight decays differ")
    by_tensor = rule.clipping is not None and rule.clipping.kind == "norm"
    if by_tensor and any(slot.index is not None or slot.block is not None for slot in layout):
        raise ValueError("a case whose tensors are clipped one by one needs a layout that keeps them as they are")
    return found
