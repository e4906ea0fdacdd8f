"""The models of ebmcore-models through `ebm.sample`: laws that stay, the same bits, images, weights, errors."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file

import ebmcore as ebm

MEANS = [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]]
MIXTURE = ebm.use("mixture", means=MEANS, sds=[0.4, 1.0, 0.7], proportions=[1.0, 2.0, 5.0])
CORRELATED = ebm.use("gaussian", mean=[1.0, -2.0], covariance=[[2.0, 0.6], [0.6, 0.5]])
TABLES = {
    "ackley": ebm.use("ackley", dim=3),
    "double_well": ebm.use("double_well", dim=3),
    "gaussian": ebm.use("gaussian", mean=[1.0, -2.0, 0.5], variance=[0.5, 1.0, 2.0]),
    "harmonic": ebm.use("harmonic", k=2.0, dim=3),
    "mixture": MIXTURE,
    "rastrigin": ebm.use("rastrigin", dim=3),
    "rosenbrock": ebm.use("rosenbrock", b=3.0, dim=3),
}


def ula(step_size):
    return ebm.use("ula", step_size=step_size)


def build(table):
    settings = {key: value for key, value in table.items() if key != "use"}
    return ebm.load("model", table["use"])(**settings)


# ------------------------------------------------------------------ laws that stay

CHAINS = 20_000
RUNS = {
    "gaussian": (CORRELATED, 0.02, 200),
    "harmonic": (ebm.use("harmonic", k=3.0, dim=2), 0.02, 100),
    "mixture": (MIXTURE, 0.01, 200),
    "rosenbrock": (ebm.use("rosenbrock"), 1e-5, 400),
}


def observed(x):
    """Return what is averaged, [n, 7]: coordinates, their products, the distance from x_2 = x_1^2 and its square."""
    x = x.double()
    valley = x[:, 1] - x[:, 0] ** 2
    return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2, valley, valley**2], -1)


def first_order_bias(model, x, step_size):
    """Return what ULA adds to the mean of each observable, to first order in the step, from exact draws `x`.

    ULA's stationary law is exp(-U - eps (lap U / 2 - |grad U|^2 / 4)) up to eps^2, so that the mean of f changes by
    -eps Cov(f, lap U / 2 - |grad U|^2 / 4): on k x^2 / 2 that is eps / 2 of E x^2 = 1 / (k (1 - eps k / 2)).
    """
    x = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    columns = [torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    change = (0.5 * sum(columns) - 0.25 * (gradient**2).sum(-1)).detach()
    f = observed(x.detach())
    return -step_size * ((f - f.mean(0)) * (change - change.mean())[:, None]).mean(0)


def deviations(name, temperature):
    """Return how far the observables are from their exact means after a run from exact draws of T = 1.

    In standard errors of the chains and of the 10 times as many draws that the exact means are taken from, beyond the
    bias; a run that is short of equilibrium has a part of the bias, hence the absolute value.
    """
    table, step_size, steps = RUNS[name]
    model = build(table)
    wanted = observed(model.exact_draws(10 * CHAINS, seed=1))
    bias = first_order_bias(model, model.exact_draws(10 * CHAINS, seed=2), step_size)
    result = ebm.sample(
        table,
        ula(step_size),
        init=model.exact_draws(CHAINS, seed=3),
        steps=steps,
        temperature=temperature,
        seed=4,
        precision="float64",
    )
    got = observed(result.final)
    error = got.std(0) * math.sqrt(1.1 / CHAINS)
    return ((got.mean(0) - wanted.mean(0)).abs() - bias.abs()) / error


@pytest.mark.parametrize("name", RUNS)
def test_started_from_exact_draws_the_law_stays(name):
    assert deviations(name, temperature=1.0).max() < 5


@pytest.mark.parametrize("name", RUNS)
def test_started_from_exact_draws_another_law_does_not(name):
    """At T = 1.3 the same check fails: the runs above are long enough, and the bias small enough, to see 30 %."""
    assert deviations(name, temperature=1.3).max() > 5


def test_the_bias_is_that_of_a_gaussian():
    """E x^2 of k = 3 exceeds 1/k by eps/2 = 0.01, to first order; 2 % for the Monte Carlo error of 200,000 draws."""
    table, step_size, _ = RUNS["harmonic"]
    bias = first_order_bias(build(table), build(table).exact_draws(10 * CHAINS, seed=2), step_size)
    assert bias[2] == pytest.approx(0.01, rel=0.02)


def test_rastrigin_in_one_well_matches_quadrature():
    """T = 0.05 and a = 10: the other wells weigh exp(-20), so chains that begin at 0 see all of the law.

    ULA's stiffness is (2 + 4 pi^2 a)/T = 8000 at most: the variance is off by eps k / 2 = 1 % at eps = 2.5e-6,
    beside 5 standard errors of sqrt(2 / (3 * 10,000)).
    """
    model = ebm.use("rastrigin", dim=3)
    exact = build(model).exact_moments(0.05)["variance"]
    result = ebm.sample(
        model, ula(2.5e-6), init=torch.zeros(10_000, 3), steps=300, temperature=0.05, seed=5, precision="float64"
    )
    variance = float((result.final**2).mean())
    assert variance == pytest.approx(exact, rel=0.01 + 5 * math.sqrt(2 / 30_000))


# ------------------------------------------------------------------ the host and the models


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", TABLES)
def test_chunks_do_not_matter_to_closed_forms(name, precision):
    run = {"chains": 961, "steps": 20, "draws": 2, "seed": 7, "precision": precision}
    whole = ebm.sample(TABLES[name], ula(1e-3), executor="serial", chunk_size=961, **run)
    parts = ebm.sample(TABLES[name], ula(1e-3), executor="threads", chunk_size=64, **run)
    assert whole.draws.dtype == getattr(torch, precision)
    assert whole.draws.isfinite().all()
    assert torch.equal(whole.draws, parts.draws)
    compiled = hasattr(build(TABLES[name]), "slope")
    assert whole.provenance["gradient"] == ("polynomial" if compiled else "closed_form")


def test_exact_draws_are_an_init_of_either_precision():
    draws = build(MIXTURE).exact_draws(100, seed=0)
    for precision in ("float32", "float64"):
        result = ebm.sample(MIXTURE, ula(1e-12), init=draws, steps=1, seed=1, precision=precision)
        torch.testing.assert_close(result.final.double(), draws, rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------ images

IMAGES = {"channels": 2, "size": 12, "width": 4, "quadratic": 1.0}
RUN = {"chains": 70, "steps": 5, "seed": 3}


def test_conv_samples_images_and_repeats_them():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = ebm.sample(ebm.use("conv", **IMAGES), ula(0.01), **RUN)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        again = ebm.sample(ebm.use("conv", **IMAGES), ula(0.01), **RUN)
    assert first.final.shape == (70, 2, 12, 12)
    assert first.final.isfinite().all()
    assert torch.equal(first.final, again.final)
    assert first.provenance["gradient"] != "closed_form"
    other = ebm.sample(ebm.use("conv", **IMAGES, seed=1), ula(0.01), **RUN)
    assert not torch.equal(first.final, other.final)


def test_conv_takes_weights_from_a_file(tmp_path):
    save_file(build(ebm.use("conv", **IMAGES, seed=5)).state_dict(), tmp_path / "conv.safetensors")
    from_file = ebm.sample(ebm.use("conv", **IMAGES, weights="conv.safetensors"), ula(0.01), base=tmp_path, **RUN)
    from_seed = ebm.sample(ebm.use("conv", **IMAGES, seed=5), ula(0.01), **RUN)
    assert torch.equal(from_file.final, from_seed.final)
    wider = {**IMAGES, "width": 5}
    with pytest.raises(ebm.InputError, match=r"`weights` must fit the architecture; got .* for 'layers\.0\.bias'"):
        ebm.sample(ebm.use("conv", **wider, weights="conv.safetensors"), ula(0.01), base=tmp_path, **RUN)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (ebm.use("harmonic", k=-1.0), {"shape": 2}, "`k` must be > 0; got -1.0."),
        (ebm.use("harmonic"), {}, "`shape` must be known; got none"),
        (ebm.use("rastrigin", A=5.0), {"shape": 2}, "`A` is not a setting of model 'rastrigin'. Did you mean `a`?"),
        (ebm.use("ackley", b="0.2"), {"shape": 2}, "`b` must be a number; got the string '0.2'."),
        (ebm.use("rosenbrock", dim=1), {}, "`dim` must be >= 2; got 1."),
        (ebm.use("rosenbrock"), {"shape": 3}, "`shape` must be that of the energy, [2]; got [3]."),
        (ebm.use("mixture"), {}, "`means` must be set for model 'mixture'; got nothing."),
        (ebm.use("mixture", means=[]), {}, "`means` must have 1 or more elements; got the list []."),
        (ebm.use("mixture", means=[[1.0], [2.0, 3.0]]), {}, "`means` must have rows of one length; got [[1.0], [2.0,"),
        (ebm.use("mixture", means=MEANS, sds=[1.0, 2.0]), {}, "`sds` must have one entry a component, 3 as in `means`"),
        (ebm.use("mixture", means=MEANS, proportions=[1.0, 2.0, -3.0]), {}, "`proportions` must be > 0 and finite; g"),
        (ebm.use("conv", size=3), {}, "`size` must be >= 4; got 3."),
        (ebm.use("conv", channels=0), {}, "`channels` must be >= 1; got 0."),
    ],
)
def test_mistakes_are_one_line(table, settings, message):
    with pytest.raises(ebm.InputError) as caught:
        ebm.sample(table, ula(0.01), chains=10, steps=1, **settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
