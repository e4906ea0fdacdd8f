"""Exact draws of every model that has them: their moments are the exact ones, whatever the temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ebmcore.errors import InputError
from ebmcore_models.gaussian import Gaussian
from ebmcore_models.harmonic import Harmonic
from ebmcore_models.mixture import Mixture
from ebmcore_models.rosenbrock import Rosenbrock

COVARIANCE = [[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]]
MIXTURE = Mixture([[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]], [0.4, 1.0, 0.7], [1.0, 2.0, 5.0])
MODELS = {
    "harmonic": Harmonic(k=2.5, dim=2),
    "gaussian": Gaussian(mean=0.7, variance=0.2, dim=3),
    "gaussian diagonal": Gaussian(mean=[1.0, -2.0, 0.1], variance=[0.1, 1.0, 30.0]),
    "gaussian full": Gaussian(mean=[1.0, -2.0, 0.1], covariance=COVARIANCE),
    "rosenbrock": Rosenbrock(a=0.8, b=5.0),
    "mixture": MIXTURE,
}
CASES = [(name, t) for name in MODELS for t in (1.0, 0.3, 4.0) if name != "mixture" or t == 1.0]
N = 100_000


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_their_moments_are_the_exact_ones(name, temperature):
    """Within 5 standard errors of 100,000 draws: means, and every entry of the covariance."""
    model = MODELS[name]
    x = model.exact_draws(N, temperature=temperature, seed=3).numpy()
    d = x.shape[1]
    exact = model.exact_moments(temperature)
    mean = np.broadcast_to(exact["mean"], (d,))
    covariance = exact.get("covariance", np.diag(np.broadcast_to(exact["variance"], (d,))))
    assert (abs(x.mean(0) - mean) < 5 * x.std(0) / math.sqrt(N)).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert (abs(products.mean(0) - covariance) < 5 * products.std(0) / math.sqrt(N)).all()


@pytest.mark.parametrize(("name", "temperature"), CASES)
def test_the_score_of_the_energy_is_zero_on_them(name, temperature):
    """Integration by parts: E[dU/dx_i] = 0 and E[x_i dU/dx_j] = T delta_ij under exp(-U/T).

    It ties the draws to the energy without using the exact moments.
    """
    model = MODELS[name]
    x = model.exact_draws(N, temperature=temperature, seed=4)
    g = model.gradient(x)
    products = x[:, :, None] * g[:, None, :]
    wanted = temperature * torch.eye(x.shape[1], dtype=torch.float64)
    assert (g.mean(0).abs() < 5 * g.std(0) / math.sqrt(N)).all()
    assert ((products.mean(0) - wanted).abs() < 5 * products.std(0) / math.sqrt(N)).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_them_and_the_global_generator_is_left_alone(name):
    model = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = model.exact_draws(50, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        assert torch.equal(model.exact_draws(50, seed=1), first)
    assert not torch.equal(model.exact_draws(50, seed=2), first)
    assert (first.shape, first.dtype, first.device.type) == ((50, *model.shape), torch.float64, "cpu")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "seed": 1}, "`n` must be a whole number >= 1; got 0. Choose"),
        ({"n": 2.5, "seed": 1}, "`n` must be a whole number >= 1; got 2.5. Choose"),
        ({"n": 5, "seed": -1}, "`seed` must be a whole number >= 0 and < 2**63; got -1. Choose"),
        ({"n": 5, "seed": 0.5}, "`seed` must be a whole number >= 0 and < 2**63; got 0.5. Choose"),
        ({"n": 5, "seed": 1, "temperature": 0.0}, "`temperature` must be > 0; got 0.0. Choose"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(name, arguments, message):
    with pytest.raises(InputError) as caught:
        MODELS[name].exact_draws(**arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [Harmonic(), Gaussian()], ids=["harmonic", "gaussian"])
def test_a_model_of_any_shape_has_to_be_told_one(model):
    with pytest.raises(InputError, match=r"^`dim` must be set for exact draws; got a model of any shape\. Make"):
        model.exact_draws(10, seed=0)
