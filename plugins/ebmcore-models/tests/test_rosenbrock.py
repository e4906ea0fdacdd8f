from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch

from ebmcore.errors import InputError
from ebmcore_models.rosenbrock import Rosenbrock


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_value_is_the_equation(dim):
    x = 2 * torch.randn(50, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = [sum(7.0 * (q - p * p) ** 2 + (0.4 - p) ** 2 for p, q in itertools.pairwise(row)) for row in x.tolist()]
    torch.testing.assert_close(
        Rosenbrock(a=0.4, b=7.0, dim=dim)(x), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("dim", [2, 3, 36])
def test_the_minimum_is_at_ones(dim):
    model = Rosenbrock(dim=dim)
    assert (model.a, model.b) == (1.0, 100.0)
    assert model(torch.ones(1, dim)).item() == 0
    assert model.gradient(torch.ones(1, dim)).abs().max() == 0


def test_published_values():
    """The classical starting point (-1.2, 1) has U = 24.2; the origin has 1 a term."""
    x = torch.tensor([[-1.2, 1.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(Rosenbrock()(x), torch.tensor([24.2, 1.0], dtype=torch.float64), rtol=1e-13, atol=0)
    # Its gradient there, in textbooks: (-215.6, -88).
    torch.testing.assert_close(
        Rosenbrock().gradient(x[:1]), torch.tensor([[-215.6, -88.0]], dtype=torch.float64), rtol=1e-13, atol=0
    )
    assert Rosenbrock(dim=4)(torch.zeros(1, 4)).item() == 3


@pytest.mark.parametrize(("a", "b"), [(1.0, 100.0), (-0.5, 0.8)])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_exact_moments_against_quadrature_of_the_energy(a, b, temperature):
    """A sheared grid, x_2 = x_1^2 + v, has area 1: 10 standard deviations each way, trapezoids."""
    u = np.linspace(-10, 10, 401) * math.sqrt(temperature / 2) + a
    v = np.linspace(-10, 10, 401) * math.sqrt(temperature / (2 * b))
    x1 = np.repeat(u, len(v))
    x = np.stack([x1, x1**2 + np.tile(v, len(u))], axis=1)
    weight = np.exp(-Rosenbrock(a=a, b=b)(torch.from_numpy(x)).numpy() / temperature)
    weight /= weight.sum()
    mean = weight @ x
    covariance = (x - mean).T @ ((x - mean) * weight[:, None])
    exact = Rosenbrock(a=a, b=b).exact_moments(temperature)
    np.testing.assert_allclose(exact["mean"], mean, rtol=1e-10)
    np.testing.assert_allclose(exact["covariance"], covariance, rtol=1e-9)
    np.testing.assert_allclose(exact["variance"], np.diag(covariance), rtol=1e-9)


@pytest.mark.parametrize("name", ["exact_moments", "exact_draws"])
def test_what_is_exact_is_there_in_two_dimensions_alone(name):
    assert callable(getattr(Rosenbrock(), name))
    with pytest.raises(AttributeError, match=rf"^Rosenbrock has `{name}` for dim = 2 alone; got dim = 3\.$"):
        getattr(Rosenbrock(dim=3), name)
    assert not hasattr(Rosenbrock(dim=3), name)


def test_its_shape_is_dim():
    assert Rosenbrock().shape == (2,)
    assert copy.deepcopy(Rosenbrock(dim=5)).shape == pickle.loads(pickle.dumps(Rosenbrock(dim=5))).shape == (5,)


def test_temperature_must_be_positive():
    with pytest.raises(InputError, match=r"^`temperature` must be > 0; got 0\. Choose"):
        Rosenbrock().exact_moments(0)
