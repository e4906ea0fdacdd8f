"""The reducer `moments` of a run: those of its draws, and the same bits whatever the cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ebmcore as ebm

TARGET = ebm.use("gaussian", mean=[3.0, -1.0], covariance=[[2.0, 0.6], [0.6, 0.5]])


def run(covariance, **settings):
    arguments = {"chains": 3001, "steps": 12, "draws": 4, "seed": 8, **settings}
    reducers = [ebm.use("moments", covariance=covariance)]
    return ebm.sample(TARGET, ebm.use("ula", step_size=0.2), reducers=reducers, **arguments)


@pytest.mark.parametrize("covariance", [False, True])
def test_moments_are_those_of_all_draws(covariance):
    result = run(covariance, chunk_size=640)
    draws = result.draws.double().numpy().reshape(-1, 2)
    moments = result.reduced["moments"]
    np.testing.assert_allclose(moments["mean"], draws.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments["variance"], draws.var(0, ddof=1), rtol=1e-12)
    assert ("covariance" in moments) == covariance
    if covariance:
        np.testing.assert_allclose(moments["covariance"], np.cov(draws, rowvar=False), rtol=1e-11)
    assert result.summary()["reduced"]["moments"]["mean"] == moments["mean"].tolist()


@pytest.mark.parametrize("covariance", [False, True])
def test_executors_workers_and_chunk_sizes_do_not_matter(covariance):
    elementwise = {"init": torch.randn(3001, 3, generator=torch.Generator().manual_seed(1))}
    model = ebm.use("double_well")
    reducers = [ebm.use("moments", covariance=covariance)]

    def moments(**settings):
        result = ebm.sample(
            model,
            ebm.use("ula", step_size=0.001),
            steps=12,
            draws=4,
            seed=8,
            reducers=reducers,
            **elementwise,
            **settings,
        )
        return result.reduced["moments"]

    whole = moments(executor="serial", chunk_size=3001)
    for size in (64, 1000, 3001):
        for workers in (1, 3):
            parts = moments(executor=ebm.use("threads", workers=workers), chunk_size=size)
            assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_a_run_directory_gives_them_again(tmp_path):
    result = run(True, out=tmp_path / "run")
    again = ebm.open_run(tmp_path / "run").reduced["moments"]
    assert all(torch.equal(again[name], value) for name, value in result.reduced["moments"].items())


def test_two_of_one_run_have_names_of_their_own():
    reducers = [ebm.use("moments"), {"use": "moments", "name": "pairs", "covariance": True}]
    result = ebm.sample(TARGET, ebm.use("ula", step_size=0.2), chains=100, steps=2, seed=1, reducers=reducers)
    assert set(result.reduced) >= {"moments", "pairs"}
    assert torch.equal(result.reduced["moments"]["mean"], result.reduced["pairs"]["mean"])
