from __future__ import annotations

import math
import pickle
from typing import get_args

import pytest
import torch
from torch import nn

from ebmcore.errors import SettingsError
from ebmcore.protocols import HasGradient, HasShape
from ebmcore_models.mlp import MLP, Activation

MODULES = {
    "selu": nn.SELU,
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
}


@pytest.mark.parametrize("activation", get_args(Activation))
def test_it_is_the_sequential_network(activation):
    model = MLP(dim=2, hidden=[5, 7], activation=activation, quadratic=0.3).double()
    a, b, c = model.layers
    network = nn.Sequential(a, MODULES[activation](), b, MODULES[activation](), c)
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), network(x).squeeze(-1) + 0.15 * x.square().sum(-1), rtol=1e-13, atol=1e-13)


def test_the_seed_decides_the_weights():
    def weights(seed: int) -> list[float]:
        return torch.cat([p.flatten() for p in MLP(dim=2, seed=seed).parameters()]).tolist()

    assert weights(3) == weights(3)
    assert weights(3) != weights(4)


def test_torchs_global_generator_is_left_alone_and_not_used():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = MLP(dim=2).state_dict()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        again = MLP(dim=2).state_dict()
    assert all(torch.equal(value, first[name]) for name, value in again.items())


def test_weights_are_lecun_normal():
    """100,000 weights: mean 0 within 5 standard errors 1/sqrt(n), variance 1/fan_in within 5 of sqrt(2/n)."""
    weight = MLP(dim=100, hidden=[1000]).layers[0].weight.detach()
    n = weight.numel()
    standard = weight.double() * math.sqrt(100)
    assert abs(float(standard.mean())) < 5 / math.sqrt(n)
    assert abs(float(standard.var()) - 1) < 5 * math.sqrt(2 / n)
    assert not any(layer.bias.any() for layer in MLP(dim=100, hidden=[1000]).layers)


def test_the_names_and_shapes_of_its_weights():
    model = MLP(dim=3, hidden=[4, 5])
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {
        "layers.0.weight": (4, 3),
        "layers.0.bias": (4,),
        "layers.1.weight": (5, 4),
        "layers.1.bias": (5,),
        "layers.2.weight": (1, 5),
        "layers.2.bias": (1,),
    }
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    assert len(MLP(dim=3).layers) == 3


def test_it_fixes_the_shape_and_leaves_the_gradient_to_autograd():
    model = MLP(dim=3)
    assert isinstance(model, HasShape)
    assert model.shape == (3,)
    assert not isinstance(model, HasGradient)


def test_float64_embeds_the_float32_weights():
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(MLP(dim=2).double()(x.double()).float(), MLP(dim=2)(x), rtol=1e-4, atol=1e-5)


def test_it_can_be_pickled():
    model, x = MLP(dim=2, activation="softplus"), torch.ones(3, 2)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_an_unknown_activation_is_refused():
    with pytest.raises(
        SettingsError, match=r"^`activation` must be one of selu, .*, gelu; got 'sellu'. Choose one of these.$"
    ):
        MLP(dim=2, activation="sellu")
