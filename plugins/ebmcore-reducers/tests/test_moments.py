from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebmcore.protocols import ArraySpec, Block, HasGroups, Layout
from ebmcore_reducers.moments import Moments


def layout_of(x):
    return Layout(len(x), x.shape[1], 64, {"draws": ArraySpec(tuple(x.shape), "float32", ())})


def block_of(x):
    return Block(0, len(x), 0, x.shape[1], {"draws": x})


def reduced(reducer, x, sizes):
    """Reduce draws [chains, draws, *shape] cut into groups of some chains each, as a left fold."""
    layout = layout_of(x)
    acc = reducer.start(layout)
    for part in x.split(sizes):
        half = part.shape[1] // 2 or 1
        group = reducer.update(reducer.start(layout), block_of(part[:, :half]))
        if half < part.shape[1]:
            group = reducer.update(group, block_of(part[:, half:]))
        acc = reducer.merge(acc, group)
    return reducer.finish(acc)


def random(shape, seed=1):
    """Draws with correlated coordinates, mean 5 and several scales."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    flat = x.reshape(*shape[:2], -1)
    mixing = torch.randn(flat.shape[2], flat.shape[2], generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return (5 + flat @ mixing).reshape(shape).float()


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_moments_are_numpys(shape, covariance):
    x = random((300, 7, *shape))
    moments = reduced(Moments(covariance=covariance), x, [64, 128, 64, 44])
    rows = x.double().numpy().reshape(2100, *shape)
    np.testing.assert_allclose(moments["mean"], rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments["variance"], rows.var(0, ddof=1), rtol=1e-12)
    assert set(moments) == {"mean", "variance"} | ({"covariance"} if covariance else set())
    if covariance:
        assert moments["covariance"].shape == (*shape, *shape)
        wanted = np.cov(rows.reshape(2100, -1), rowvar=False).reshape(shape * 2)
        np.testing.assert_allclose(moments["covariance"], wanted, rtol=1e-11, atol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    """Sums of squares would leave none of them: (1e8)^2 has rounding errors of 1."""
    x = random((256, 2, 2)).double() + 1e8
    moments = reduced(Moments(covariance=True), x, [100, 156])
    wanted = np.cov((x - 1e8).reshape(512, 2).numpy(), rowvar=False)
    np.testing.assert_allclose(moments["covariance"], wanted, rtol=1e-7)
    np.testing.assert_allclose(moments["variance"], wanted.diagonal(), rtol=1e-7)


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize("shape", [(), (2,), (3, 5)])
@given(groups=st.integers(1, 6), draws=st.integers(1, 5), seed=st.integers(0, 99))
def test_groups_at_once_have_the_bits_of_one_at_a_time(covariance, shape, groups, draws, seed):
    reducer, x = Moments(covariance=covariance), random((groups * 64, 2 * draws, *shape), seed)
    assert isinstance(reducer, HasGroups)
    layout, stacked = layout_of(x), x.reshape(groups, 64, 2 * draws, *shape)
    start = reducer.start(layout)
    together = {name: torch.stack([value] * groups) for name, value in start.items()}
    alone = [start] * groups
    for part in (slice(0, draws), slice(draws, None)):
        together = reducer.update_groups(together, Block(0, len(x), 0, 1, {"draws": stacked[:, :, part]}))
        alone = [reducer.update(acc, block_of(one[:, part])) for acc, one in zip(alone, stacked, strict=True)]
    for index, acc in enumerate(alone):
        assert all(torch.equal(together[name][index], value) for name, value in acc.items())
    folded = start
    for acc in alone:
        folded = reducer.merge(folded, acc)
    at_once = reducer.merge_groups(start, together)
    assert all(torch.equal(at_once[name], value) for name, value in folded.items())


@pytest.mark.parametrize("covariance", [False, True])
def test_accumulators_are_float64_of_one_form(covariance):
    reducer, x = Moments(covariance=covariance), random((70, 2, 3))
    start = reducer.start(layout_of(x))
    after = reducer.update(start, block_of(x))
    merged, empty = reducer.merge(start, after), reducer.merge(start, start)
    for acc in (after, merged, empty):
        assert {name: (value.shape, value.dtype) for name, value in acc.items()} == {
            name: (value.shape, torch.float64) for name, value in start.items()
        }
    assert all(torch.equal(merged[name], after[name]) for name in after)
    assert all(torch.equal(empty[name], start[name]) for name in start)
    assert all(not value.any() for value in start.values()), "what it is given stays as it is"


def test_a_single_draw_has_no_variance():
    moments = reduced(Moments(covariance=True), torch.tensor([[[1.0, 2.0]]]), [1])
    assert moments["mean"].tolist() == [1.0, 2.0]
    assert not moments["variance"].any()
    assert not moments["covariance"].any()


def test_discrete_draws_are_counted():
    x = torch.tensor([[[0, 1]], [[1, 1]], [[1, 1]], [[0, 1]]], dtype=torch.uint8)
    moments = reduced(Moments(), x, [2, 2])
    assert moments["mean"].tolist() == [0.5, 1.0]
    assert moments["variance"].tolist() == [pytest.approx(1 / 3), 0.0]


def test_the_covariance_is_of_use():
    """A Cholesky factor of it whitens the draws: to rounding their covariance is the identity."""
    x = random((5000, 1, 4)).double()
    covariance = reduced(Moments(covariance=True), x, [5000])["covariance"]
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), x[:, 0].T, upper=False)
    torch.testing.assert_close(torch.cov(white), torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-8)


def test_settings_carry_descriptions():
    (covariance,) = dataclasses.fields(Moments)
    assert covariance.default is False
    assert covariance.metadata["description"]
    assert math.isclose(float(reduced(Moments(), torch.ones(3, 1), [3])["mean"]), 1.0)
