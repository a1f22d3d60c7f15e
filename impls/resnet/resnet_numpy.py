"""A small residual network in NumPy, derivatives by hand: through BatchNorm those of the batch's statistics, too."""

from typing import Any

from impls.resnet.spec import EPSILON, MOMENTUM
from parity import nn
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer

Cache = tuple[Params, Params]
"""What each layer was given or, if it is a ReLU, gave; and the running statistics after the forward pass."""


def window(kernel: Array, stride: int) -> dict[str, Any]:
    """How a kernel slides: as many zeros on every side as it reaches beyond its middle."""
    reach = (kernel.shape[0] // 2,) * 2
    return {"stride": (stride, stride), "padding": (reach, reach), "dilation": (1, 1)}


def forward(params: Params, x: Array, training: bool) -> tuple[Array, Cache]:
    kept, moved = Params(), Params()

    def conv(h: Array, name: str, stride: int = 1) -> Array:
        kept[name], kernel = h, params[f"{name}/kernel"]
        return nn.conv(h, kernel, **window(kernel, stride))  # (n, h, w, in) -> (n, h / stride, w / stride, out)

    def norm(h: Array, name: str) -> Array:
        kept[name] = h
        mean, variance, scale, bias = (params[f"{name}/{role}"] for role in ("mean", "variance", "scale", "bias"))
        h, moved[f"{name}/mean"], moved[f"{name}/variance"] = nn.batch_norm(
            h, mean, variance, scale, bias, epsilon=EPSILON, momentum=MOMENTUM, training=training
        )
        return h

    def relu(h: Array, name: str) -> Array:
        kept[name] = nn.relu(h)
        return kept[name]

    def block(h: Array, name: str, stride: int) -> Array:
        a = relu(norm(conv(h, f"{name}/conv1", stride), f"{name}/norm1"), f"{name}/relu1")
        a = norm(conv(a, f"{name}/conv2"), f"{name}/norm2")
        if stride > 1:
            h = norm(conv(h, f"{name}/projection", stride), f"{name}/projection_norm")
        return relu(a + h, f"{name}/relu2")

    h = relu(norm(conv(x, "conv"), "norm"), "relu")  # (n, 8, 8, 1) -> (n, 8, 8, 6)
    h = block(block(h, "block1", 1), "block2", 2)  # (n, 8, 8, 6) -> (n, 4, 4, 12)
    kept["dense"] = nn.global_average_pool(h)  # (n, 4, 4, 12) -> (n, 12)
    return kept["dense"] @ params["dense/kernel"] + params["dense/bias"], (kept, moved)  # (n, 12) -> (n, 10)


def backward(params: Params, cache: Cache, d_logits: Array) -> Params:
    kept, moved = cache
    gradients = Params()

    def conv(d: Array, name: str, stride: int = 1) -> Array:
        kernel = params[f"{name}/kernel"]
        d, gradients[f"{name}/kernel"], _ = nn.conv_backward(d, kept[name], kernel, **window(kernel, stride))
        return d

    def norm(d: Array, name: str) -> Array:
        mean, variance, scale = (params[f"{name}/{role}"] for role in ("mean", "variance", "scale"))
        d, gradients[f"{name}/scale"], gradients[f"{name}/bias"] = nn.batch_norm_backward(
            d, kept[name], mean, variance, scale, epsilon=EPSILON, training=True
        )
        return d

    def block(d: Array, name: str, stride: int) -> Array:
        d = through = nn.relu_backward(d, kept[f"{name}/relu2"])
        d = nn.relu_backward(conv(norm(d, f"{name}/norm2"), f"{name}/conv2"), kept[f"{name}/relu1"])
        d = conv(norm(d, f"{name}/norm1"), f"{name}/conv1", stride)
        if stride > 1:
            through = conv(norm(through, f"{name}/projection_norm"), f"{name}/projection", stride)
        return d + through

    gradients["dense/kernel"] = kept["dense"].T @ d_logits
    gradients["dense/bias"] = d_logits.sum(0)
    d = d_logits @ params["dense/kernel"].T  # (n, 10) -> (n, 12)
    d = nn.global_average_pool_backward(d, kept["block2/relu2"])  # (n, 12) -> (n, 4, 4, 12)
    d = block(block(d, "block2", 2), "block1", 1)  # (n, 4, 4, 12) -> (n, 8, 8, 6)
    conv(norm(nn.relu_backward(d, kept["relu"]), "norm"), "conv")
    return gradients | moved


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
