"""Moments in one pass: against numpy, and the same bits whatever the cut, the order and the way of feeding."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcore.protocols import ArraySpec, Block, Chunk, Layout
from ebmcore.reducing import Groups, Reduction
from ebmcore.statistics import Moments

GRAIN, DRAWS = 64, 3


class OneByOne:
    """The same reducer without its way to take many groups at once."""

    def __init__(self):
        moments = Moments()
        self.start, self.update, self.merge, self.finish = moments.start, moments.update, moments.merge, moments.finish


def layout_of(x: torch.Tensor) -> Layout:
    return Layout(len(x), x.shape[1], GRAIN, {"draws": ArraySpec(tuple(x.shape), "float32", ())})


def reduce(reducer, x, cuts, block_draws, order=0):
    """Reduce draws [chains, draws, *shape] in chunks that end at `cuts`, in blocks of some draws, shuffled."""
    layout = layout_of(x)
    chunks = [Chunk(lo, hi, 0, 1) for lo, hi in zip([0, *cuts], [*cuts, len(x)], strict=True)]
    random.Random(order).shuffle(chunks)
    reduction = Reduction(reducer, layout)
    for chunk in chunks:
        groups = Groups(reducer, layout, chunk, DRAWS)
        for first in range(0, x.shape[1], block_draws):
            last = min(first + block_draws, x.shape[1])
            rows = x[chunk.lo : chunk.hi, first:last].contiguous()
            groups.update(Block(chunk.lo, chunk.hi, first, last, {"draws": rows}))
        reduction.add(chunk.lo, chunk.hi, groups.stacked())
    return reduction.finish()


@pytest.mark.parametrize("shape", [(), (2,), (3, 4)])
def test_moments_are_those_of_all_draws(shape):
    x = 5 + 2 * torch.randn(300, 7, *shape, generator=torch.Generator().manual_seed(1))
    reduced = reduce(Moments(), x, [64, 192], 6)
    flat = x.double().numpy().reshape(2100, *shape)
    np.testing.assert_allclose(reduced["mean"], flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(reduced["sd"], flat.std(0, ddof=1), rtol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    x = 1e6 + torch.randn(256, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    sd = float(reduce(Moments(), x, [], 1)["sd"])
    assert abs(sd - float(x.std())) < 1e-9


@settings(max_examples=40, deadline=None)
@given(data=st.data(), chains=st.integers(1, 700), draws=st.integers(1, 10))
def test_the_cut_the_order_and_the_way_of_feeding_do_not_change_a_bit(data, chains, draws):
    x = torch.randn(chains, draws, 2, generator=torch.Generator().manual_seed(chains))
    edges = range(GRAIN, chains, GRAIN)
    cuts = sorted(data.draw(st.sets(st.sampled_from(edges)))) if edges else []
    block = DRAWS * data.draw(st.integers(1, 4))
    whole = reduce(Moments(), x, [], draws if draws % DRAWS == 0 else DRAWS)
    for reducer in (Moments(), OneByOne()):
        other = reduce(reducer, x, cuts, block, order=data.draw(st.integers(0, 9)))
        assert all(torch.equal(whole[key], other[key]) for key in whole)
