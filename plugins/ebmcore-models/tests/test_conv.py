from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import nn

from ebmcore.protocols import HasGradient, HasShape
from ebmcore_models.conv import Conv


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 5), (2, 4), (1, 7)])
def test_it_is_the_sequential_network(channels, size):
    model = Conv(channels=channels, size=size, width=4, quadratic=0.3).double()
    a, b, c = model.layers
    network = nn.Sequential(a, nn.SiLU(), b, nn.SiLU(), nn.Flatten(), c)
    x = torch.randn(5, *model.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = network(x).squeeze(-1) + 0.15 * x.square().sum((1, 2, 3))
    torch.testing.assert_close(model(x), wanted, rtol=1e-12, atol=1e-12)


def test_the_names_and_shapes_of_its_weights():
    model = Conv(channels=3, size=13, width=8)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {
        "layers.0.weight": (8, 3, 3, 3),
        "layers.0.bias": (8,),
        "layers.1.weight": (16, 8, 3, 3),
        "layers.1.bias": (16,),
        "layers.2.weight": (1, 16 * 4 * 4),
        "layers.2.bias": (1,),
    }
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())


def test_the_seed_decides_the_weights():
    def weights(seed: int) -> list[float]:
        return torch.cat([p.flatten() for p in Conv(size=8, width=4, seed=seed).parameters()]).tolist()

    assert weights(3) == weights(3)
    assert weights(3) != weights(4)


def test_torchs_global_generator_is_left_alone_and_not_used():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = Conv(size=8).state_dict()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        again = Conv(size=8).state_dict()
    assert all(torch.equal(value, first[name]) for name, value in again.items())


def test_weights_are_lecun_normal():
    """Of all three layers: mean 0 within 5 standard errors 1/sqrt(n), variance 1/fan_in within 5 of sqrt(2/n)."""
    model = Conv(channels=3, width=64)
    for layer, fan_in in zip(model.layers, (3 * 9, 64 * 9, 128 * 49), strict=True):
        standard = layer.weight.detach().double() * math.sqrt(fan_in)
        n = standard.numel()
        assert abs(float(standard.mean())) < 5 / math.sqrt(n)
        assert abs(float(standard.var()) - 1) < 5 * math.sqrt(2 / n)
        assert not layer.bias.any()


def test_it_fixes_the_shape_and_leaves_the_gradient_to_autograd():
    model = Conv()
    assert isinstance(model, HasShape)
    assert model.shape == (1, 28, 28)
    assert not isinstance(model, HasGradient)


def test_it_can_be_pickled():
    model, x = Conv(size=6, width=3, quadratic=0.1), torch.ones(3, 1, 6, 6)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
