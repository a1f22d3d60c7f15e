"""torch's convolutions. Channels are the second axis, kernels (out, in / groups, *sizes), transposed ones (in, out)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.func import functional_call

from parity.tests.nn.conformance import Asked, Way
from parity.tests.nn.ways.in_torch import first, last, there


def spoken(padding: Any) -> Any:
    return padding.lower() if isinstance(padding, str) else tuple(before for before, _ in padding)


def conv(x: Any, kernel: Any, bias: Any = None, *, padding: Any, **configuration: Any) -> dict[str, Any]:
    *sizes, _, out = kernel.shape
    kind = getattr(nn, f"Conv{len(sizes)}d")
    said = {**configuration, "padding": spoken(padding), "bias": bias is not None, "dtype": x.dtype}
    layer = kind(x.shape[-1], out, sizes, **said)
    weight = kernel.movedim((-1, -2), (0, 1))  # (out, in / groups, *sizes)
    return {"output": last(functional_call(layer, there(weight=weight, bias=bias), (first(x),)))}


def conv_transpose(x: Any, kernel: Any, bias: Any = None, *, padding: Any, **configuration: Any) -> dict[str, Any]:
    *sizes, _, out = kernel.shape
    kind = getattr(nn, f"ConvTranspose{len(sizes)}d")
    pairs = [(0, 0)] * len(sizes) if padding == "VALID" else padding
    said = {**configuration, "padding": tuple(before for before, _ in pairs), "bias": bias is not None}
    more = tuple(before - after for before, after in pairs)
    layer = kind(x.shape[-1], out * configuration["groups"], sizes, output_padding=more, dtype=x.dtype, **said)
    weight = kernel.movedim((-2, -1), (0, 1))  # (in, out / groups, *sizes)
    return {"output": last(functional_call(layer, there(weight=weight, bias=bias), (first(x),)))}


def uneven(asked: Asked) -> bool:
    padding = asked.configuration["padding"]
    return not isinstance(padding, str) and any(before != after for before, after in padding)


def behind(asked: Asked) -> bool:
    """output_padding adds behind, less than the stride or the dilation is long."""
    padding, steps = (asked.configuration[word] for word in ("padding", "stride"))
    apart = asked.configuration["dilation"]
    return not isinstance(padding, str) and any(
        not 0 <= before - after < max(step, gap)
        for (before, after), step, gap in zip(padding, steps, apart, strict=True)
    )


def spans(asked: Asked) -> list[int]:
    sizes, apart = asked.arrays["kernel"].shape, asked.configuration["dilation"]
    return [(size - 1) * gap + 1 for size, gap in zip(sizes, apart, strict=False)]


WAYS = (
    Way(
        "conv",
        tuple(f"torch.nn.Conv{n}d" for n in (1, 2, 3)),
        conv,
        cannot={
            "SAME with a stride": lambda asked: (
                asked.configuration["padding"] == "SAME" and max(asked.configuration["stride"]) > 1
            ),
            "other padding before than after": uneven,
        },
    ),
    Way(
        "conv_transpose",
        tuple(f"torch.nn.ConvTranspose{n}d" for n in (1, 2, 3)),
        conv_transpose,
        cannot={
            "SAME": lambda asked: asked.configuration["padding"] == "SAME",
            "VALID with a stride beyond the kernel": lambda asked: (
                asked.configuration["padding"] == "VALID"
                and any(span < step for span, step in zip(spans(asked), asked.configuration["stride"], strict=True))
            ),
            "more padding after than before": behind,
        },
    ),
)
