"""A small GPT as a PyTorch module, with torch's own attention."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

HEADS, EPSILON = 2, 1e-5

LAYOUT = (
    Slot("token/table", "token.weight"),
    Slot("position/table", "position.weight"),
    *(
        slot
        for n in (1, 2)
        for slot in (
            Slot(f"block{n}/norm1/scale", f"block{n}.norm1.weight"),
            Slot(f"block{n}/norm1/bias", f"block{n}.norm1.bias"),
            Slot(f"block{n}/attention/kernel", f"block{n}.attention.weight", axes=(1, 0)),
            Slot(f"block{n}/projection/kernel", f"block{n}.projection.weight", axes=(1, 0)),
            Slot(f"block{n}/projection/bias", f"block{n}.projection.bias"),
            Slot(f"block{n}/norm2/scale", f"block{n}.norm2.weight"),
            Slot(f"block{n}/norm2/bias", f"block{n}.norm2.bias"),
            Slot(f"block{n}/up/kernel", f"block{n}.up.weight", axes=(1, 0)),
            Slot(f"block{n}/up/bias", f"block{n}.up.bias"),
            Slot(f"block{n}/down/kernel", f"block{n}.down.weight", axes=(1, 0)),
            Slot(f"block{n}/down/bias", f"block{n}.down.bias"),
        )
    ),
    Slot("norm/scale", "norm.weight"),
    Slot("norm/bias", "norm.bias"),
)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.attention(self.norm1(x))  # (batch, T, C) -> (batch, T, 3C)
        # (batch, T, 3C) -> three of (batch, heads, T, C / heads)
        query, key, value = joined.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).flatten(2)  # (batch, heads, T, C / heads) -> (batch, T, C)
        h = x + self.projection(mixed)
        hidden = F.gelu(self.up(self.norm2(h)), approximate="tanh")  # (batch, T, C) -> (batch, T, 4C)
        return h + self.down(hidden)  # (batch, T, 4C) -> (batch, T, C)


class Gpt(nn.Module):
    def __init__(self, characters: int, places: int, width: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(characters, width), nn.Embedding(places, width)
        self.block1, self.block2 = Block(width), Block(width)
        self.norm = nn.LayerNorm(width, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.position.weight[: x.shape[1]]  # (batch, T) -> (batch, T, C)
        h = self.block2(self.block1(h))
        return F.linear(self.norm(h), self.token.weight)  # (batch, T, C) -> (batch, T, characters)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    (characters, width), (places, _) = (case.initial()[f"{name}/table"].shape for name in ("token", "position"))
    return module_trainer(case, dtype, device, LAYOUT, Gpt(characters, places, width))
