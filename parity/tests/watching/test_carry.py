"""Initial weights carried between ports of one model, and proven by one forward pass of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import transfer
from parity.judging.tensors.correspondence import How

SIZE = 8


def same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=2e-4, atol=2e-5)


def inputs(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def torch_of(x: Any) -> Any:
    import torch

    return torch.as_tensor(x)


def layers_named(names: str) -> Any:
    """A torch module whose layers are all of one shape; it mixes them as single-head attention does."""
    import torch

    class Mix(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in names:
                setattr(self, name, torch.nn.Linear(SIZE, SIZE))

        def forward(self, x: Any) -> Any:
            q, k, v, o = (getattr(self, name) for name in names)
            return o(torch.softmax(q(x) @ k(x).mT, -1) @ v(x))

    torch.manual_seed(0)
    return Mix()


def compact() -> tuple[Any, dict[str, Any]]:
    import jax
    from flax import linen as nn

    class Mix(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            q, k, v = (nn.Dense(SIZE)(x) for _ in range(3))
            return nn.Dense(SIZE)(nn.softmax(q @ k.mT) @ v)

    module = Mix()
    return module, module.init(jax.random.key(0), np.zeros((2, 3, SIZE), np.float32))


def test_layers_named_by_letters_are_not_sorted_by_them_but_refused() -> None:
    _, variables = compact()
    before = {name: np.array(layer["kernel"]) for name, layer in variables["params"].items()}
    with pytest.raises(ValueError, match=r"cannot be told.*k, o, q, v and Dense_0, Dense_1, Dense_2, Dense_3; say it"):
        transfer(layers_named("qkvo"), into=variables["params"])
    for name, kernel in before.items():
        np.testing.assert_array_equal(variables["params"][name]["kernel"], kernel)


def test_a_mapping_says_which_is_which(tmp_path: Path) -> None:
    module, params = layers_named("qkvo"), compact()[1]["params"]
    said = {"q": "Dense_0", "k.weight": "Dense_1/kernel", "v": "Dense_2"}
    found = transfer(module, into=params, mapping=said)  # and o is what is left
    for name, layer in zip("qkvo", range(4), strict=True):
        np.testing.assert_array_equal(params[f"Dense_{layer}"]["kernel"], getattr(module, name).weight.detach().T)
    path = tmp_path / "map.json"
    path.write_text(json.dumps(found.as_json()))
    _, again = compact()
    again = again["params"]
    transfer(module, into=again, mapping=path)
    for name in params:
        np.testing.assert_array_equal(again[name]["bias"], params[name]["bias"])
    with pytest.raises(ValueError, match="the mapping names x, and the source has no such layer"):
        transfer(module, into=params, mapping={"x": "Dense_0"})
    with pytest.raises(ValueError, match="two layers of the source one partner"):
        transfer(module, into=params, mapping={"q": "Dense_0", "k": "Dense_0"})


@pytest.mark.parametrize("names", ["qkvo", "okvq", "abcd"])
def test_a_forward_pass_tells_and_proves_what_names_do_not(names: str) -> None:
    module, (net, variables) = layers_named(names), compact()
    x = inputs(2, 3, SIZE)
    found = transfer(module, into=(net, variables), inputs=x)
    assert found.notes[0] == "the outputs of one forward pass of both models agree within rounding"
    # A bias of the keys moves every score of a row alike, but no layer can be taken for another.
    assert found.certain
    assert {pairing.how for pairing in found.pairings} == {How.FORWARD}
    same(net.apply(variables, x), module(torch_of(x)).detach())
    assert found.pairing_of("Dense_3/kernel").names[0] == (f"{names[3]}.weight",)


def test_the_order_of_definition_is_not_that_of_execution() -> None:
    import jax
    import torch
    from flax import linen as nn

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp_out, self.mlp_in = torch.nn.Linear(SIZE, SIZE), torch.nn.Linear(SIZE, SIZE)

        def forward(self, x: Any) -> Any:
            return self.mlp_out(torch.relu(self.mlp_in(x)))

    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.relu(nn.Dense(SIZE)(x))
            return nn.Dense(SIZE)(x)

    torch.manual_seed(0)
    model, x = Torch(), inputs(4, SIZE)
    variables = Flax().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="cannot be told"):
        transfer(model, into=variables["params"])
    found = transfer(model, into=(Flax(), variables), inputs=x)
    assert found.pairing_of("Dense_0/kernel").names[0] == ("mlp_in.weight",)
    # A tree of the parameters alone will do.
    transfer(model, into=(Flax(), variables["params"]), inputs=x)
    # What gives something else is refused, and the weights stay.
    before = np.array(variables["params"]["Dense_0"]["kernel"])
    with pytest.raises(ValueError, match="do not agree in any of the 2 pairings"):
        transfer(model, into=(lambda v, x: 2 * Flax().apply(v, x), variables), inputs=x)
    np.testing.assert_array_equal(variables["params"]["Dense_0"]["kernel"], before)


def test_layers_that_the_output_does_not_tell_apart_are_refused_unless_they_are_equal() -> None:
    import torch

    class Sum(torch.nn.Module):
        def __init__(self, a: str, b: str) -> None:
            super().__init__()
            self.names = a, b
            for name in self.names:
                setattr(self, name, torch.nn.Linear(SIZE, SIZE))

        def forward(self, x: Any) -> Any:
            return sum(getattr(self, name)(x) for name in self.names)

    one, other, x = Sum("left", "right"), Sum("up", "down"), inputs(4, SIZE)
    before = other.up.weight.detach().clone()
    with pytest.raises(ValueError, match=r"would with up\.weight and down\.weight exchanged"):
        transfer(one, into=other, inputs=x)
    assert torch.equal(before, other.up.weight)
    # Without a forward pass the order in which the code defines them is taken, and said to be unproven.
    assert not any(pairing.proven for pairing in transfer(one, into=other).pairings)
    assert torch.equal(other.down.weight, one.right.weight)
    one.right.load_state_dict(one.left.state_dict())
    found = transfer(one, into=other, inputs=x)
    assert torch.equal(other.up.weight, one.left.weight)
    assert not found.certain  # equal values tell nothing, and none is in a wrong place


def test_blocks_of_a_transformer_are_paired_by_their_numbers_and_the_layers_in_them_by_the_forward_pass() -> None:
    import jax
    import torch
    from flax import linen as nn

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(SIZE)
            for name in "qkvo":
                setattr(self, name, torch.nn.Linear(SIZE, SIZE))

        def forward(self, x: Any) -> Any:
            y = self.norm(x)
            return x + self.o(torch.softmax(self.q(y) @ self.k(y).mT, -1) @ self.v(y))

    class FlaxBlock(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            y = nn.LayerNorm(epsilon=1e-5)(x)
            v, q, k = (nn.Dense(SIZE)(y) for _ in range(3))
            return x + nn.Dense(SIZE)(nn.softmax(q @ k.mT) @ v)

    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(2):
                x = FlaxBlock()(x)
            return nn.Dense(2, name="head")(x)

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h = torch.nn.ModuleList(Block() for _ in range(2))
            self.out = torch.nn.Linear(SIZE, 2)

        def forward(self, x: Any) -> Any:
            for block in self.h:
                x = block(x)
            return self.out(x)

    torch.manual_seed(0)
    model, x = Torch(), inputs(2, 3, SIZE)
    variables = Flax().init(jax.random.key(0), x)
    found = transfer(model, into=(Flax(), variables), inputs=x)
    assert found.pairing_of("FlaxBlock_1/Dense_0/kernel").names[0] == ("h.1.v.weight",)
    # The normalizations begin with ones and zeros: nothing tells them apart, and none can be in a wrong place.
    same(Flax().apply(variables, x), model(torch_of(x)).detach())


def test_numbers_that_count_otherwise_are_no_order() -> None:
    def tree(names: Any) -> dict[str, Any]:
        return {name: {"kernel": inputs(3, 3)} for name in names}

    one = tree(f"layers.{i}.proj{j}" for i in range(2) for j in range(2))
    other = tree(f"proj{j}.layers{i}" for i in range(2) for j in range(2))
    with pytest.raises(ValueError, match="which is which cannot be told"):
        transfer(one, into=other)
    blocks = tree(f"block_{i}.proj{j}" for i in range(2) for j in range(2))
    transfer(one, into=blocks)
    np.testing.assert_array_equal(blocks["block_1.proj0"]["kernel"], one["layers.1.proj0"]["kernel"])


def test_equal_names_are_paired_whatever_the_order() -> None:
    module = layers_named("qkvo")
    params = {name: {"kernel": np.zeros((SIZE, SIZE)), "bias": np.zeros(SIZE)} for name in "ovkq"}
    found = transfer(module, into=params)
    for name in "qkvo":
        np.testing.assert_array_equal(params[name]["kernel"], getattr(module, name).weight.detach().T)
    assert {pairing.how for pairing in found.pairings} == {How.NAME}


HEADS = 2


def flax_attention() -> tuple[Any, dict[str, Any]]:
    import jax
    from flax import linen as nn

    net = nn.MultiHeadDotProductAttention(HEADS, qkv_features=SIZE)
    return net, net.init(jax.random.key(0), np.zeros((2, 3, SIZE), np.float32))


def torch_attention() -> Any:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                setattr(self, name, torch.nn.Linear(SIZE, SIZE))

        def forward(self, x: Any) -> Any:
            q, k, v = (
                layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
            )
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out_proj(y.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    return Attention()


def test_kernels_of_attention_are_reshaped_to_their_heads_and_back() -> None:
    import torch

    model, (net, variables), x = torch_attention(), flax_attention(), inputs(2, 3, SIZE)
    with pytest.raises(ValueError, match="cannot be told"):
        transfer(model, into=variables["params"])
    found = transfer(model, into=(net, variables), inputs=x)
    same(net.apply(variables, x), model(torch_of(x)).detach())
    (slot,) = found.pairing_of("query/kernel").ours
    assert (slot.framework, slot.axes, slot.shape) == ("q_proj.weight", ((1, 2), 0), (SIZE, HEADS, SIZE // HEADS))
    other = torch_attention()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    transfer((net, variables), into=other, inputs=x)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_fused_attention_of_torch_is_taken_apart_and_put_together() -> None:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(SIZE, HEADS, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x, need_weights=False)[0]

    torch.manual_seed(0)
    model, (net, variables), x = Attention(), flax_attention(), inputs(2, 3, SIZE)
    torch.nn.init.normal_(model.attention.in_proj_bias)
    found = transfer(model, into=(net, variables), inputs=x)
    assert found.certain
    same(net.apply(variables, x), model(torch_of(x)).detach())
    other = Attention()
    transfer(variables, into=other)  # no forward pass is needed
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def gru(kind: str = "GRU") -> Any:
    import torch

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(3, 4, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.rnn(x)[0]

    torch.manual_seed(0)
    return Torch()


def test_a_layer_of_three_gates_goes_to_flax_and_back() -> None:
    import jax
    import torch
    from flax import linen as nn

    net, model, x = nn.RNN(nn.GRUCell(4)), gru(), inputs(2, 5, 3)
    variables = net.init(jax.random.key(0), x)
    found = transfer(model, into=(net, variables), inputs=x)
    same(net.apply(variables, x), model(torch_of(x)).detach())
    assert "it was given their sum" in found.notes[1]
    other = gru()
    transfer((net, variables), into=other, inputs=x)
    same(other(torch_of(x)).detach(), model(torch_of(x)).detach())
    assert not torch.any(other.rnn.bias_hh_l0[:8])


def test_a_cell_of_nnx_without_a_hidden_bias_takes_no_other() -> None:
    import torch
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.rnn = nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))

        def __call__(self, x: Any) -> Any:
            return self.rnn(x)

    net, model, x = Net(), gru(), inputs(2, 5, 3)
    with pytest.raises(ValueError, match="has no hidden bias of its gate n"):
        transfer(model, into=net, inputs=x)
    with torch.no_grad():
        model.rnn.bias_hh_l0[8:] = 0
    transfer(model, into=net, inputs=x)
    same(net(x), model(torch_of(x)).detach())


@pytest.mark.parametrize("cell", ["linen", "nnx", "nnx beside each other"])
def test_a_layer_of_four_gates_goes_to_flax_and_back(cell: str) -> None:
    import jax
    import torch
    from flax import linen, nnx

    class Net(nnx.Module):
        def __init__(self) -> None:
            kind = nnx.LSTMCell if cell == "nnx" else nnx.OptimizedLSTMCell
            self.rnn = nnx.RNN(kind(3, 4, rngs=nnx.Rngs(0)))

        def __call__(self, x: Any) -> Any:
            return self.rnn(x)

    model, x = gru("LSTM"), inputs(2, 5, 3)
    if cell == "linen":
        module = linen.RNN(linen.OptimizedLSTMCell(4))
        variables = module.init(jax.random.key(0), x)
        net: Any = module, variables
    else:
        net = Net()
    found = transfer(model, into=net, inputs=x)
    same(module.apply(variables, x) if cell == "linen" else net(x), model(torch_of(x)).detach())
    assert "has one bias where rnn_l0 adds two: it was given their sum" in found.notes[1]
    other = gru("LSTM")
    transfer(net, into=other, inputs=x)
    same(other(torch_of(x)).detach(), model(torch_of(x)).detach())
    assert not torch.any(other.rnn.bias_hh_l0)


@pytest.mark.parametrize(("kind", "layer"), [("LSTM", "LSTM"), ("RNN", "SimpleRNN")])
def test_keras_takes_a_recurrent_layer_of_torch_and_gives_it_back(kind: str, layer: str) -> None:
    import keras
    import torch

    net = keras.Sequential([keras.Input((5, 3)), getattr(keras.layers, layer)(4, return_sequences=True)])
    model, x = gru(kind), inputs(2, 5, 3)
    transfer(model, into=net, inputs=x)
    same(net(x), model(torch_of(x)).detach())
    other = gru(kind)
    transfer(net, into=other, inputs=x)
    same(other(torch_of(x)).detach(), model(torch_of(x)).detach())
    assert not torch.any(other.rnn.bias_hh_l0)


def test_keras_takes_a_model_of_torch_whose_layers_lie_otherwise() -> None:
    import keras
    import torch

    layers = keras.layers
    image = keras.Input((4, 4, 3))
    y = layers.Conv2DTranspose(5, 3, strides=2, padding="valid", name="up")(image)
    y = layers.BatchNormalization(epsilon=1e-5, name="normed")(y)
    y = layers.Reshape((9, 45))(y)
    y = layers.GRU(4, return_sequences=True, name="rnn")(y)
    net = keras.Model(image, layers.Dense(2, name="last")(y), name="net")

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deconv, self.bn = torch.nn.ConvTranspose2d(3, 5, 3, stride=2), torch.nn.BatchNorm2d(5)
            self.gru, self.fc = torch.nn.GRU(45, 4, batch_first=True), torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            y = self.bn(self.deconv(x)).permute(0, 2, 3, 1).reshape(len(x), 9, 45)
            return self.fc(self.gru(y)[0])

    torch.manual_seed(0)
    model, x = Torch(), inputs(2, 4, 4, 3)
    found = transfer(model, into=net, inputs=x.transpose(0, 3, 1, 2), into_inputs=x)
    assert found.certain, found.lines
    assert model.training
    with torch.no_grad():
        same(net(x), model.eval()(torch_of(x.transpose(0, 3, 1, 2))))
    # One bias for both is another layer.
    plain = keras.Sequential([keras.Input((5, 3)), layers.GRU(4, reset_after=False)])
    with pytest.raises(ValueError, match="Build it with reset_after=True"):
        transfer(gru(), into=plain)


@pytest.mark.parametrize("channels", [(3, 5), (4, 4)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_transposed_convolution_is_turned_as_flax_has_it(channels: tuple[int, int], transposed: bool) -> None:
    import jax
    import torch
    from flax import linen as nn

    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.ConvTranspose(channels[1], (3, 3), (2, 2), "VALID", transpose_kernel=transposed)(x)

    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.ConvTranspose2d(*channels, 3, stride=2)), inputs(2, 4, 4, channels[0])
    variables = Flax().init(jax.random.key(0), x)
    if channels == (4, 4):
        with pytest.raises(ValueError, match="which of its axes is which cannot be told of ConvTranspose_0/kernel"):
            transfer(model, into=variables["params"])
    else:
        transfer(model, into=variables["params"])
    transfer(model, into=(Flax(), variables), inputs=x.transpose(0, 3, 1, 2), into_inputs=x)
    expected = model(torch_of(x.transpose(0, 3, 1, 2))).detach().permute(0, 2, 3, 1)
    same(Flax().apply(variables, x), expected)


def test_an_nnx_model_says_how_its_kernels_lie() -> None:
    import torch
    from flax import nnx

    net = nnx.ConvTranspose(4, 4, (3, 3), (2, 2), padding="VALID", rngs=nnx.Rngs(0))

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.up = net

        def __call__(self, x: Any) -> Any:
            return self.up(x)

    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 4, 3, stride=2)), inputs(2, 3, 3, 4)
    transfer(model, into=Net())
    same(net(x), model(torch_of(x.transpose(0, 3, 1, 2))).detach().permute(0, 2, 3, 1))


def linear_of_gpt2() -> Any:
    """Hugging Face's linear layer, made anew here: its weight is (in, out)."""
    import torch

    class Conv1D(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(SIZE, SIZE))
            self.bias = torch.nn.Parameter(torch.zeros(SIZE))

        def forward(self, x: Any) -> Any:
            return x @ self.weight + self.bias

    return Conv1D()


def test_the_linear_layer_of_gpt2_keeps_its_axes() -> None:
    import torch

    torch.manual_seed(0)
    model, x = torch.nn.Sequential(linear_of_gpt2()), inputs(4, SIZE)
    params = {"Dense_0": {"kernel": np.zeros((SIZE, SIZE)), "bias": np.zeros(SIZE)}}
    found = transfer(model, into=(lambda p, x: x @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], params), inputs=x)
    assert found.certain
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], model[0].weight.detach())
    with pytest.raises(ValueError, match="do not agree with these weights"):
        transfer(model, into=(lambda p, x: x @ p["Dense_0"]["kernel"].T + p["Dense_0"]["bias"], params), inputs=x)


def test_a_forward_pass_needs_models_that_can_be_called() -> None:
    module, (_, variables) = layers_named("qkvo"), compact()
    with pytest.raises(ValueError, match="takes models that can be called"):
        transfer(module, into=variables["params"], inputs=inputs(2, 3, SIZE))
