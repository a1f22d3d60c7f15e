"""A small residual network as a PyTorch module, with a BatchNorm whose running variance is the biased one."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from impls.resnet.spec import EPSILON, MOMENTUM
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

ROLES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def layout(case: Case) -> Layout:
    """A kernel's axes are (height, width, in, out) in the case, (out, in, height, width) in torch."""

    def slot(name: str, dimensions: int) -> Slot:
        layer, role = name.rsplit("/", 1)
        own = f"{layer.replace('/', '.')}.{'weight' if role == 'kernel' else ROLES[role]}"
        return Slot(name, own, axes={4: (3, 2, 0, 1), 2: (1, 0)}.get(dimensions))

    return [slot(name, value.ndim) for name, value in case.initial().items()]


class Norm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` takes n / (n - 1) times the batch's variance into its running one; this takes it as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON, momentum=1 - MOMENTUM)  # torch's momentum is the share that goes

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)  # (n, channels, h, w) -> (channels,)
            self.running_mean.mul_(MOMENTUM).add_(mean, alpha=1 - MOMENTUM)
            self.running_var.mul_(MOMENTUM).add_(variance, alpha=1 - MOMENTUM)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def conv(channels: int, out: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(channels, out, 3, stride), Norm(out)
        self.conv2, self.norm2 = conv(out, out, 3, 1), Norm(out)
        self.stride = stride
        if stride > 1:
            self.projection, self.projection_norm = conv(channels, out, 1, stride), Norm(out)

    def forward(self, h: Tensor) -> Tensor:
        a = F.relu(self.norm1(self.conv1(h)))
        a = self.norm2(self.conv2(a))
        if self.stride > 1:
            h = self.projection_norm(self.projection(h))
        return F.relu(a + h)


class ResNet(nn.Module):
    def __init__(self, width: int, wider: int, classes: int) -> None:
        super().__init__()
        self.conv, self.norm = conv(1, width, 3, 1), Norm(width)
        self.block1, self.block2 = Block(width, width, 1), Block(width, wider, 2)
        self.dense = nn.Linear(wider, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = x.permute(0, 3, 1, 2)  # (n, 8, 8, 1) -> (n, 1, 8, 8)
        h = F.relu(self.norm(self.conv(h)))  # (n, 1, 8, 8) -> (n, 6, 8, 8)
        h = self.block2(self.block1(h))  # (n, 6, 8, 8) -> (n, 12, 4, 4)
        return self.dense(h.mean((2, 3)))  # (n, 12, 4, 4) -> (n, 12) -> (n, 10)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    initial = case.initial()
    width, (wider, classes) = len(initial["norm/scale"]), initial["dense/kernel"].shape
    return module_trainer(case, dtype, device, layout(case), ResNet(width, wider, classes))
