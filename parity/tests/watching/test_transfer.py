"""Initial weights carried from one framework's model into another's; what is ambiguous is refused, and nothing set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import transfer
from parity.recorder import Recorder


def network() -> Any:
    import torch

    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 8)
    )


def tree() -> dict[str, Any]:
    """Parameters as flax has them, in dictionaries."""
    zeros = np.zeros
    return {
        "Conv_0": {"kernel": zeros((3, 3, 2, 4), np.float32), "bias": zeros(4, np.float32)},
        "BatchNorm_0": {"scale": zeros(4, np.float32), "bias": zeros(4, np.float32)},
        "Dense_0": {"kernel": zeros((16, 8), np.float32), "bias": zeros(8, np.float32)},
        "Dense_1": {"kernel": zeros((8, 8), np.float32), "bias": zeros(8, np.float32)},
        "Dense_2": {"kernel": zeros((8, 8), np.float32), "bias": zeros(8, np.float32)},
    }


def test_a_torch_module_gives_its_weights_to_a_tree_and_gets_them_back() -> None:
    import torch

    model, params = network(), tree()
    found = transfer(model, into=params)
    assert not any(pairing.proven for pairing in found.pairings)
    np.testing.assert_array_equal(params["Conv_0"]["bias"], model[0].bias.detach().numpy())
    np.testing.assert_array_equal(params["BatchNorm_0"]["scale"], model[1].weight.detach().numpy())
    np.testing.assert_array_equal(params["Conv_0"]["kernel"], model[0].weight.detach().numpy().transpose(2, 3, 1, 0))
    for layer, name in ((3, "Dense_0"), (4, "Dense_1"), (5, "Dense_2")):
        np.testing.assert_array_equal(params[name]["kernel"], model[layer].weight.detach().numpy().T)
        np.testing.assert_array_equal(params[name]["bias"], model[layer].bias.detach().numpy())
    other = network()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    transfer(params, into=other)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_is_ambiguous_is_refused_by_name_and_nothing_is_set() -> None:
    model = network()
    params = tree()
    params["head"] = params.pop("Dense_2")  # torch calls it 5, as it calls the others 3 and 4
    with pytest.raises(ValueError, match=r"which is which cannot be told, for they have one shape: .*head"):
        transfer(model, into=params)
    assert not any(np.any(value) for layer in params.values() for value in layer.values())


def test_a_tensor_without_a_partner_and_a_layer_of_unknown_axes_are_refused() -> None:
    import torch

    params = tree()
    del params["Dense_2"]
    with pytest.raises(ValueError, match="which is which cannot be told"):
        transfer(network(), into=params)
    projected = torch.nn.Sequential(torch.nn.LSTM(2, 3, proj_size=2))
    with pytest.raises(ValueError, match="is of a LSTM whose axes are not known"):
        transfer(projected, into={"lstm": {"kernel": np.zeros((2, 12))}})
    with pytest.raises(ValueError, match="not a int"):
        transfer(3, into=params)


def test_a_kernel_lies_as_its_bias_tells_and_a_square_one_as_the_others() -> None:
    """As those of GPT-2 lie in flax, and any of torch's in a file of its weights."""
    import torch

    model = network()
    saved = {name: value.detach().numpy() for name, value in model.named_parameters()}
    params = tree()
    transfer(saved, into=params)
    for layer, name in ((3, "Dense_0"), (4, "Dense_1"), (5, "Dense_2")):
        np.testing.assert_array_equal(params[name]["kernel"], model[layer].weight.detach().numpy().T)
    np.testing.assert_array_equal(params["Conv_0"]["kernel"], model[0].weight.detach().numpy().transpose(2, 3, 1, 0))
    back = {name: torch.zeros_like(value) for name, value in model.state_dict().items() if name in saved}
    transfer(params, into=(held := {name: value.numpy() for name, value in back.items()}))
    for name, value in saved.items():
        np.testing.assert_array_equal(held[name], value)


def test_a_constant_of_the_code_is_no_weight_and_a_tensor_of_unequal_axes_needs_no_kind() -> None:
    import torch

    class Positions(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(3, 4)
            self.positions = torch.nn.Parameter(torch.randn(1, 5, 3))
            self.register_buffer("mask", torch.ones(7, 6), persistent=False)

    model = Positions()
    params = {"inner": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}, "positions": np.zeros((1, 5, 3))}
    transfer(model, into=params)
    np.testing.assert_array_equal(params["positions"], model.positions.detach().numpy())
    model.positions = torch.nn.Parameter(torch.randn(3, 3))
    with pytest.raises(ValueError, match="positions is of a Positions whose axes are not known"):
        transfer(model, into=params | {"positions": np.zeros((3, 3))})


def test_a_recording_gives_the_weights_that_it_begins_with(tmp_path: Path) -> None:
    kernel = np.arange(6.0).reshape(2, 3)
    with Recorder(tmp_path / "run", "float64", implementation="torch") as run:
        run.snapshot({"0.weight": kernel})
        run.describe(layers=[{"name": "0", "kind": "Linear"}])
    params = {"Dense_0": {"kernel": np.zeros((3, 2))}}
    transfer(tmp_path / "run", into=params)
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], kernel.T)
    with pytest.raises(ValueError, match="a recording stays as it is"):
        transfer(params, into=tmp_path / "run")
