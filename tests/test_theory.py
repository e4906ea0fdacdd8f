"""Samples against theory: exact stationary laws, quadrature. Tolerances are 5 standard errors of the estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import ebmcore as ebm

CHAINS = 40_000


def second_moment_error(x, exact):
    """Return |mean(x^2) - exact| in standard errors of independent draws."""
    squares = x.double().flatten() ** 2
    return abs(float(squares.mean()) - exact) / (float(squares.std()) / math.sqrt(squares.numel()))


@pytest.mark.parametrize("step_size", [0.05, 0.3, 0.9])
def test_ula_on_a_gaussian_has_the_variance_of_its_recurrence(step_size):
    # x' = (1 - eps k) x + sqrt(2 eps) z is stationary at variance 1 / (k (1 - eps k / 2)), which at these step
    # sizes is up to 1.8 times the target's: sampling the target exactly would fail here.
    stiffness = 2.0
    exact = 1 / (stiffness * (1 - step_size * stiffness / 2))
    result = ebm.sample(
        lambda x: 0.5 * stiffness * (x**2).sum(-1),
        ebm.use("ula", step_size=step_size),
        chains=CHAINS,
        shape=(2,),
        steps=math.ceil(8 / (step_size * stiffness)) + 20,
        seed=3,
    )
    assert second_moment_error(result.final, exact) < 5


def test_temperature_scales_the_variance():
    step_size, temperature = 0.1, 3.0
    exact = temperature / (1 - step_size / (2 * temperature))
    result = ebm.sample(
        lambda x: 0.5 * (x**2).sum(-1),
        ebm.use("ula", step_size=step_size),
        chains=CHAINS,
        shape=(1,),
        steps=400,
        temperature=temperature,
        seed=4,
    )
    assert second_moment_error(result.final, exact) < 5


def test_float64_samples_the_same_law():
    result = ebm.sample(
        ebm.use("gaussian", dim=2),
        ebm.use("ula", step_size=0.5),
        chains=CHAINS,
        steps=40,
        seed=5,
        precision="float64",
    )
    assert result.draws.dtype == torch.float64
    assert second_moment_error(result.final, 1 / 0.75) < 5


def test_ula_on_the_double_well_matches_quadrature_within_its_bias():
    # The well is 2 (x^2 - 1)^2 a coordinate. ULA's bias is of first order in the step size: measured against
    # quadrature it is below 1.5 eps of E x^2 here, so at eps = 0.002 it is allowed 0.003 beside 5 standard errors.
    grid = np.linspace(-4, 4, 200_001)
    weight = np.exp(-2 * (grid**2 - 1) ** 2)
    weight /= weight.sum()
    absolute, square = float((weight * abs(grid)).sum()), float((weight * grid**2).sum())
    step_size = 0.002
    result = ebm.sample(
        ebm.use("double_well", dim=2), ebm.use("ula", step_size=step_size), chains=CHAINS, steps=1500, seed=6
    )
    x = result.final.double().flatten()
    for values, exact in ((x.abs(), absolute), (x**2, square)):
        error = float(values.std()) / math.sqrt(values.numel())
        assert abs(float(values.mean()) - exact) < 5 * error + 1.5 * step_size


def test_a_condition_gives_each_chain_its_own_target():
    centre = torch.linspace(-5, 5, CHAINS)[:, None]
    result = ebm.sample(
        lambda x, *, centre: 0.5 * ((x - centre) ** 2).sum(-1),
        ebm.use("ula", step_size=0.5),
        chains=CHAINS,
        shape=(1,),
        steps=40,
        condition={"centre": centre},
        seed=7,
        chunk_size=1000,
    )
    assert second_moment_error(result.final - centre, 1 / 0.75) < 5


def test_the_summary_states_the_moments_of_the_draws():
    result = ebm.sample(
        ebm.use("gaussian", mean=[3.0, -1.0], variance=[4.0, 0.25]),
        ebm.use("ula", step_size=0.1),
        chains=5000,
        steps=40,
        draws=4,
        seed=8,
    )
    draws = result.draws.double().numpy().reshape(-1, 2)
    summary = result.summary()
    np.testing.assert_allclose(summary["mean"], draws.mean(0), rtol=1e-12)
    np.testing.assert_allclose(summary["sd"], draws.std(0, ddof=1), rtol=1e-12)


def test_chains_that_explode_are_named_not_returned():
    with pytest.raises(ebm.NonFiniteError, match=r"chain \d+ must stay finite; got (nan|-?inf) at step \d+ .*halve it"):
        ebm.sample(lambda x: (x**4).sum(-1), ebm.use("ula", step_size=1.0), chains=100, shape=(2,), steps=300, seed=1)


def test_the_named_chain_and_step_are_the_first_that_fail():
    # A chain of its own grows tenfold a step from 1: it passes float32's 3.4e38 at the 39th step (t = 38).
    def energy(x, *, growth):
        return -0.5 * growth * (x**2).sum(-1)

    growth = torch.zeros(200)
    growth[130] = 0.9
    with pytest.raises(ebm.NonFiniteError, match=r"chain 130 must stay finite; got -?inf at step 38 "):
        ebm.sample(
            energy,
            ebm.use("ula", step_size=10.0, noise_std=0.0),
            init=torch.ones(200, 1),
            steps=300,
            condition={"growth": growth},
            seed=1,
            chunk_size=64,
        )
