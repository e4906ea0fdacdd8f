from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from ebmcore.errors import InputError, SettingsError
from ebmcore_models.mixture import Mixture

MEANS = [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]]
SDS = [0.4, 1.0, 0.7]
PROPORTIONS = [1.0, 2.0, 5.0]


def grid(model, half=11.0, points=1201):
    """Positions of a square grid and the weight of each, exp(-U) times the area of a cell."""
    line = torch.linspace(-half, half, points, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    return x.numpy(), (torch.exp(-model(x)) * float(line[1] - line[0]) ** 2).numpy()


def test_value_is_minus_the_log_density():
    x = 3 * torch.randn(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logs = [
        math.log(p / 8) + multivariate_normal(m, s**2).logpdf(x.numpy())
        for m, s, p in zip(MEANS, SDS, PROPORTIONS, strict=True)
    ]
    np.testing.assert_allclose(Mixture(MEANS, SDS, PROPORTIONS)(x).numpy(), -logsumexp(logs, axis=0), rtol=1e-11)


@pytest.mark.parametrize(
    "model", [Mixture(MEANS, SDS, PROPORTIONS), Mixture(MEANS, sds=0.5), Mixture(MEANS)], ids=["each", "one sd", "left"]
)
def test_it_integrates_to_one_and_has_its_exact_moments(model):
    """Trapezoids on a grid of 0.018: of an analytic density their error falls below rounding."""
    x, weight = grid(model)
    assert weight.sum() == pytest.approx(1.0, rel=1e-10)
    exact = model.exact_moments()
    mean = weight @ x
    covariance = (x - mean).T @ ((x - mean) * weight[:, None])
    np.testing.assert_allclose(exact["mean"], mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(exact["covariance"], covariance, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(exact["variance"], np.diag(covariance), rtol=1e-9)


def test_proportions_are_normalised():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, other = Mixture(MEANS, SDS, PROPORTIONS), Mixture(MEANS, SDS, [3 * p for p in PROPORTIONS])
    torch.testing.assert_close(one(x), other(x), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(Mixture(MEANS)(x), Mixture(MEANS, 1.0, [2.0, 2.0, 2.0])(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [1e2, 1e6, 1e15])
def test_far_away_the_component_that_decays_slowest_pulls(far, dtype):
    """exp(-|x - m|^2 / 2 s^2) underflows from 14 s on in float32; the widest component has s = 1 and m = (1, 1)."""
    model = Mixture(MEANS, SDS, PROPORTIONS).to(dtype)
    x = far * torch.tensor([[1.0, 0.0], [-0.6, 0.8], [0.0, -1.0]], dtype=dtype)
    delta = x - torch.tensor([1.0, 1.0], dtype=dtype)
    value, gradient = model.value_and_gradient(x)
    torch.testing.assert_close(gradient, delta)
    torch.testing.assert_close(value, 0.5 * delta.square().sum(-1) - math.log(2 / 8) + math.log(2 * math.pi))


def test_the_value_is_infinite_where_a_square_overflows():
    assert Mixture(MEANS).float()(torch.tensor([[1e25, 0.0], [0.0, 0.0]])).isinf().tolist() == [True, False]


def test_the_names_and_shapes_of_its_buffers():
    model = Mixture(MEANS, SDS, PROPORTIONS)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {"means": (3, 2), "precisions": (3,), "offsets": (3,)}
    assert all(value.dtype == torch.float64 for value in model.state_dict().values())
    assert model.shape == copy.deepcopy(model).shape == pickle.loads(pickle.dumps(model)).shape == (2,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"means": []}, "`means` must have a row for each component, each with a coordinate or more; got []. Give"),
        ({"means": [[]]}, "`means` must have a row for each component, each with a coordinate or more; got [[]]. Give"),
        ({"means": [1.0]}, "`means` must have a row for each component, each with a coordinate or more; got [1.0]. G"),
        ({"means": [[1.0], [1.0, 2.0]]}, "`means` must have rows of one length; got [[1.0], [1.0, 2.0]]. Give"),
        ({"means": [[math.inf]]}, "`means` must be finite; got [[inf]]. Replace"),
        ({"means": MEANS, "sds": [1.0]}, "`sds` must have one entry a component, 3 as in `means`; got 1. Give"),
        ({"means": MEANS, "sds": 0.0}, "`sds` must be > 0 and finite; got 0.0. Give"),
        ({"means": MEANS, "sds": [1.0, -2.0, 1.0]}, "`sds` must be > 0 and finite; got [1.0, -2.0, 1.0]. Give"),
        ({"means": MEANS, "sds": math.nan}, "`sds` must be > 0 and finite; got nan. Give"),
        (
            {"means": MEANS, "proportions": [1.0, 2.0]},
            "`proportions` must have one entry a component, 3 as in `means`; got 2. Give",
        ),
        (
            {"means": MEANS, "proportions": [1.0, 0.0, 1.0]},
            "`proportions` must be > 0 and finite; got [1.0, 0.0, 1.0]. Give",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(SettingsError) as caught:
        Mixture(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperature", [0.5, 2])
def test_nothing_is_exact_at_another_temperature(temperature):
    match = rf"^`temperature` must be 1 for what is exact of a mixture; got {temperature}\. Leave it out"
    with pytest.raises(InputError, match=match):
        Mixture(MEANS).exact_moments(temperature)
    with pytest.raises(InputError, match=match):
        Mixture(MEANS).exact_draws(10, temperature=temperature, seed=0)
