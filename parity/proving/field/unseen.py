"""Pairs that were written before their author had looked into the catalogue of mistakes, from what people report."""

from __future__ import annotations

from parity.proving.field.pair import Pair
from parity.recording.steps import Phase

_NORM = {"model": "normalized"}
_BLOCK = {"model": "bottleneck"}
_WORDS = {"model": "transformer", "loss": "classes"}

UNSEEN_PAIRS = (
    Pair(
        "normalized-after-attention",
        "A transformer normalizes after attention and its residual, and not before it.",
        "https://github.com/pytorch/pytorch/issues/61165",
        Phase.PREDICTION,
        setup=_WORDS,
        fault={"norm_order": "after"},
        where=r"norm|attention",
        words=r"the same layers in another order",
    ),
    Pair(
        "attention-over-the-batch",
        "PyTorch's attention is not told that the batch comes first, and attends to other examples.",
        "https://github.com/om-ai-lab/OmDet/issues/19",
        Phase.PREDICTION,
        ("flax", "torch"),
        setup=_WORDS | {"attention": "layer", "mask": "missing"},
        fault={"batch_first": False},
        where=r"attention",
        names=("attention-over-the-batch",),
    ),
    Pair(
        "stride-in-the-first-convolution",
        "A bottleneck has its stride in the first convolution, as Caffe's ResNet, and PyTorch's in the second.",
        "https://github.com/pytorch/vision/issues/191",
        Phase.PREDICTION,
        setup=_BLOCK,
        fault={"strided": "first"},
        where=r"first",
        words=r"stride \(2, 2\) against \(1, 1\)",
    ),
    Pair(
        "dilation-dropped",
        "A convolution is not dilated.",
        "https://github.com/bowenc0221/panoptic-deeplab/issues/58",
        Phase.PREDICTION,
        setup=_BLOCK | {"dilation": 2},
        fault={"dilation": 1},
        where=r"second",
        names=("another-dilation",),
        words=r"dilation \(1, 1\) against \(2, 2\)",
    ),
    Pair(
        "group-size-for-groups",
        "The size of a group is taken for the number of groups.",
        "https://github.com/IAmSuyogJadhav/3d-mri-brain-tumor-segmentation-using-autoencoder-regularization/issues/12",
        Phase.PREDICTION,
        setup=_NORM | {"norm": "group"},
        fault={"norm_groups": 2},
        where=r"[Nn]orm",
        names=("another-number-of-groups",),
        words=r"groups 2 against 4",
    ),
    Pair(
        "batch-norm-in-evaluation",
        "A batch norm stays in evaluation while the rest is trained.",
        "https://github.com/facebookresearch/FixRes/issues/9",
        Phase.PREDICTION,
        setup=_NORM | {"norm": "batch"},
        fault={"norm_frozen": True},
        where=r"[Nn]orm",
        names=("running-statistics-in-training", "batch-statistics-in-evaluation"),
    ),
    Pair(
        "scale-kept-less-one",
        "An RMS norm multiplies by its scale, where the scale is kept less one, as Gemma's is.",
        "https://github.com/linkedin/Liger-Kernel/issues/74",
        Phase.PREDICTION,
        setup=_NORM | {"norm": "rms"},
        fault={"norm_offset": False},
        where=r"[Nn]orm",
        names=("norm-scale-plus-one",),
    ),
    Pair(
        "mean-for-the-last-state",
        "The head takes the mean of all states of an LSTM, and not the last one.",
        "https://github.com/KVishnuVardhanR/M3T/issues/2",
        Phase.PREDICTION,
        ("flax", "torch"),
        setup={"model": "recurrent"},
        fault={"taken": "mean"},
        where=r"cell|head",
        words=r"the mean along axis 1",
    ),
    Pair(
        "labels-shifted-twice",
        "The loss shifts labels that were shifted before.",
        "https://github.com/huggingface/transformers/pull/46898",
        Phase.LOSS,
        ("flax", "torch"),
        setup=_WORDS,
        fault={"shifted": True},
        words=r"shift",
    ),
)
"""What they are said to be is what was expected before they were tried; several were not named then."""
