"""What holds for every energy of this distribution."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import math
from typing import get_type_hints

import pytest
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebmcore_models.ackley import Ackley
from ebmcore_models.conv import Conv
from ebmcore_models.double_well import DoubleWell
from ebmcore_models.gaussian import Gaussian
from ebmcore_models.harmonic import Harmonic
from ebmcore_models.mixture import Mixture
from ebmcore_models.mlp import MLP
from ebmcore_models.rastrigin import Rastrigin
from ebmcore_models.rosenbrock import Rosenbrock

COVARIANCE = [[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]]
SEPARABLE = {
    "double_well": DoubleWell(barrier_height=1.3, b=0.7),
    "gaussian": Gaussian(mean=0.3, variance=1.7),
    "harmonic": Harmonic(k=2.3),
    "rastrigin": Rastrigin(a=3.3),
    "ackley": Ackley(a=7.0, b=0.3, c=4.0),
}
MEANS = [[1.0, -2.0, 0.1], [-3.0, 0.0, 0.0], [0.5, 2.5, 1.0], [0.0, 0.0, -4.0], [2.0, 2.0, 2.0]]
ELEMENTWISE = {
    **SEPARABLE,
    "gaussian diagonal": Gaussian(mean=[1.0, -2.0, 0.1], variance=[0.1, 1.0, 30.0]),
    "rosenbrock": Rosenbrock(a=0.8, b=3.0, dim=3),
    "mixture": Mixture(MEANS, sds=[0.3, 1.0, 2.0, 0.7, 1.3], proportions=[1.0, 2.0, 0.5, 0.1, 1.0]),
    "mixture of one": Mixture([[1.0, -2.0, 0.1]], sds=0.8),
}
CLOSED = {**ELEMENTWISE, "gaussian full": Gaussian(mean=[1.0, -2.0, 0.1], covariance=COVARIANCE)}
ALL = {
    **CLOSED,
    "mlp": MLP(dim=3),
    "mlp confined": MLP(dim=3, hidden=[8], activation="gelu", quadratic=0.5),
    "conv": Conv(size=6, width=4),
    "conv confined": Conv(channels=2, size=5, width=3, quadratic=0.5),
}


def cast(model, dtype):
    return model.to(dtype) if isinstance(model, torch.nn.Module) else model


def shape_of(model):
    return getattr(model, "shape", (3,))


def positions(n, shape=(3,), dtype=torch.float64):
    return 2 * torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(dtype)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("name", CLOSED)
def test_the_closed_gradient_is_autograds(name, scale):
    """At 200 random points of standard deviation 2 * scale: near the modes, about them and far from all of them."""
    model, x = cast(CLOSED[name], torch.float64), scale * positions(200)
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
    model = cast(ALL[name], dtype)
    x = positions(n, shape_of(model), dtype)
    u = model(x)
    assert (u.shape, u.dtype, u.device) == ((n,), dtype, x.device)
    if hasattr(model, "gradient"):
        g = model.gradient(x)
        assert (g.shape, g.dtype, g.device) == (x.shape, dtype, x.device)
        assert g.is_contiguous()


@pytest.mark.parametrize("name", ALL)
def test_it_works_where_x_is(name):
    """The meta device stands for an accelerator: a tensor left on the CPU raises there."""
    model = cast(copy.deepcopy(ALL[name]), torch.float64)
    model = model.to("meta") if isinstance(model, torch.nn.Module) else model
    x = torch.empty(5, *shape_of(model), dtype=torch.float64, device="meta")
    assert model(x).device.type == "meta"
    if hasattr(model, "gradient"):
        assert model.gradient(x).device.type == "meta"


@pytest.mark.parametrize("shape", [(), (1,), (2, 2, 4)])
@pytest.mark.parametrize("name", SEPARABLE)
def test_a_model_without_dim_takes_any_shape(name, shape):
    model, x = cast(SEPARABLE[name], torch.float64), positions(6, shape)
    assert not hasattr(model, "shape")
    flat = x.reshape(6, math.prod(shape))
    torch.testing.assert_close(model(x), model(flat), rtol=1e-14, atol=0)
    torch.testing.assert_close(model.gradient(x).reshape(flat.shape), model.gradient(flat), rtol=0, atol=0)
    assert model(positions(0, shape)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_chains_bits_do_not_depend_on_the_batch(name, dtype):
    """Cut at multiples of 64 chains, as plans cut: with a ragged tail of 1, 3, 13 or 40 chains in the last part."""
    model = cast(ELEMENTWISE[name], dtype)
    for n in (961, 963, 973, 1000):
        check_cuts(model, positions(n, dtype=dtype))


def check_cuts(model, x):
    n = len(x)
    value, gradient = model.value_and_gradient(x)
    for cuts in ([0, 64, n], [0, 448, 512, n], [0, 960, n], [*range(0, n, 64), n]):
        parts = [model.value_and_gradient(x[lo:hi].clone()) for lo, hi in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat([u for u, _ in parts]), value)
        assert torch.equal(torch.cat([g for _, g in parts]), gradient)


@pytest.mark.parametrize("name", ALL)
def test_chains_do_not_influence_each_other(name):
    model = cast(ALL[name], torch.float64)
    x = positions(9, shape_of(model))
    before = model(x)
    x[4] = 100.0
    after = model(x)
    others = torch.arange(9) != 4
    torch.testing.assert_close(after[others], before[others], rtol=1e-13, atol=1e-13)
    assert after[4] != before[4]


@pytest.mark.parametrize("name", ALL)
def test_nan_stays_nan(name):
    """A chain that has left the finite numbers must show it."""
    model = cast(ALL[name], torch.float64)
    x = positions(3, shape_of(model))
    x[1].flatten()[0] = math.nan
    assert model(x).isnan().tolist() == [False, True, False]
    if hasattr(model, "gradient"):
        assert model.gradient(x).flatten(1).isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        (Harmonic, {"k": {"gt": 0}, "dim": {"ge": 1}}),
        (Rastrigin, {"a": {"gt": 0}, "dim": {"ge": 1}}),
        (Ackley, {"a": {"ge": 0}, "b": {"gt": 0}, "c": {"gt": 0}, "dim": {"ge": 1}}),
        (Rosenbrock, {"a": {}, "b": {"gt": 0}, "dim": {"ge": 2}}),
        (DoubleWell, {"barrier_height": {"gt": 0}, "b": {"ge": 0}, "dim": {"ge": 1}}),
    ],
)
def test_settings_of_dataclasses_carry_bounds_and_descriptions(model, bounds):
    settings = {f.name: dict(f.metadata) for f in dataclasses.fields(model) if f.init}
    assert all(metadata.pop("description") for metadata in settings.values())
    assert settings == bounds


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
        (Mixture, "means", [[[0.0]], [[1, 2.5], [0.0, 1.0]]], [[], [0.0], 1.0, "0"]),
        (Mixture, "sds", [2, [1.0, 0.5]], ["1", [[1.0]]]),
        (Mixture, "proportions", [None, [1, 2.0]], [1.0, ["1"]]),
        (Conv, "channels", [1, 3], [0, 1.5, "1"]),
        (Conv, "size", [4, 28], [3, 28.5]),
        (Conv, "width", [1, 32], [0]),
        (Conv, "seed", [0, 2**40], [-1, 0.5]),
        (Conv, "quadratic", [0.0, 2], [-0.1, "1"]),
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
