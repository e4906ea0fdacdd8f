"""What holds for every energy of this distribution."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from typing import get_type_hints

import pytest
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebmcore_models.double_well import DoubleWell
from ebmcore_models.gaussian import Gaussian
from ebmcore_models.mlp import MLP

COVARIANCE = [[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]]
ELEMENTWISE = {
    "double_well": DoubleWell(barrier_height=1.3, b=0.7),
    "gaussian": Gaussian(mean=0.3, variance=1.7),
    "gaussian diagonal": Gaussian(mean=[1.0, -2.0, 0.1], variance=[0.1, 1.0, 30.0]),
}
CLOSED = {**ELEMENTWISE, "gaussian full": Gaussian(mean=[1.0, -2.0, 0.1], covariance=COVARIANCE)}
ALL = {**CLOSED, "mlp": MLP(dim=3), "mlp confined": MLP(dim=3, hidden=[8], activation="gelu", quadratic=0.5)}


def cast(model, dtype):
    return model.to(dtype) if isinstance(model, torch.nn.Module) else model


def positions(n, shape=(3,), dtype=torch.float64):
    return 2 * torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(dtype)


@pytest.mark.parametrize("name", CLOSED)
def test_the_closed_gradient_is_autograds(name):
    model, x = cast(CLOSED[name], torch.float64), positions(200)
    leaf = x.clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(model(leaf).sum(), leaf)
    torch.testing.assert_close(model.gradient(x), wanted, rtol=1e-12, atol=1e-12 * float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CLOSED)
def test_value_and_gradient_are_value_and_gradient(name, dtype):
    model, x = cast(CLOSED[name], dtype), positions(130, dtype=dtype)
    kept = x.clone()
    value, gradient = model.value_and_gradient(x)
    assert torch.equal(value, model(x))
    assert torch.equal(gradient, model.gradient(x))
    assert torch.equal(x, kept)
    gradient.zero_()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("name", ALL)
def test_shapes_and_dtypes_follow_x(name, n, dtype):
    model, x = cast(ALL[name], dtype), positions(n, dtype=dtype)
    u = model(x)
    assert (u.shape, u.dtype, u.device) == ((n,), dtype, x.device)
    if hasattr(model, "gradient"):
        g = model.gradient(x)
        assert (g.shape, g.dtype, g.device) == ((n, 3), dtype, x.device)


@pytest.mark.parametrize("name", ALL)
def test_it_works_where_x_is(name):
    """The meta device stands for an accelerator: a tensor left on the CPU raises there."""
    model = cast(copy.deepcopy(ALL[name]), torch.float64)
    model = model.to("meta") if isinstance(model, torch.nn.Module) else model
    x = torch.empty(5, 3, dtype=torch.float64, device="meta")
    assert model(x).device.type == "meta"
    if hasattr(model, "gradient"):
        assert model.gradient(x).device.type == "meta"


@pytest.mark.parametrize("shape", [(), (1,), (2, 2, 4)])
@pytest.mark.parametrize("model", [DoubleWell(), Gaussian(mean=0.5, variance=2.0)], ids=["double_well", "gaussian"])
def test_a_model_without_dim_takes_any_shape(model, shape):
    model, x = cast(model, torch.float64), positions(6, shape)
    flat = x.reshape(6, math.prod(shape))
    torch.testing.assert_close(model(x), model(flat), rtol=1e-14, atol=0)
    torch.testing.assert_close(model.gradient(x).reshape(flat.shape), model.gradient(flat), rtol=0, atol=0)
    assert model(positions(0, shape)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_chains_bits_do_not_depend_on_the_batch(name, dtype):
    """Cut at multiples of 64 chains, as plans cut: with a ragged tail in the last part."""
    model, x = cast(ELEMENTWISE[name], dtype), positions(1000, dtype=dtype)
    value, gradient = model.value_and_gradient(x)
    for cuts in ([0, 64, 1000], [0, 448, 512, 1000], [0, 960, 1000], [*range(0, 1000, 64), 1000]):
        parts = [model.value_and_gradient(x[lo:hi].clone()) for lo, hi in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat([u for u, _ in parts]), value)
        assert torch.equal(torch.cat([g for _, g in parts]), gradient)


@pytest.mark.parametrize("name", ALL)
def test_chains_do_not_influence_each_other(name):
    model, x = cast(ALL[name], torch.float64), positions(9)
    before = model(x)
    x[4] = 100.0
    after = model(x)
    others = torch.arange(9) != 4
    torch.testing.assert_close(after[others], before[others], rtol=1e-13, atol=1e-13)
    assert after[4] != before[4]


@pytest.mark.parametrize("name", ALL)
def test_nan_stays_nan(name):
    """A chain that has left the finite numbers must show it."""
    x = positions(3)
    x[1, 0] = math.nan
    assert cast(ALL[name], torch.float64)(x).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("model", "name", "good", "bad"),
    [
        (MLP, "dim", [1, 3], [0, -1, 2.5, "3"]),
        (MLP, "hidden", [[32], (8, 8)], [[], [0], [2.5], 32, "ab"]),
        (MLP, "activation", ["selu"], ["sellu", 1]),
        (MLP, "seed", [0, 2**40], [-1, 0.5]),
        (MLP, "quadratic", [0.0, 2], [-0.1, "1"]),
        (Gaussian, "mean", [0, 1.5, [0.0, 1.0]], ["0", [[1.0]]]),
        (Gaussian, "variance", [None, 2.0, [1.0]], ["1"]),
        (Gaussian, "covariance", [None, [[1.0]]], [1.0, [1.0]]),
        (Gaussian, "dim", [None, 1], [0, 1.5]),
    ],
)
def test_settings_of_modules_carry_types_bounds_and_descriptions(model, name, good, bad):
    """What the host makes of the annotations: a strict pydantic model."""
    hint = get_type_hints(model.__init__, include_extras=True)[name]
    assert [item.documentation for item in hint.__metadata__ if hasattr(item, "documentation")]
    adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
    for value in good:
        assert adapter.validate_python(value) == value
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
    assert set(get_type_hints(model.__init__)) - {"return"} == set(inspect.signature(model).parameters)
