"""Where a run ends: at the first mark at which the statistic, taken of the same draws by hand, passes the bound."""

from __future__ import annotations

import math

import pytest
import torch

import ebmcore as ebm
from ebmcore.ending import marks
from ebmcore_observers.early_stop import EarlyStop

CHAINS = 20_000
TWO, ONE = ["cpu:0", "cpu:1"], ["cpu"]


def quadratic(x):
    return 0.5 * x.square().sum(-1)


def run(*observers, **settings):
    arguments = {"chains": CHAINS, "shape": (2,), "init": "normal", "steps": 2, "seed": 5, **settings}
    return ebm.sample(quadratic, ebm.use("ula", step_size=0.1), observers=list(observers), **arguments)


@pytest.mark.parametrize("devices", [ONE, TWO], ids=["one worker", "two workers"])
@pytest.mark.parametrize("chunk_size", [640, "auto"])
def test_it_ends_where_the_standard_error_of_the_mean_says(devices, chunk_size):
    draws = run().final.double()
    wanted = next(c for c in marks(CHAINS, 64) if bool((draws[:c].std(0) / math.sqrt(c) < 0.02).all()))
    result = run(ebm.use("early_stop", bound=0.02), devices=devices, chunk_size=chunk_size)
    assert result.summary()["ended"] == {"reason": "standard_error is below 0.02", "chains_asked": CHAINS}
    assert result.summary()["chains"] == wanted < CHAINS
    assert torch.equal(result.final.double(), draws[:wanted])


def test_the_interval_that_it_leaves_covers_the_mean():
    """The mean is 0; the error is N(0, s^2) with s just below the bound: 5 of them fail once in two million runs."""
    result = run(ebm.use("early_stop", bound=0.02))
    assert bool((result.final.double().mean(0).abs() < 5 * 0.02).all())


def test_a_reducer_of_the_run_and_the_other_side_of_a_bound():
    reducers = [ebm.use("moments")]
    wanted = run(reducers=reducers).reduced["moments"]
    key = next(name for name, value in wanted.items() if value.shape == (2,) and bool((value > 0.5).all()))
    ended = run(ebm.use("early_stop", statistic=f"moments.{key}", bound=0.5, when="above"), reducers=reducers)
    assert ended.summary()["chains"] == next(c for c in marks(CHAINS, 64) if c >= 1000)
    never = run(ebm.use("early_stop", statistic=f"moments.{key}", bound=0.5, when="below"), reducers=reducers)
    assert "ended" not in never.summary()


def test_chains_that_are_run_in_any_case():
    ended = run(ebm.use("early_stop", bound=10.0, at_least=5000))
    assert ended.summary()["chains"] == next(c for c in marks(CHAINS, 64) if c >= 5000)


def test_every_coordinate_must_pass_and_what_is_not_known_does_not():
    def answer(*sd):
        summary = {"chains": 100, "mean": torch.zeros(2), "sd": torch.tensor(sd)}
        return EarlyStop(bound=0.1, at_least=1).ebmcore_should_stop(summary=summary)

    assert answer(0.9, 0.9) == "standard_error is below 0.1"
    assert answer(0.9, 1.1) is None
    assert answer(0.9, float("nan")) is None


@pytest.mark.parametrize("statistic", ["r_hat", "moments.nothing", "mean.x"])
def test_a_statistic_that_the_run_does_not_have_is_said_once_and_the_run_goes_on(statistic):
    table = ebm.use("early_stop", statistic=statistic, bound=1.0)
    with pytest.warns(ebm.EbmcoreWarning, match="must be one of standard_error, mean, sd, moments") as caught:
        result = run(table, reducers=[ebm.use("moments")])
    assert len(caught) == 1
    assert "ended" not in result.summary()
