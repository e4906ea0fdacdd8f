"""MALA: exact laws, reversibility, and the same bits. Tolerances are 5 standard errors, or a p-value as rare."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import ebmcore as ebm
from tests.test_same_bits import ENERGIES, digest

FIVE_SIGMA = 2 * stats.norm.sf(5)
GRID = np.linspace(-4, 4, 200_001)


def well(x):
    return 2 * (x**2 - 1) ** 2


def gaussian(x):
    return 0.5 * x**2 / 0.25


TARGETS = {"double well": well, "gaussian": gaussian}


def cdf_of(u):
    """Return the distribution function of exp(-u) on the line, by quadrature on a fine grid."""
    weight = np.exp(-u(GRID))
    total = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    return total / total[-1]


def exact_draws(u, n, seed):
    return np.interp(np.random.default_rng(seed).random(n), cdf_of(u), GRID)


def p_value(x, u):
    cdf = cdf_of(u)
    return stats.kstest(x, lambda at: np.interp(at, GRID, cdf)).pvalue


def test_the_double_well_matches_quadrature():
    """A third is rejected at this step size, where ULA's chains fly off to infinity.

    From "normal" some chains would begin so far out that their proposals overshoot for ever.
    """
    weight = np.exp(-well(GRID))
    weight /= weight.sum()
    result = ebm.sample(
        ebm.use("double_well", dim=2),
        ebm.use("mala", step_size=0.06),
        chains=40_000,
        init="uniform",
        warmup=150,
        steps=1,
        seed=1,
    )
    x = result.final.double().flatten().numpy()
    for values, exact in ((abs(x), weight @ abs(GRID)), (x**2, weight @ GRID**2)):
        assert abs(values.mean() - exact) < 5 * values.std() / math.sqrt(len(x))
    assert 0.6 < float(result.stats["acceptance_rate"].mean()) < 0.7
    with pytest.raises(ebm.NonFiniteError):
        ebm.sample(
            ebm.use("double_well", dim=2), ebm.use("ula", step_size=0.06), chains=1000, warmup=150, steps=1, seed=1
        )


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize(("target", "step_size"), [("double well", 0.15), ("gaussian", 0.7)])
def test_a_law_stays_when_started_from_exact_draws(target, step_size, temperature):
    """At a step size where about half is rejected. Kolmogorov and Smirnov's test on 60,000 chains."""
    u = TARGETS[target]
    start = exact_draws(lambda x: u(x) / temperature, 60_000, seed=2)
    result = ebm.sample(
        lambda x: u(x).sum(-1),
        ebm.use("mala", step_size=step_size * temperature),
        init=torch.from_numpy(start).float()[:, None],
        steps=6,
        temperature=temperature,
        seed=3,
    )
    assert 0.3 < float(result.stats["acceptance_rate"].mean()) < 0.7
    assert p_value(result.final.double().flatten().numpy(), lambda x: u(x) / temperature) > FIVE_SIGMA
    assert float((result.final.flatten() - torch.from_numpy(start)).abs().mean()) > 0.1, "they moved"


@pytest.mark.parametrize(("target", "step_size"), [("double well", 0.15), ("gaussian", 0.7)])
def test_detailed_balance(target, step_size):
    """In equilibrium E f(x0) g(x1) = E g(x0) f(x1) for any f and g: pairs cannot tell the direction of time."""
    u = TARGETS[target]
    start = exact_draws(u, 100_000, seed=4)
    result = ebm.sample(
        lambda x: u(x).sum(-1),
        ebm.use("mala", step_size=step_size),
        init=torch.from_numpy(start).float()[:, None],
        steps=1,
        seed=5,
    )
    x0, x1 = start, result.final.double().flatten().numpy()
    functions = [np.abs, np.square, lambda x: (x > 0.8).astype(float), lambda x: (np.abs(x) < 0.3).astype(float)]
    for f, g in itertools.combinations(functions, 2):
        difference = f(x0) * g(x1) - g(x0) * f(x1)
        assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(len(x0))


def test_a_hard_wall_is_kept_exactly():
    """U = +inf where x <= 0: the exponential law on the rest."""
    rate = 3.0

    def energy(x):
        return torch.where(x > 0, rate * x, math.inf).sum(-1)

    start = np.random.default_rng(6).exponential(1 / rate, 40_000)
    result = ebm.sample(
        energy, ebm.use("mala", step_size=0.05), init=torch.from_numpy(start).float()[:, None], steps=20, seed=7
    )
    assert (result.final > 0).all()
    assert stats.kstest(result.final.flatten().numpy(), stats.expon(scale=1 / rate).cdf).pvalue > FIVE_SIGMA
    assert result.stats["diverging"].any()


def test_statistics_have_arviz_names_and_are_those_of_the_draws():
    result = ebm.sample(
        ebm.use("double_well", dim=2),
        ebm.use("mala", step_size=0.1),
        chains=100,
        init="uniform",
        steps=40,
        draws=4,
        temperature=2.0,
        seed=1,
    )
    assert set(result.stats) == {"acceptance_rate", "lp", "diverging"}
    value = 2 * ((result.draws.double() ** 2 - 1) ** 2).sum(-1)
    torch.testing.assert_close(result.stats["lp"].double(), -value / 2.0, rtol=1e-5, atol=1e-5)
    rate = result.stats["acceptance_rate"]
    assert ((rate > 0) & (rate <= 1)).all()
    assert result.stats["diverging"].dtype == torch.bool


def test_a_model_without_a_value_is_refused():
    class Score:
        def gradient(self, x):
            return x

    with pytest.raises(ebm.InputError, match="MALA must have the energy's value; got a model with a gradient alone"):
        ebm.sample(Score(), ebm.use("mala", step_size=0.1), chains=10, shape=(2,), steps=1)


# ------------------------------------------------------------------ the same bits


def draw(energy, **settings):
    model, shape = ENERGIES[energy]
    arguments = {"chains": 3001, "shape": shape, "steps": 12, "draws": 3, "seed": 11, **settings}
    return ebm.sample(model, ebm.use("mala", step_size=0.1), **arguments)


@pytest.fixture(scope="module")
def serial():
    return {name: draw(name, executor="serial", chunk_size=3001) for name in ENERGIES}


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [64, 1000, 3001])
def test_executors_workers_and_chunk_sizes_do_not_matter(serial, energy, workers, size):
    result = draw(energy, executor=ebm.use("threads", workers=workers), chunk_size=size)
    assert digest(result) == digest(serial[energy])
    assert 0.05 < float(result.stats["acceptance_rate"].mean()) < 0.99


@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (3, 11, 5)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_sums_over_a_position_do_not_depend_on_the_batch(shape, precision):
    """Sums along rows of many lengths: a chain's accept probability is the same bits in any chunk."""

    def energy(x):
        return (x * x).reshape(len(x), -1).sum(1)

    run = {"chains": 200, "shape": shape, "steps": 5, "seed": 2, "executor": "serial", "precision": precision}
    whole = ebm.sample(energy, ebm.use("mala", step_size=0.02), chunk_size=200, **run)
    parts = ebm.sample(energy, ebm.use("mala", step_size=0.02), chunk_size=64, **run)
    assert digest(whole) == digest(parts)
