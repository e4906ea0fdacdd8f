from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from ebmcore.errors import InputError, SettingsError
from ebmcore_models.gaussian import Gaussian

COVARIANCE = [[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]]
MEAN = [1.0, -2.0, 0.1]


@pytest.mark.parametrize(
    ("settings", "covariance"),
    [
        ({"covariance": COVARIANCE}, COVARIANCE),
        ({"variance": [0.1, 1.0, 30.0]}, np.diag([0.1, 1.0, 30.0])),
        ({"variance": 2.5}, 2.5 * np.eye(3)),
        ({}, np.eye(3)),
    ],
)
def test_value_is_minus_the_log_density(settings, covariance):
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model, law = Gaussian(mean=MEAN, **settings), multivariate_normal(MEAN, covariance)
    wanted = law.logpdf(MEAN) - law.logpdf(x.numpy())
    np.testing.assert_allclose(model(x).numpy(), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_exact_moments_are_the_settings(temperature):
    full = Gaussian(mean=MEAN, covariance=COVARIANCE).exact_moments(temperature)
    np.testing.assert_allclose(full["mean"], MEAN, rtol=1e-15)
    np.testing.assert_allclose(full["covariance"], temperature * np.array(COVARIANCE), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(full["variance"], temperature * np.diag(COVARIANCE), rtol=1e-12)
    diagonal = Gaussian(mean=MEAN, variance=[0.1, 1.0, 30.0]).exact_moments(temperature)
    np.testing.assert_allclose(diagonal["variance"], temperature * np.array([0.1, 1.0, 30.0]), rtol=1e-14)
    free = Gaussian(mean=2.0, variance=3.0).exact_moments(temperature)
    assert free["mean"].shape == free["variance"].shape == ()
    assert float(free["variance"]) == pytest.approx(3 * temperature, rel=1e-14)


def test_exact_moments_against_quadrature_of_the_energy():
    model, temperature = Gaussian(mean=0.7, variance=0.2), 1.7

    def moment(power: int) -> float:
        def weighted(x: float) -> float:
            u = float(model(torch.tensor([x], dtype=torch.float64)))
            return (x - 0.7) ** power * math.exp(-u / temperature)

        return quad(weighted, 0.7 - 8, 0.7 + 8, points=[0.7], epsabs=0, epsrel=1e-11)[0]

    assert moment(2) / moment(0) == pytest.approx(float(model.exact_moments(temperature)["variance"]), rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"dim": 4}, (4,)),
        ({"mean": [1.0, 2.0]}, (2,)),
        ({"variance": [1.0, 2.0]}, (2,)),
        ({"covariance": COVARIANCE}, (3,)),
        ({"mean": 3.0, "covariance": COVARIANCE}, (3,)),
        ({"mean": [0.0] * 3, "covariance": COVARIANCE, "dim": 3}, (3,)),
    ],
)
def test_the_shape_is_that_of_what_was_given(settings, shape):
    model = Gaussian(**settings)
    assert model.shape == shape
    assert model(torch.zeros(5, *shape, dtype=torch.float64)).shape == (5,)
    assert copy.deepcopy(model).shape == pickle.loads(pickle.dumps(model)).shape == shape


def test_without_a_length_any_shape_will_do():
    assert not hasattr(Gaussian(mean=1.0, variance=2.0), "shape")


def test_settings_keep_their_digits_until_the_host_casts():
    """0.1 is not a float32: a float64 run must see all of it."""
    model = Gaussian(mean=[0.1], variance=[0.3])
    assert model.mean.tolist() == [0.1]
    assert model.precision.tolist() == [1 / 0.3]
    assert model.to(torch.float32)(torch.zeros(2, 1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"variance": 1.0, "covariance": COVARIANCE},
            "`variance` must be left out beside `covariance`; got 1.0. Set one",
        ),
        (
            {"mean": [1.0, 2.0], "variance": [1.0]},
            "`variance` must have one entry a coordinate, 2 as in `mean`; got 1. Give",
        ),
        ({"mean": [1.0, 2.0], "dim": 3}, "`mean` must have one entry a coordinate, 3 as in `dim`; got 2. Give"),
        (
            {"covariance": COVARIANCE, "mean": [0.0]},
            "`covariance` must have one entry a coordinate, 1 as in `mean`; got 3. Give",
        ),
        ({"mean": []}, "`mean` must have at least one coordinate; got 0. Leave"),
        ({"variance": -0.5}, "`variance` must be > 0; got -0.5. Give"),
        ({"variance": [1.0, 0.0]}, "`variance` must be > 0; got 0.0. Give"),
        ({"variance": math.inf}, "`variance` must be finite; got inf. Replace"),
        ({"mean": [0.0, math.nan]}, "`mean` must be finite; got [0.0, nan]. Replace"),
        ({"covariance": [[1.0, 2.0]]}, "`covariance` must be square; got shape [1, 2]. Give"),
        (
            {"covariance": [[1.0, 0.0], [0.0]]},
            "`covariance` must have rows of one length; got [[1.0, 0.0], [0.0]]. Give a square",
        ),
        (
            {"covariance": [[1.0, 0.2], [0.3, 1.0]]},
            "`covariance` must be symmetric; got 0.2 in row 0, column 1 and 0.3 across",
        ),
        (
            {"covariance": [[1.0, 2.0], [2.0, 1.0]]},
            "`covariance` must be positive definite; got a smallest eigenvalue of -1. Check",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(SettingsError) as caught:
        Gaussian(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_covariance_symmetric_up_to_rounding_is_taken():
    wobbly = np.array(COVARIANCE)
    wobbly[0, 1] *= 1 + 1e-14
    assert Gaussian(covariance=wobbly.tolist()).shape == (3,)


def test_temperature_must_be_positive():
    with pytest.raises(InputError, match=r"^`temperature` must be > 0; got 0\.0\. Choose"):
        Gaussian().exact_moments(0.0)
